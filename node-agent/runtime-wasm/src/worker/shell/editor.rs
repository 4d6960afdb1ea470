//! The prompt's line editor: bytes of the client's terminal in, what to show out. Pure.
//!
//! A line longer than the terminal is shown in a window that follows the cursor. Every character counts as one column.

/// Longest line that can be typed.
const LINE_CHARS_MAX: usize = 4096;
/// Lines that the arrows go back to.
const HISTORY_MAX: usize = 100;
/// Longest escape sequence that is looked at.
const ESCAPE_MAX: usize = 8;

/// What the bytes amounted to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Line(String),
    /// Ctrl-C: the line is dropped.
    Interrupt,
    /// Ctrl-D on an empty line.
    End,
}

#[derive(Default)]
pub(super) struct Editor {
    prompt: String,
    line: Vec<char>,
    /// Between 0 and the line's length.
    cursor: usize,
    history: Vec<String>,
    /// Where the arrows are in it; its length = the line that is being typed.
    at: usize,
    /// Kept while the arrows are elsewhere.
    typed: Vec<char>,
    /// Bytes of an escape sequence or of a character so far.
    pending: Vec<u8>,
}

impl Editor {
    /// Begins a line.
    pub(super) fn begin(&mut self, prompt: &str, out: &mut String) {
        prompt.clone_into(&mut self.prompt);
        self.line.clear();
        self.cursor = 0;
        self.at = self.history.len();
        self.pending.clear();
        out.push_str(prompt);
    }

    /// Takes one byte; what to show is appended to `out`. `width` is the terminal's.
    pub(super) fn feed(&mut self, byte: u8, width: usize, out: &mut String) -> Option<Typed> {
        if self.pending.first() == Some(&0x1b) {
            self.escape(byte);
        } else if byte == 0x1b || byte >= 0x80 || !self.pending.is_empty() {
            self.multi_byte(byte);
        } else {
            match byte {
                b'\r' | b'\n' => return Some(self.enter(out)),
                0x03 => {
                    out.push_str("^C\r\n");
                    return Some(Typed::Interrupt);
                }
                0x04 if self.line.is_empty() => {
                    out.push_str("\r\n");
                    return Some(Typed::End);
                }
                0x04 => self.delete(),
                0x7f | 0x08 => self.backspace(),
                0x01 => self.cursor = 0,
                0x05 => self.cursor = self.line.len(),
                0x02 => self.left(),
                0x06 => self.right(),
                0x0b => self.line.truncate(self.cursor),
                0x15 => {
                    self.line.drain(..self.cursor);
                    self.cursor = 0;
                }
                0x17 => self.delete_word(),
                0x0c => out.push_str("\x1b[H\x1b[2J"),
                0x10 => self.go(-1),
                0x0e => self.go(1),
                b' '..=b'~' => self.insert(char::from(byte)),
                _ => return None,
            }
        }
        self.show(width, out);
        None
    }

