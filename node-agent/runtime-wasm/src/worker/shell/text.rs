//! Commands over text: `echo`, `cat`, `head`, `tail`, `env`, `test`.

use std::collections::VecDeque;
use std::io::{Read, Write};

use super::console::Io;
use super::files::{Kind, absolute};
use super::{Context, Failure, Outcome};

/// Bytes read and written at once.
pub(super) const CHUNK: usize = 16 << 10;
/// What `tail` keeps of an endless line or of many lines.
const TAIL_BYTES_MAX: usize = 1 << 20;

pub(super) fn echo(_: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    let (words, end) = match args {
        [flag, words @ ..] if flag == "-n" => (words, ""),
        words => (words, "\n"),
    };
    write!(io.stdout, "{}{end}", words.join(" "))?;
    Ok(0)
}

pub(super) fn env(context: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    let env = context.facts.env();
    match args {
        [] => {
            for (name, value) in env {
                writeln!(io.stdout, "{name}={value}")?;
            }
            Ok(0)
        }
        [wanted] => match env.iter().rev().find(|(name, _)| name == wanted) {
            Some((_, value)) => {
                writeln!(io.stdout, "{value}")?;
                Ok(0)
            }
            None => Ok(1),
        },
        _ => Err(Failure::Usage("one NAME at most".into())),
    }
}

impl Context {
    pub(super) fn path(&self, path: &str) -> String {
        absolute(&self.directory, path)
    }

    /// A file opened for reading; `-` = stdin.
    fn open<'a>(&self, path: &str, io: &'a mut Io) -> Result<Box<dyn Read + Send + 'a>, Failure> {
        if path == "-" {
            return Ok(Box::new(&mut io.stdin));
        }
        match self.files.read(&self.path(path)) {
            Ok(file) => Ok(Box::new(file)),
            Err(why) => Err(Failure::Told(format!("{path}: {why}"))),
        }
    }

    /// Copies to the end. A read that fails is told with the file's name.
    pub(super) fn copy(&self, path: &str, from: &mut dyn Read, to: &mut dyn Write) -> Result<(), Failure> {
        let mut chunk = vec![0; CHUNK];
        loop {
            if self.console.is_cancelled() {
                return Err(Failure::Broken);
            }
            match from.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    to.write_all(&chunk[..count])?;
                    // Who types wants to see it.
                    to.flush()?;
                }
                Err(error) => return Err(Failure::Told(format!("{path}: {}", super::files::reason(&error)))),
            }
        }
    }
}

/// `io` apart: stdin to read while stdout is written.
fn with_input(
    context: &Context,
    path: &str,
    io: &mut Io,
    act: impl FnOnce(&mut dyn Read, &mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut out = std::mem::replace(&mut io.stdout, Box::new(std::io::sink()));
    let result = context.open(path, io).and_then(|mut file| act(&mut *file, &mut *out));
    io.stdout = out;
    result
}

pub(super) fn cat(context: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    if let Some(flag) = args.iter().find(|arg| arg.starts_with('-') && arg.len() > 1) {
        return Err(Failure::Usage(format!("unknown option {flag}")));
    }
    let stdin = ["-".to_owned()];
    let mut code = 0;
    for path in if args.is_empty() { &stdin } else { args } {
        match with_input(context, path, io, |from, to| context.copy(path, from, to)) {
            // One missing file does not keep us from the next.
            Err(Failure::Told(why)) => {
                io.stdout.flush()?;
                writeln!(io.stderr, "cat: {why}")?;
                code = 1;
            }
            result => result?,
        }
    }
    Ok(code)
}

/// What `head` and `tail` are to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount {
    Lines(u64),
    Bytes(u64),
    /// `tail -c +N`: from the Nth byte on.
    FromByte(u64),
    FromLine(u64),
}

fn amount(args: &[String]) -> Result<(Amount, &str), Failure> {
    let mut amount = Amount::Lines(10);
    let mut path = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(flag) = arg.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            if path.replace(arg.as_str()).is_some() {
                return Err(Failure::Usage("one FILE at most".into()));
            }
            continue;
        };
        let (kind, joined) = match flag.as_bytes()[0] {
            b'n' | b'c' => flag.split_at(1),
            b'0'..=b'9' => ("n", flag),
            _ => return Err(Failure::Usage(format!("unknown option {arg}"))),
        };
        let number = match joined {
            "" => args.next().map(String::as_str).unwrap_or_default(),
            joined => joined,
        };
        let (from, digits) = match number.strip_prefix('+') {
            Some(digits) => (true, digits),
            None => (false, number),
        };
        let count = digits
            .parse()
            .map_err(|_| Failure::Usage(format!("{number:?} is not a number")))?;
        amount = match (kind, from) {
            ("n", false) => Amount::Lines(count),
            ("n", true) => Amount::FromLine(count),
            (_, false) => Amount::Bytes(count),
            (_, true) => Amount::FromByte(count),
        };
    }
    Ok((amount, path.unwrap_or("-")))
}

