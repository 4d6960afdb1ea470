//! Command lines: words, quotes, variables, `;` `&&` `||` `|`, redirections. A small part of what POSIX has; what is not
//! understood is an error, never a guess.

/// One command with its redirections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) words: Vec<String>,
    pub(super) input: Option<String>,
    pub(super) output: Option<Output>,
    pub(super) errors: Option<Errors>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) path: String,
    pub(super) append: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Errors {
    /// `2>&1`
    ToOutput,
    To(Output),
}

/// When a pipeline runs, by the exit code of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    Succeeded,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pipeline {
    pub(super) when: When,
    pub(super) commands: Vec<Command>,
}

enum Token {
    Word(String),
    /// `;`, `&&`, `||`, `|`, `<`, `>`, `>>`, `2>`, `2>>`, `2>&1`
    Operator(&'static str),
}

/// Longest first.
const OPERATORS: &[&str] = &["2>&1", "2>>", "2>", "&&", "||", ">>", ">", "<", "|", ";", "\n"];

/// What the values of all variables of a script may add up to: a name of two bytes may stand for a megabyte.
const EXPANDED_BYTES_MAX: usize = 1 << 20;

/// The values of variables, until they add up to too much.
struct Values<'a> {
    lookup: &'a dyn Fn(&str) -> String,
    left: usize,
}

impl Values<'_> {
    fn of(&mut self, name: &str) -> Result<String, String> {
        let value = (self.lookup)(name);
        let left = self.left.checked_sub(value.len());
        self.left = left.ok_or_else(|| format!("variables expand to more than {EXPANDED_BYTES_MAX} bytes"))?;
        Ok(value)
    }
}

/// Reads a script; variables are replaced by `lookup`. Errors: what is wrong with it, for a human.
pub(super) fn parse(text: &str, lookup: &dyn Fn(&str) -> String) -> Result<Vec<Pipeline>, String> {
    let mut pipelines = Vec::new();
    let (mut when, mut commands, mut command) = (When::Always, Vec::new(), Command::default());
    let mut values = Values {
        lookup,
        left: EXPANDED_BYTES_MAX,
    };
    let mut tokens = tokens(text, &mut values)?.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let operator = match token {
            Token::Word(word) => {
                command.words.push(word);
                continue;
            }
            Token::Operator(operator) => operator,
        };
        let missing = || format!("syntax error near unexpected token `{}'", operator.escape_debug());
        match operator {
            "2>&1" => command.errors = Some(Errors::ToOutput),
            "<" | ">" | ">>" | "2>" | "2>>" => {
                let Some(Token::Word(path)) = tokens.next() else {
                    return Err(missing());
                };
                let append = operator.ends_with(">>");
                match operator {
                    "<" => command.input = Some(path),
                    ">" | ">>" => command.output = Some(Output { path, append }),
                    _ => command.errors = Some(Errors::To(Output { path, append })),
                }
            }
            "|" => {
                if command.words.is_empty() || tokens.peek().is_none() {
                    return Err(missing());
                }
                commands.push(std::mem::take(&mut command));
            }
            _ => {
                let ended = std::mem::take(&mut command);
                if ended != Command::default() {
                    commands.push(ended);
                } else if !commands.is_empty() || operator.len() == 2 {
                    return Err(missing());
                }
                if !commands.is_empty() {
                    pipelines.push(Pipeline {
                        when,
                        commands: std::mem::take(&mut commands),
                    });
                    when = When::Always;
                }
                match operator {
                    "&&" => when = When::Succeeded,
                    "||" => when = When::Failed,
                    _ => {}
                }
            }
        }
    }
    if command != Command::default() {
        commands.push(command);
    } else if !commands.is_empty() || when != When::Always {
        return Err("syntax error: unexpected end of file".into());
    }
    if !commands.is_empty() {
        pipelines.push(Pipeline { when, commands });
    }
    Ok(pipelines)
}

fn tokens(text: &str, values: &mut Values<'_>) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        // `2>` only where a word begins: in `a2>x` the 2 belongs to the word.
        let operator = OPERATORS
            .iter()
            .find(|operator| rest.starts_with(**operator) && (word.is_none() || !operator.starts_with('2')));
        if let Some(operator) = operator {
            tokens.extend(word.take().map(Token::Word));
            tokens.push(Token::Operator(operator));
            rest = &rest[operator.len()..];
            continue;
        }
        rest = &rest[first.len_utf8()..];
        match first {
            ' ' | '\t' | '\r' => tokens.extend(word.take().map(Token::Word)),
            '#' if word.is_none() => rest = rest.find('\n').map_or("", |end| &rest[end..]),
            '&' => return Err("commands cannot run in the background here".into()),
            '(' | ')' | '`' => return Err(format!("syntax error near unexpected token `{first}'")),
            '\\' => {
                let next = rest.chars().next();
                rest = &rest[next.map_or(0, char::len_utf8)..];
                if next != Some('\n') {
                    word.get_or_insert_default().extend(next);
                }
            }
            '\'' => {
                let end = rest.find('\'').ok_or("syntax error: unterminated quoted string")?;
                word.get_or_insert_default().push_str(&rest[..end]);
                rest = &rest[end + 1..];
            }
            '"' => rest = double_quoted(rest, word.get_or_insert_default(), values)?,
            '$' => {
                let value;
                (value, rest) = variable(rest, values)?;
                // Not split into words: a value is one word, as if it were quoted.
                word.get_or_insert_default().push_str(&value);
            }
            _ => word.get_or_insert_default().push(first),
        }
    }
    tokens.extend(word.map(Token::Word));
    Ok(tokens)
}

