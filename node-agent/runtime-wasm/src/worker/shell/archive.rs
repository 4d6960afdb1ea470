//! `tar`: what `kubectl cp` runs in the pod, both ways.
//!
//! Read on: [`pack`] · [`unpack`].

use std::io::{Read, Write};

use super::console::Io;
use super::files::Writing;
use super::{Context, Failure, Outcome};

mod pack;
mod unpack;

/// Unit of the format: headers are one, data is padded to it.
const BLOCK: usize = 512;
/// Longest name in an archive: the kernel's longest path.
const NAME_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Pack,
    Unpack,
    List,
}

#[derive(Debug, PartialEq, Eq)]
struct Task<'a> {
    act: Act,
    /// `-` = stdin or stdout.
    file: &'a str,
    directory: &'a str,
    verbose: bool,
    /// Permission bits exactly as the archive says (root's default, as `tar` has it), not less what a umask of 022 takes.
    keep_modes: bool,
    paths: Vec<&'a str>,
}

/// As GNU tar takes them; the first word needs no dash. Errors: an option that is not known here.
fn parse(args: &[String]) -> Result<Task<'_>, Failure> {
    let usage = |why: String| Failure::Usage(why);
    let (mut act, mut verbose, mut keep_modes) = (None, false, true);
    let (mut file, mut directory, mut paths) = ("-", ".", Vec::new());
    let mut rest = args.iter().map(String::as_str);
    let mut first = true;
    while let Some(arg) = rest.next() {
        if let Some(long) = arg.strip_prefix("--") {
            match long {
                "no-same-permissions" => keep_modes = false,
                "no-same-owner" | "no-overwrite-dir" | "touch" => {}
                "same-permissions" | "preserve-permissions" => keep_modes = true,
                "" => paths.extend(rest.by_ref()),
                _ => return Err(usage(format!("unknown option {arg}"))),
            }
        } else if let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()).or(first.then_some(arg)) {
            let mut letters = letters.char_indices();
            while let Some((at, letter)) = letters.next() {
                let set = match letter {
                    'c' => Act::Pack,
                    'x' => Act::Unpack,
                    't' => Act::List,
                    // Times are never restored, owners cannot be.
                    'm' | 'o' => continue,
                    'p' => {
                        keep_modes = true;
                        continue;
                    }
                    'v' => {
                        verbose = true;
                        continue;
                    }
                    'f' | 'C' => {
                        // `-fFILE`; in a cluster such as `xmf` the value is the next word.
                        let joined = letters.as_str();
                        let joined = (arg.starts_with('-') && at == 0 && !joined.is_empty()).then_some(joined);
                        if joined.is_some() {
                            letters = "".char_indices();
                        }
                        let value = joined.or_else(|| rest.next());
                        let value = value.ok_or_else(|| usage(format!("-{letter} needs a value")))?;
                        *(if letter == 'f' { &mut file } else { &mut directory }) = value;
                        continue;
                    }
                    'z' | 'j' | 'J' => return Err(usage("archives are not compressed here".into())),
                    _ => return Err(usage(format!("unknown option -{letter}"))),
                };
                if act.replace(set).is_some_and(|before| before != set) {
                    return Err(usage("one of c, x and t".into()));
                }
            }
        } else {
            paths.push(arg);
        }
        first = false;
    }
    Ok(Task {
        act: act.ok_or_else(|| usage("one of c, x and t".into()))?,
        file,
        directory,
        verbose,
        keep_modes,
        paths,
    })
}

pub(super) fn tar(context: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    let task = parse(args)?;
    let told = |path: &str| {
        let path = path.to_owned();
        move |why| Failure::Told(format!("{path}: {why}"))
    };
    let full = context.path(task.directory);
    if task.act == Act::Pack {
        if task.paths.is_empty() {
            return Err(Failure::Usage("nothing to pack".into()));
        }
        let mut file: Box<dyn Write + Send> = match task.file {
            "-" => std::mem::replace(&mut io.stdout, Box::new(std::io::sink())),
            path => context
                .create(&context.path(path), Writing::Truncate)
                .map_err(told(path))?,
        };
        return pack::pack(context, &task, &full, &mut *file, &mut *io.stderr);
    }
    let mut file: Box<dyn Read + Send> = match task.file {
        "-" => std::mem::replace(&mut io.stdin, Box::new(std::io::empty())),
        path => Box::new(context.files.read(&context.path(path)).map_err(told(path))?),
    };
    unpack::unpack(context, &task, &full, &mut *file, io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(line: &str) -> Result<String, String> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match parse(&args) {
            Ok(task) => Ok(format!(
                "{:?} {} in {} {:?}{}",
                task.act,
                task.file,
                task.directory,
                task.paths,
                if task.keep_modes { "" } else { " plain" }
            )),
            Err(Failure::Usage(why)) => Err(why),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn kubectls_words_are_understood() {
        let ok = |line: &str| task(line).expect(line);
        assert_eq!(ok("cf - /data/x"), r#"Pack - in . ["/data/x"]"#);
        assert_eq!(ok("-xmf - -C /data"), "Unpack - in /data []");
        assert_eq!(ok("xmf - -C /data"), "Unpack - in /data []");
        assert_eq!(
            ok("--no-same-permissions --no-same-owner -xmf -"),
            "Unpack - in . [] plain"
        );
        assert_eq!(ok("--no-same-permissions -xpf -"), "Unpack - in . []");
        assert_eq!(ok("-c -fout -C/d a -- -b"), r#"Pack out in /d ["a", "-b"]"#);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for line in ["", "f -", "xc", "xzf -", "x --to-command=sh", "xf", "-q", "-I sh -xf -"] {
            assert!(task(line).is_err(), "{line}");
        }
    }
}