    fn enter(&mut self, out: &mut String) -> Typed {
        out.push_str("\r\n");
        let line: String = self.line.iter().collect();
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            if self.history.len() == HISTORY_MAX {
                self.history.remove(0);
            }
            self.history.push(line.clone());
        }
        Typed::Line(line)
    }

    fn multi_byte(&mut self, byte: u8) {
        self.pending.push(byte);
        if byte == 0x1b {
            self.pending = vec![byte];
        } else if let Ok(text) = std::str::from_utf8(&self.pending) {
            let typed: Vec<char> = text.chars().collect();
            self.pending.clear();
            typed.into_iter().for_each(|c| self.insert(c));
        } else if self.pending.len() >= 4 {
            self.pending.clear();
        }
    }

    fn escape(&mut self, byte: u8) {
        self.pending.push(byte);
        let sequence = &self.pending[1..];
        match sequence {
            b"[A" | b"OA" => self.go(-1),
            b"[B" | b"OB" => self.go(1),
            b"[C" | b"OC" => self.right(),
            b"[D" | b"OD" => self.left(),
            b"[H" | b"OH" | b"[1~" | b"[7~" => self.cursor = 0,
            b"[F" | b"OF" | b"[4~" | b"[8~" => self.cursor = self.line.len(),
            b"[3~" => self.delete(),
            // One byte behind the first ends most of them; a parameter asks for more.
            b"[" | b"O" => return,
            [b'[', .., b'0'..=b'9' | b';'] if sequence.len() < ESCAPE_MAX => return,
            _ => {}
        }
        self.pending.clear();
    }

    fn insert(&mut self, c: char) {
        if self.line.len() < LINE_CHARS_MAX && !c.is_control() {
            self.line.insert(self.cursor, c);
            self.cursor += 1;
        }
    }

    fn backspace(&mut self) {
        if self.cursor > 0 {
            self.cursor -= 1;
            self.line.remove(self.cursor);
        }
    }

    fn delete(&mut self) {
        if self.cursor < self.line.len() {
            self.line.remove(self.cursor);
        }
    }

    fn delete_word(&mut self) {
        let before = &self.line[..self.cursor];
        let trimmed = before.iter().rposition(|c| *c != ' ').map_or(0, |at| at + 1);
        let start = before[..trimmed].iter().rposition(|c| *c == ' ').map_or(0, |at| at + 1);
        self.line.drain(start..self.cursor);
        self.cursor = start;
    }

    fn left(&mut self) {
        self.cursor = self.cursor.saturating_sub(1);
    }

    fn right(&mut self) {
        self.cursor = (self.cursor + 1).min(self.line.len());
    }

    fn go(&mut self, by: isize) {
        let Some(to) = self.at.checked_add_signed(by).filter(|to| *to <= self.history.len()) else {
            return;
        };
        if self.at == self.history.len() {
            self.typed = std::mem::take(&mut self.line);
        }
        self.line = match self.history.get(to) {
            Some(line) => line.chars().collect(),
            None => std::mem::take(&mut self.typed),
        };
        self.at = to;
        self.cursor = self.line.len();
    }

    /// Draws the line anew: what fits behind the prompt, around the cursor.
    fn show(&self, width: usize, out: &mut String) {
        use std::fmt::Write;
        let prompt = self.prompt.chars().count();
        let room = width.saturating_sub(prompt + 1).max(8);
        let start = self.cursor.saturating_sub(room);
        let shown: String = self.line[start..].iter().take(room).collect();
        let back = shown.chars().count() - (self.cursor - start);
        out.push('\r');
        out.push_str(&self.prompt);
        out.push_str(&shown);
        out.push_str("\x1b[K");
        if back > 0 {
            let _ = write!(out, "\x1b[{back}D");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types bytes into a line; returns what came of them.
    fn type_in(editor: &mut Editor, bytes: &[u8]) -> Vec<Typed> {
        let mut out = String::new();
        editor.begin("$ ", &mut out);
        let typed = bytes.iter().filter_map(|byte| {
            let typed = editor.feed(*byte, 80, &mut out);
            if typed.is_some() {
                editor.begin("$ ", &mut out);
            }
            typed
        });
        typed.collect()
    }

    fn line(bytes: &[u8]) -> String {
        match &type_in(&mut Editor::default(), &[bytes, b"\r"].concat())[..] {
            [Typed::Line(line)] => line.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_are_edited() {
        assert_eq!(line(b"echo hallo\x7f\x7fp"), "echo halp");
        assert_eq!(line(b"cho x\x01e\x05y"), "echo xy");
        assert_eq!(line(b"ac\x1b[Db\x1b[C\x1bOCd"), "abcd");
        assert_eq!(line(b"one two  \x17three"), "one three");
        assert_eq!(line(b"gone\x15here\x01\x0b"), "");
        assert_eq!(line(b"abc\x1b[H\x1b[3~\x04"), "c");
        assert_eq!(line("é☃\x7fö".as_bytes()), "éö");
        assert_eq!(line(b"a\x1b[1;5Cb\x1b[200~c\x00\x07"), "abc");
        assert_eq!(line(b"\x1b[99999999999A\xff\xfe\xfd\xfcx"), "9999Ax");
    }

    #[test]
    fn arrows_go_through_the_history_and_come_back() {
        let mut editor = Editor::default();
        let typed = type_in(
            &mut editor,
            b"one\rtwo\rtwo\rnew\x1b[A\x1b[A\r\x1b[A\x1b[A\x1b[Bx\x1b[B\x1b[B!\r",
        );
        let lines: Vec<_> = typed
            .into_iter()
            .filter_map(|t| if let Typed::Line(l) = t { Some(l) } else { None })
            .collect();
        assert_eq!(lines, ["one", "two", "two", "one", "!"]);
    }

    #[test]
    fn control_keys_end_and_interrupt() {
        assert_eq!(
            type_in(&mut Editor::default(), b"ab\x03\x04"),
            [Typed::Interrupt, Typed::End]
        );
    }

    #[test]
    fn the_line_is_bounded_and_so_is_what_is_shown() {
        let mut editor = Editor::default();
        let mut out = String::new();
        editor.begin("$ ", &mut out);
        for _ in 0..10_000 {
            out.clear();
            editor.feed(b'x', 20, &mut out);
            assert!(out.len() < 40);
        }
        assert_eq!(editor.line.len(), LINE_CHARS_MAX);
        out.clear();
        editor.feed(0x02, 20, &mut out);
        assert_eq!(out, format!("\r$ {}\x1b[K", "x".repeat(17)));
    }
}
