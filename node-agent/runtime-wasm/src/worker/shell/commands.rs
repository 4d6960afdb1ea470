//! The list of commands.

use std::io::Write;

use super::console::Io;
use super::{Context, Failure, INTERRUPTED, Outcome, archive, dirs, look, table, text};

/// One command of the shell.
pub(super) struct Command {
    names: &'static [&'static str],
    arguments: &'static str,
    does: &'static str,
    run: fn(&mut Context, &[String], &mut Io) -> Outcome,
}

const fn command(
    names: &'static [&'static str],
    arguments: &'static str,
    does: &'static str,
    run: fn(&mut Context, &[String], &mut Io) -> Outcome,
) -> Command {
    Command {
        names,
        arguments,
        does,
        run,
    }
}

/// In the order of `help`.
const COMMANDS: &[Command] = &[
    command(&["help"], "", "this list", help),
    command(
        &["ps"],
        "",
        "containers of the pod; instances and requests that run",
        look::ps,
    ),
    command(&["top"], "[-n TIMES] [-d SECONDS]", "CPU and memory in use", look::top),
    command(&["limits"], "", "every limit, and how much of it is used", look::limits),
    command(
        &["memory", "maps"],
        "",
        "memories and tables of the instances",
        look::memory,
    ),
    command(&["stack", "bt"], "", "where the guest's code is just now", look::stack),
    command(&["handles", "lsof"], "", "open files and sockets", look::handles),
    command(&["imports"], "[INTERFACE]", "what the module needs", look::imports),
    command(&["exports"], "[INTERFACE]", "what the module offers", look::exports),
    command(&["env", "printenv"], "[NAME]", "the guest's environment", text::env),
    command(&["ls"], "[-l] [-a] [PATH]...", "list files of the mounts", dirs::ls),
    command(&["cat"], "[FILE]...", "show files, or stdin", text::cat),
    command(
        &["head"],
        "[-n LINES] [-c BYTES] [FILE]",
        "the start of a file",
        text::head,
    ),
    command(
        &["tail"],
        "[-n LINES] [-c [+]BYTES] [FILE]",
        "the end of a file",
        text::tail,
    ),
    command(&["stat"], "PATH...", "what a file is", dirs::stat),
    command(&["df"], "", "space of the mounts", dirs::df),
    command(&["cd"], "[DIR]", "change the directory", dirs::cd),
    command(&["pwd"], "", "the directory", dirs::pwd),
    command(&["mkdir"], "[-p] DIR...", "make directories", dirs::mkdir),
    command(&["rm"], "[-r] [-f] PATH...", "remove files", dirs::rm),
    command(
        &["echo"],
        "[-n] [WORD]...",
        "say words; > and >> write them to a file",
        text::echo,
    ),
    command(
        &["tar"],
        "c|x|t [-f FILE] [-C DIR] [PATH]...",
        "pack and unpack files (kubectl cp)",
        archive::tar,
    ),
    command(
        &["test", "["],
        "-e|-f|-d|-s|-z|-n WORD, A = B, A != B",
        "exit code 0 if it is so",
        text::test,
    ),
    command(&["hostname"], "", "the pod's host name", look::hostname),
    command(&["id"], "", "who the files are accessed as", look::id),
    command(&["date"], "[+FORMAT]", "the time, UTC", look::date),
    command(&["true", ":"], "", "exit code 0", |_, _, _| Ok(0)),
    command(&["false"], "", "exit code 1", |_, _, _| Ok(1)),
    command(&["exit"], "[CODE]", "leave the shell", exit),
];

/// Where programs are expected that we have by name.
const DIRECTORIES: &[&str] = &["/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/", "/usr/local/bin/"];

/// A program's name without one of the usual directories.
pub(super) fn base_name(program: &str) -> &str {
    let name = DIRECTORIES.iter().find_map(|directory| program.strip_prefix(directory));
    name.filter(|name| !name.contains('/')).unwrap_or(program)
}

pub(super) fn is_shell(name: &str) -> bool {
    ["sh", "bash", "ash"].contains(&name)
}

pub(super) fn find(program: &str) -> Option<&'static Command> {
    let name = base_name(program);
    COMMANDS.iter().find(|command| command.names.contains(&name))
}

/// Runs a command; returns its exit code, having told what went wrong.
pub(super) fn perform(context: &mut Context, command: &Command, args: &[String], io: &mut Io) -> i32 {
    let outcome = (command.run)(context, args, io).and_then(|code| {
        io.stdout.flush()?;
        Ok(code)
    });
    let name = command.names[0];
    let (why, code) = match outcome {
        Ok(code) => return code,
        Err(Failure::Broken) => return INTERRUPTED,
        Err(Failure::Told(why)) => (table::shown(&why), 1),
        Err(Failure::Usage(why)) => (
            format!("{}\nusage: {name} {}", table::shown(&why), command.arguments),
            2,
        ),
    };
    let _ = io.stdout.flush();
    match writeln!(io.stderr, "{name}: {why}") {
        Ok(()) => code,
        Err(_) => INTERRUPTED,
    }
}

fn help(_: &mut Context, _: &[String], io: &mut Io) -> Outcome {
    writeln!(
        io.stdout,
        "A WebAssembly pod has no programs in it. This shell runs beside the guest and shows what it is and does.\n"
    )?;
    let rows = COMMANDS.iter().map(|command| {
        let name = command.names.join(", ");
        vec![
            format!("{name} {}", command.arguments).trim_end().to_owned(),
            command.does.to_owned(),
        ]
    });
    table::write(&mut io.stdout, &[], &rows.collect::<Vec<_>>())?;
    writeln!(
        io.stdout,
        "\nLines take 'quotes', $NAME, ; && || | < > >> 2> 2>&1. `kubectl exec POD -- debug IMAGE [ARG]...` runs\nanother command component in the guest's place: same files, environment, network and limits."
    )?;
    Ok(0)
}

fn exit(context: &mut Context, args: &[String], _: &mut Io) -> Outcome {
    let code = match args.first() {
        None => context.last,
        Some(code) => code
            .parse()
            .map_err(|_| Failure::Usage(format!("{code}: not a number")))?,
    };
    // As the kernel keeps it.
    context.exit = Some(code & 0xff);
    Ok(code & 0xff)
}
