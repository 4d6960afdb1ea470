//! The tokenizer: one pass over the text, with the error texts of Go's encoding/json.

use std::borrow::Cow;

use super::super::{CodecError, DEPTH_MAX};

type Result<T> = std::result::Result<T, CodecError>;

/// A position in a JSON text.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn skip_space(&mut self) {
        let bytes = self.bytes();
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The first byte of the next token, not consumed.
    pub(super) fn peek(&mut self) -> Result<u8> {
        self.skip_space();
        self.bytes().get(self.at).copied().ok_or_else(end)
    }

    /// `invalid character 'x' <context>` at the current position.
    fn invalid(&self, context: &str) -> CodecError {
        match self.text[self.at..].chars().next() {
            None => end(),
            Some(c) => {
                // Go looks at single bytes, so the first byte of a longer character is shown as Latin-1.
                let c = if c.is_ascii() {
                    c
                } else {
                    char::from(self.bytes()[self.at])
                };
                let shown = match c {
                    '\'' => "'\\''".to_owned(),
                    '"' => "'\"'".to_owned(),
                    '\n' => "'\\n'".to_owned(),
                    '\t' => "'\\t'".to_owned(),
                    '\r' => "'\\r'".to_owned(),
                    '\\' => "'\\\\'".to_owned(),
                    c if c.is_ascii_control() => format!("'\\x{:02x}'", u32::from(c)),
                    c => format!("'{c}'"),
                };
                CodecError::Syntax(format!("invalid character {shown} {context}"))
            }
        }
    }

    /// Nothing but space may follow the value.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.skip_space();
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(self.invalid("after top-level value"))
        }
    }

    /// Consumes `{` or `[`.
    pub(super) fn enter(&mut self) -> Result<()> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            Err(CodecError::TooDeep)
        } else {
            Ok(())
        }
    }

    /// The next key of the object that was entered, with its colon consumed; none at its end.
    pub(super) fn next_key(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>> {
        let is_first = std::mem::take(first);
        match self.peek()? {
            b'}' => {
                self.at += 1;
                self.depth -= 1;
                return Ok(None);
            }
            b',' if !is_first => {
                self.at += 1;
                self.skip_space();
            }
            _ if !is_first => return Err(self.invalid("after object key:value pair")),
            _ => {}
        }
        if self.bytes().get(self.at) != Some(&b'"') {
            return Err(self.invalid("looking for beginning of object key string"));
        }
        let key = self.string()?;
        if self.peek()? != b':' {
            return Err(self.invalid("after object key"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Whether the array that was entered has one more element.
    pub(super) fn next_element(&mut self, first: &mut bool) -> Result<bool> {
        let is_first = std::mem::take(first);
        match self.peek()? {
            b']' => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            b',' if !is_first => {
                self.at += 1;
                Ok(true)
            }
            _ if is_first => Ok(true),
            _ => Err(self.invalid("after array element")),
        }
    }

    /// Consumes `null`, `true` or `false`.
    pub(super) fn literal(&mut self, word: &'static str) -> Result<()> {
        for expected in word.bytes() {
            if self.bytes().get(self.at) != Some(&expected) {
                return Err(self.invalid(&format!("in literal {word} (expecting '{}')", char::from(expected))));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// The error of a token that starts no value.
    pub(super) fn no_value(&self) -> CodecError {
        self.invalid("looking for beginning of value")
    }

    /// Consumes a number and gives its text.
    pub(super) fn number(&mut self) -> Result<&'a str> {
        let start = self.at;
        if self.bytes()[self.at] == b'-' {
            self.at += 1;
        }
        match self.bytes().get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits("in numeric literal")?,
        }
        if self.bytes().get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.bytes().get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes().get(self.at) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self, context: &str) -> Result<()> {
        let count = self.bytes()[self.at..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        self.at += count;
        if count == 0 { Err(self.invalid(context)) } else { Ok(()) }
    }

    /// Consumes a string and gives its value.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        self.plain();
        match self.bytes().get(self.at) {
            Some(b'"') => {
                self.at += 1;
                Ok(Cow::Borrowed(&self.text[start..self.at - 1]))
            }
            Some(b'\\') => self.escaped_string(start).map(Cow::Owned),
            _ => Err(self.invalid("in string literal")),
        }
    }

    /// Moves to the next byte that is not plain text.
    fn plain(&mut self) {
        let rest = &self.bytes()[self.at..];
        self.at += rest
            .iter()
            .position(|&b| b == b'"' || b == b'\\' || b < 0x20)
            .unwrap_or(rest.len());
    }

    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<String> {
        let mut out = self.text[start..self.at].to_owned();
        loop {
            match self.bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                _ => return Err(self.invalid("in string literal")),
            }
            let from = self.at;
            self.plain();
            out.push_str(&self.text[from..self.at]);
        }
    }

    fn escape(&mut self) -> Result<char> {
        let c = match self.bytes().get(self.at) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(&c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.invalid("in string escape code")),
        };
        self.at += 1;
        Ok(c)
    }

    /// The four digits after `\u`, and the second half of a surrogate pair. A lone half becomes U+FFFD, as in Go.
    fn unicode(&mut self) -> Result<char> {
        let high = self.hex4()?;
        if (0xd800..0xdc00).contains(&high) && self.bytes()[self.at..].starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            let low = self.hex4()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.bytes().get(self.at).and_then(|b| char::from(*b).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.invalid("in \\u hexadecimal character escape"))?;
            self.at += 1;
        }
        Ok(code)
    }

    /// Consumes a value of any kind and forgets it.
    pub(super) fn skip(&mut self) -> Result<()> {
        match self.peek()? {
            b'{' => {
                self.enter()?;
                let mut first = true;
                while self.next_key(&mut first)?.is_some() {
                    self.skip()?;
                }
                Ok(())
            }
            b'[' => {
                self.enter()?;
                let mut first = true;
                while self.next_element(&mut first)? {
                    self.skip()?;
                }
                Ok(())
            }
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b'n' => self.literal("null"),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            _ => Err(self.no_value()),
        }
    }

    /// Consumes a value and gives its text.
    pub(super) fn raw(&mut self) -> Result<&'a str> {
        self.skip_space();
        let start = self.at;
        self.skip()?;
        Ok(&self.text[start..self.at])
    }
}

fn end() -> CodecError {
    CodecError::Syntax("unexpected end of JSON input".to_owned())
}
