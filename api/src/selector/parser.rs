//! The grammar of label selector texts, with Kubernetes' error texts.

use super::{LabelSelector, Operator, Requirement, SELECTOR_BYTES_MAX, SelectorError, check_key};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    End,
    Identifier,
    In,
    NotIn,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    Comma,
    Open,
    Close,
}

pub(super) fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
    if text.len() > SELECTOR_BYTES_MAX {
        return Err(SelectorError(format!(
            "selector is longer than {SELECTOR_BYTES_MAX} bytes"
        )));
    }
    LabelSelector::new(Parser { rest: text }.selector().map_err(SelectorError)?)
}

struct Parser<'a> {
    rest: &'a str,
}

/// Where `in` and `notin` are words of the language and not names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Operator,
    Value,
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek(Place::Value) {
                (Token::Identifier | Token::Not, _) => {
                    let requirement = self
                        .requirement()
                        .map_err(|e| format!("unable to parse requirement: {e}"))?;
                    requirements.push(requirement);
                }
                (Token::End, _) => return Ok(requirements),
                (_, found) => return Err(format!("found '{found}', expected: !, identifier, or 'end of string'")),
            }
            match self.next(Place::Value) {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => {
                    let (token, found) = self.peek(Place::Value);
                    if !matches!(token, Token::Identifier | Token::Not) {
                        return Err(format!("found '{found}', expected: identifier after ','"));
                    }
                }
                (_, found) => return Err(format!("found '{found}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut found) = self.next(Place::Value);
        let absent = token == Token::Not;
        if absent {
            (token, found) = self.next(Place::Value);
        }
        if token != Token::Identifier {
            return Err(format!("found '{found}', expected: identifier"));
        }
        let key = found;
        check_key("<nil>", key).map_err(|error| error.0)?;
        if absent {
            return make(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(Place::Value).0, Token::End | Token::Comma) {
            return make(key, Operator::Exists, Vec::new());
        }
        let operator = match self.next(Place::Operator) {
            (Token::In, _) => Operator::In,
            (Token::NotIn, _) => Operator::NotIn,
            (Token::Equals, _) => Operator::Equals,
            (Token::DoubleEquals, _) => Operator::DoubleEquals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (_, found) => return Err(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.set()?,
            _ => self.exact_value()?,
        };
        make(key, operator, values)
    }

    fn exact_value(&mut self) -> Result<Vec<String>, String> {
        if matches!(self.peek(Place::Value).0, Token::End | Token::Comma) {
            return Ok(vec![String::new()]);
        }
        match self.next(Place::Value) {
            (Token::Identifier, value) => Ok(vec![value.to_owned()]),
            (_, found) => Err(format!("found '{found}', expected: identifier")),
        }
    }

    /// `(a,b)`; two commas in a row, or one at an edge, stand for the empty value.
    fn set(&mut self) -> Result<Vec<String>, String> {
        let (token, found) = self.next(Place::Value);
        if token != Token::Open {
            return Err(format!("found '{found}' expected: '('"));
        }
        match self.peek(Place::Value) {
            (Token::Identifier | Token::Comma, _) => {}
            (Token::Close, _) => {
                self.next(Place::Value);
                return Ok(vec![String::new()]);
            }
            (_, found) => return Err(format!("found '{found}', expected: ',', ')' or identifier")),
        }
        let mut values: Vec<String> = Vec::new();
        loop {
            match self.next(Place::Value) {
                (Token::Identifier, value) => {
                    values.push(value.to_owned());
                    match self.peek(Place::Value) {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => break,
                        (_, found) => return Err(format!("found '{found}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    match self.peek(Place::Value).0 {
                        Token::Close => {
                            values.push(String::new());
                            break;
                        }
                        Token::Comma => {
                            self.next(Place::Value);
                            values.push(String::new());
                        }
                        _ => {}
                    }
                }
                (_, found) => return Err(format!("found '{found}', expected: ',', or identifier")),
            }
        }
        match self.next(Place::Value) {
            (Token::Close, _) => Ok(values),
            (_, found) => Err(format!("found '{found}', expected: ')'")),
        }
    }

    fn peek(&self, place: Place) -> (Token, &'a str) {
        Parser { rest: self.rest }.next(place)
    }

    fn next(&mut self, place: Place) -> (Token, &'a str) {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let is_special = |c: char| "=!(),><".contains(c);
        let is_space = |c: char| " \t\r\n".contains(c);
        let (token, length) = match text.as_bytes() {
            [] => (Token::End, 0),
            [b'=', b'=', ..] => (Token::DoubleEquals, 2),
            [b'=', ..] => (Token::Equals, 1),
            [b'!', b'=', ..] => (Token::NotEquals, 2),
            [b'!', ..] => (Token::Not, 1),
            [b'(', ..] => (Token::Open, 1),
            [b')', ..] => (Token::Close, 1),
            [b',', ..] => (Token::Comma, 1),
            [b'>', ..] => (Token::Greater, 1),
            [b'<', ..] => (Token::Less, 1),
            _ => {
                let length = text.find(|c| is_special(c) || is_space(c)).unwrap_or(text.len());
                let token = match (&text[..length], place) {
                    ("in", Place::Operator) => Token::In,
                    ("notin", Place::Operator) => Token::NotIn,
                    _ => Token::Identifier,
                };
                (token, length)
            }
        };
        let (found, rest) = text.split_at(length);
        self.rest = rest;
        (token, found)
    }
}

fn make(key: &str, operator: Operator, values: Vec<String>) -> Result<Requirement, String> {
    Requirement::new(key.to_owned(), operator, values).map_err(|error| error.0)
}
