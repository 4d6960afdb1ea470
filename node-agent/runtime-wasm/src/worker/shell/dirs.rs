//! Commands over directories: `ls`, `stat`, `df`, `cd`, `pwd`, `mkdir`, `rm`.

use std::io::Write;

use super::console::Io;
use super::files::{About, DEPTH_MAX, ENTRIES_MAX, Kind, absolute};
use super::table::{self, bytes, shown};
use super::{Context, Failure, Outcome};

/// Options of one letter, and the other arguments. Errors: a letter that is not `known`.
pub(super) fn options<'a>(args: &'a [String], known: &str) -> Result<(String, Vec<&'a str>), Failure> {
    let (mut found, mut rest) = (String::new(), Vec::new());
    let mut only_paths = false;
    for arg in args {
        match arg
            .strip_prefix('-')
            .filter(|letters| !letters.is_empty() && !only_paths)
        {
            Some("-") => only_paths = true,
            Some(letters) => match letters.chars().find(|letter| !known.contains(*letter)) {
                Some(_) => return Err(Failure::Usage(format!("unknown option {arg}"))),
                None => found.push_str(letters),
            },
            None => rest.push(arg.as_str()),
        }
    }
    Ok((found, rest))
}

/// `drwxr-xr-x`
fn mode(about: &About) -> String {
    let kind = match about.kind {
        Kind::File => '-',
        Kind::Dir => 'd',
        Kind::Link => 'l',
        Kind::Other => '?',
    };
    let bits = (0..9).map(|n| match about.mode >> (8 - n) & 1 {
        0 => '-',
        _ => ['r', 'w', 'x'][n % 3],
    });
    std::iter::once(kind).chain(bits).collect()
}

fn time(seconds: i64, format: &str) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime(format).to_string()
}

pub(super) fn ls(context: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    let (options, paths) = options(args, "la1hF")?;
    let (long, all) = (options.contains('l'), options.contains('a'));
    let paths = if paths.is_empty() { vec!["."] } else { paths };
    let mut code = 0;
    for (n, path) in paths.iter().enumerate() {
        let full = context.path(path);
        let listed = context.files.about(&full, !long).and_then(|about| match about.kind {
            Kind::Dir => context.files.list(&full).map(|(entries, more)| {
                let entries = entries.into_iter().map(|entry| (entry.name, entry.about));
                (entries.collect(), more, true)
            }),
            _ => Ok((vec![((*path).to_owned(), about)], false, false)),
        });
        let (entries, more, is_dir): (Vec<(String, About)>, bool, bool) = match listed {
            Ok(listed) => listed,
            Err(why) => {
                io.stdout.flush()?;
                writeln!(io.stderr, "ls: {path}: {why}")?;
                code = 1;
                continue;
            }
        };
        if paths.len() > 1 && is_dir {
            writeln!(io.stdout, "{}{path}:", if n > 0 { "\n" } else { "" })?;
        }
        let visible = entries
            .iter()
            .filter(|(name, _)| all || !name.starts_with('.') || !is_dir);
        if long {
            let row = |(name, about): &(String, About)| {
                let link = match about.kind {
                    Kind::Link => {
                        let at = if is_dir { absolute(&full, name) } else { full.clone() };
                        context
                            .files
                            .link_target(&at)
                            .map(|to| format!(" -> {}", shown(&to)))
                            .unwrap_or_default()
                    }
                    _ => String::new(),
                };
                let size = format!("{:>10}", about.size);
                vec![
                    mode(about),
                    size,
                    time(about.modified, "%b %e %H:%M"),
                    shown(name) + &link,
                ]
            };
            table::write(&mut io.stdout, &[], &visible.map(row).collect::<Vec<_>>())?;
        } else {
            for (name, _) in visible {
                writeln!(io.stdout, "{}", shown(name))?;
            }
        }
        if more {
            io.stdout.flush()?;
            writeln!(io.stderr, "ls: {path}: only {ENTRIES_MAX} entries are shown")?;
        }
    }
    Ok(code)
}

pub(super) fn stat(context: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    if args.is_empty() {
        return Err(Failure::Usage("missing PATH".into()));
    }
    for path in args {
        let about = context.files.about(&context.path(path), false);
        let about = about.map_err(|why| Failure::Told(format!("{path}: {why}")))?;
        let kind = match about.kind {
            Kind::File => "regular file",
            Kind::Dir => "directory",
            Kind::Link => "symbolic link",
            Kind::Other => "special file",
        };
        writeln!(io.stdout, "  File: {}\n  Size: {}\t{kind}", shown(path), about.size)?;
        writeln!(io.stdout, " Inode: {}\tLinks: {}", about.inode, about.links)?;
        writeln!(io.stdout, "Access: {:04o}/{}", about.mode, mode(&about))?;
        writeln!(io.stdout, "Modify: {}", time(about.modified, "%Y-%m-%d %H:%M:%S +0000"))?;
    }
    Ok(0)
}