/// Behind the opening quote; returns what follows the closing one.
fn double_quoted<'a>(mut rest: &'a str, word: &mut String, values: &mut Values<'_>) -> Result<&'a str, String> {
    loop {
        let first = rest.chars().next().ok_or("syntax error: unterminated quoted string")?;
        rest = &rest[first.len_utf8()..];
        match first {
            '"' => return Ok(rest),
            '\\' => match rest.chars().next() {
                Some(next @ ('"' | '\\' | '$' | '`')) => {
                    word.push(next);
                    rest = &rest[1..];
                }
                _ => word.push('\\'),
            },
            '$' => {
                let value;
                (value, rest) = variable(rest, values)?;
                word.push_str(&value);
            }
            '`' => return Err("syntax error near unexpected token ``'".into()),
            _ => word.push(first),
        }
    }
}

/// Behind the `$`; returns the value and what follows the name.
fn variable<'a>(rest: &'a str, values: &mut Values<'_>) -> Result<(String, &'a str), String> {
    if let Some(braced) = rest.strip_prefix('{') {
        let end = braced.find('}').ok_or("syntax error: unterminated ${")?;
        let name = &braced[..end];
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        return match plain || name == "?" {
            true => Ok((values.of(name)?, &braced[end + 1..])),
            false => Err(format!("${{{name}}}: bad substitution")),
        };
    }
    if let Some(rest) = rest.strip_prefix('?') {
        return Ok((values.of("?")?, rest));
    }
    if rest.starts_with('(') {
        return Err("syntax error near unexpected token `('".into());
    }
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(rest.len());
    match end {
        0 => Ok(("$".into(), rest)),
        _ => Ok((values.of(&rest[..end])?, &rest[end..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        let lookup = |name: &str| format!("<{name}>");
        let commands = parse(text, &lookup).expect(text).into_iter().flat_map(|p| p.commands);
        commands.map(|command| command.words).collect()
    }

    fn error(text: &str) -> String {
        parse(text, &|_| String::new()).expect_err(text)
    }

    #[test]
    fn words_quotes_and_variables() {
        assert_eq!(
            words("  echo a\\ b 'c  $d' \"e $f\\\"\" ${g}h $? # i"),
            [["echo", "a b", "c  $d", "e <f>\"", "<g>h", "<?>"]]
        );
        assert_eq!(words("a;b\nc || d"), [["a"], ["b"], ["c"], ["d"]]);
        assert_eq!(words("echo '' \"\""), [["echo", "", ""]]);
        assert_eq!(words("echo ☃ $ é"), [["echo", "☃", "$", "é"]]);
        assert!(words(" \n ; # nothing").is_empty());
    }

    #[test]
    fn what_variables_expand_to_is_bounded() {
        let lookup = |_: &str| "v".repeat(EXPANDED_BYTES_MAX / 4);
        assert!(parse("echo $A$B \"$C\"; echo ${D}", &lookup).is_ok());
        for text in ["$A$A$A$A$A", "$A \"$A$A\"; $A; ${A}", "a < $A$A > $A$A | $A"] {
            assert_eq!(
                parse(text, &lookup),
                Err("variables expand to more than 1048576 bytes".into()),
                "{text}"
            );
        }
    }

    #[test]
    fn pipes_and_redirections() {
        let found = parse(
            "tar cf - /data 2>/dev/null | tail -c+5 >> out && echo 2>&1 x2>y",
            &|_| String::new(),
        );
        let found = found.expect("parsed");
        assert_eq!(
            (found.len(), found[0].commands.len(), found[1].when),
            (2, 2, When::Succeeded)
        );
        let [tar, tail] = &found[0].commands[..] else { panic!() };
        assert_eq!(
            tar.errors,
            Some(Errors::To(Output {
                path: "/dev/null".into(),
                append: false
            }))
        );
        assert_eq!(
            tail.output,
            Some(Output {
                path: "out".into(),
                append: true
            })
        );
        let echo = &found[1].commands[0];
        assert_eq!(
            (&echo.words[..], &echo.errors),
            (&["echo".to_owned(), "x2".into()][..], &Some(Errors::ToOutput))
        );
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "a |",
            "| a",
            "a && ",
            "&& a",
            "a > ",
            "sleep 1 &",
            "$(x)",
            "`x`",
            "'x",
            "\"x",
            "${x:-y}",
            "(a)",
            "a > | b",
        ] {
            assert!(!error(text).is_empty(), "{text}");
        }
    }
}