pub(super) fn head(context: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    let (amount, path) = amount(args)?;
    with_input(context, path, io, |from, to| {
        let mut left = match amount {
            Amount::Lines(count) | Amount::Bytes(count) => count,
            Amount::FromByte(_) | Amount::FromLine(_) => return Err(Failure::Usage("+ is for tail".into())),
        };
        let mut chunk = vec![0; CHUNK];
        while left > 0 && !context.console.is_cancelled() {
            let count = from.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            let chunk = &chunk[..count];
            let end = match amount {
                Amount::Bytes(_) => {
                    let end = count.min(usize::try_from(left).unwrap_or(usize::MAX));
                    left -= end as u64;
                    end
                }
                _ => {
                    let mut ends = chunk
                        .iter()
                        .enumerate()
                        .filter(|(_, byte)| **byte == b'\n')
                        .map(|(at, _)| at + 1);
                    let last = usize::try_from(left - 1).ok().and_then(|nth| ends.clone().nth(nth));
                    left -= last.map_or(ends.by_ref().count() as u64, |_| left);
                    last.unwrap_or(count)
                }
            };
            to.write_all(&chunk[..end])?;
        }
        Ok(())
    })?;
    Ok(0)
}

pub(super) fn tail(context: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    let (amount, path) = amount(args)?;
    let mut cut = false;
    with_input(context, path, io, |from, to| {
        match amount {
            Amount::FromByte(first) => {
                skip(context, from, first.saturating_sub(1), None)?;
                return context.copy(path, from, to);
            }
            Amount::FromLine(first) => {
                let rest = skip(context, from, first.saturating_sub(1), Some(b'\n'))?;
                to.write_all(&rest)?;
                return context.copy(path, from, to);
            }
            Amount::Lines(_) | Amount::Bytes(_) => {}
        }
        let mut kept = VecDeque::with_capacity(CHUNK);
        let mut chunk = vec![0; CHUNK];
        let bytes_max = match amount {
            Amount::Bytes(count) => usize::try_from(count).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        loop {
            if context.console.is_cancelled() {
                return Err(Failure::Broken);
            }
            let count = from.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            kept.extend(&chunk[..count]);
            cut |= kept.len() > TAIL_BYTES_MAX && bytes_max > TAIL_BYTES_MAX;
            kept.drain(..kept.len().saturating_sub(bytes_max.min(TAIL_BYTES_MAX)));
        }
        let kept = kept.make_contiguous();
        let start = match amount {
            Amount::Lines(count) => last_lines(kept, count),
            _ => 0,
        };
        cut &= start == 0;
        to.write_all(&kept[start..])?;
        Ok(())
    })?;
    if cut {
        io.stdout.flush()?;
        writeln!(io.stderr, "tail: only the last {TAIL_BYTES_MAX} bytes are shown")?;
    }
    Ok(0)
}

/// Where the last `count` lines begin.
fn last_lines(text: &[u8], count: u64) -> usize {
    let Some(before) = usize::try_from(count).ok().and_then(|count| count.checked_sub(1)) else {
        return if count == 0 { text.len() } else { 0 };
    };
    let end = text.len() - usize::from(text.last() == Some(&b'\n'));
    let mut ends = text[..end].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    ends.nth(before).map_or(0, |(at, _)| at + 1)
}

/// Reads `count` bytes, or units that `end` ends, and returns what was read behind them.
fn skip(context: &Context, from: &mut dyn Read, mut count: u64, end: Option<u8>) -> Result<Vec<u8>, Failure> {
    let mut chunk = vec![0; CHUNK];
    while count > 0 {
        if context.console.is_cancelled() {
            return Err(Failure::Broken);
        }
        let most = match end {
            None => CHUNK.min(usize::try_from(count).unwrap_or(CHUNK)),
            Some(_) => CHUNK,
        };
        let got = from.read(&mut chunk[..most])?;
        if got == 0 {
            break;
        }
        let Some(end) = end else {
            count -= got as u64;
            continue;
        };
        for (at, byte) in chunk[..got].iter().enumerate() {
            count -= u64::from(*byte == end);
            if count == 0 {
                return Ok(chunk[at + 1..got].to_vec());
            }
        }
    }
    Ok(Vec::new())
}

/// `test -d PATH`, which `kubectl cp` asks first, and its like.
pub(super) fn test(context: &mut Context, args: &[String], _: &mut Io) -> Outcome {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut args = args.strip_suffix(&["]"]).unwrap_or(&args);
    let mut wanted = true;
    // `!` alone is a word, and `! = x` compares it.
    while let ["!", rest @ ..] = args
        && !matches!(rest, [] | ["=" | "!=", _])
    {
        (args, wanted) = (rest, !wanted);
    }
    let about = |path: &str| context.files.about(&context.path(path), true).ok();
    let holds = match args {
        [] => false,
        [word] => !word.is_empty(),
        ["-e", path] => about(path).is_some(),
        ["-f", path] => about(path).is_some_and(|about| about.kind == Kind::File),
        ["-d", path] => about(path).is_some_and(|about| about.kind == Kind::Dir),
        ["-s", path] => about(path).is_some_and(|about| about.size > 0),
        ["-z", word] => word.is_empty(),
        ["-n", word] => !word.is_empty(),
        [a, "=", b] => a == b,
        [a, "!=", b] => a != b,
        _ => return Err(Failure::Usage("not understood".into())),
    };
    Ok(i32::from(holds != wanted))
}