pub(super) fn df(context: &mut Context, _: &[String], io: &mut Io) -> Outcome {
    let row = |space: super::files::Space| {
        let used = space.total.saturating_sub(space.free);
        let percent = (used * 100).checked_div(space.total).unwrap_or(0);
        let how = if space.read_only { "ro" } else { "rw" };
        let sizes = [space.total, used, space.free].map(bytes);
        [&sizes[..], &[format!("{percent}%"), how.to_owned(), space.path]].concat()
    };
    let rows: Vec<_> = context.files.spaces().into_iter().map(row).collect();
    table::write(
        &mut io.stdout,
        &["SIZE", "USED", "AVAILABLE", "USE%", "MODE", "MOUNTED ON"],
        &rows,
    )?;
    if let Some(room) = context.facts.room() {
        writeln!(
            io.stdout,
            "\nThe ephemeral storage limit leaves {} to be written.",
            bytes(room)
        )?;
    }
    Ok(0)
}

pub(super) fn cd(context: &mut Context, args: &[String], _: &mut Io) -> Outcome {
    let path = args.first().map_or("/", String::as_str);
    let full = context.path(path);
    match context.files.about(&full, true) {
        Ok(about) if about.kind == Kind::Dir => {
            context.directory = full;
            Ok(0)
        }
        Ok(_) => Err(Failure::Told(format!("{path}: Not a directory"))),
        Err(why) => Err(Failure::Told(format!("{path}: {why}"))),
    }
}

pub(super) fn pwd(context: &mut Context, _: &[String], io: &mut Io) -> Outcome {
    writeln!(io.stdout, "{}", context.directory)?;
    Ok(0)
}

impl Context {
    /// Makes a directory and those above it, where they are missing.
    pub(super) fn make_dirs(&self, full: &str) -> Result<(), String> {
        if full.matches('/').count() > DEPTH_MAX {
            return Err("File name too long".into());
        }
        let ends = full.match_indices('/').map(|(at, _)| at).skip(1);
        for end in ends.chain([full.len()]) {
            let path = &full[..end];
            match self.files.about(path, true) {
                Ok(about) if about.kind == Kind::Dir => {}
                Ok(_) => return Err("Not a directory".into()),
                Err(_) => self.files.make_dir(path)?,
            }
        }
        Ok(())
    }
}

pub(super) fn mkdir(context: &mut Context, args: &[String], _: &mut Io) -> Outcome {
    let (options, paths) = options(args, "p")?;
    if paths.is_empty() {
        return Err(Failure::Usage("missing DIR".into()));
    }
    for path in paths {
        let full = context.path(path);
        let made = match options.contains('p') {
            true => context.make_dirs(&full),
            false => context.files.make_dir(&full),
        };
        made.map_err(|why| Failure::Told(format!("{path}: {why}")))?;
    }
    Ok(0)
}

pub(super) fn rm(context: &mut Context, args: &[String], _: &mut Io) -> Outcome {
    let (options, paths) = options(args, "rRf")?;
    let (recursive, force) = (options.contains(['r', 'R']), options.contains('f'));
    if paths.is_empty() && !force {
        return Err(Failure::Usage("missing PATH".into()));
    }
    for path in paths {
        let full = context.path(path);
        let told = |why: String| Failure::Told(format!("{path}: {why}"));
        match context.files.about(&full, false) {
            Err(_) if force => {}
            Err(why) => return Err(told(why)),
            Ok(about) if about.kind == Kind::Dir && !recursive => return Err(told("Is a directory".into())),
            Ok(about) if about.kind == Kind::Dir => remove_tree(context, &full, 0)?,
            Ok(_) => context.files.remove(&full, false).map_err(told)?,
        }
    }
    Ok(0)
}

fn remove_tree(context: &Context, path: &str, depth: usize) -> Result<(), Failure> {
    let told = |why: String| Failure::Told(format!("{path}: {why}"));
    if depth > DEPTH_MAX {
        return Err(told("directories are nested too deeply".into()));
    }
    loop {
        let (entries, more) = context.files.list(path).map_err(told)?;
        for entry in entries {
            if context.console.is_cancelled() {
                return Err(Failure::Broken);
            }
            let below = absolute(path, &entry.name);
            match entry.about.kind {
                Kind::Dir => remove_tree(context, &below, depth + 1)?,
                _ => context
                    .files
                    .remove(&below, false)
                    .map_err(|why| Failure::Told(format!("{below}: {why}")))?,
            }
        }
        if !more {
            break;
        }
    }
    context.files.remove(path, true).map_err(told)
}
