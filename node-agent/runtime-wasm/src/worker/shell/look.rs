//! Commands that look at the module and at what runs: `ps`, `top`, `limits`, `memory`, `stack`, `handles`, `imports`, …

use std::io::Write;
use std::time::Duration;

use super::console::Io;
use super::facts::InstanceRow;
use super::table::{self, bytes, cpu, duration, shown};
use super::{Context, Failure, Outcome};

/// How often and how long `top` looks unless told.
const TOP_TIMES: u32 = 1;
const TOP_SECONDS: f64 = 1.0;
/// Longest interval: a figure behind it is of no use.
const TOP_SECONDS_MAX: f64 = 3600.0;

pub(super) fn ps(context: &mut Context, _: &[String], io: &mut Io) -> Outcome {
    let containers = context.facts.containers().into_iter().map(|row| {
        let age = if row.age.is_zero() {
            "-".to_owned()
        } else {
            duration(row.age)
        };
        vec![
            row.name,
            row.state.to_owned(),
            cpu(row.cpu),
            bytes(row.memory),
            row.instances.to_string(),
            age,
        ]
    });
    let heads = ["CONTAINER", "STATE", "CPU TIME", "MEMORY", "INSTANCES", "AGE"];
    table::write(&mut io.stdout, &heads, &containers.collect::<Vec<_>>())?;
    let instances: Vec<_> = context
        .facts
        .instances()
        .iter()
        .map(|row| {
            let memory = bytes(row.memories.iter().sum());
            vec![row.id.to_string(), duration(row.age), memory, shown(&row.what)]
        })
        .collect();
    writeln!(io.stdout)?;
    match instances.is_empty() {
        true => writeln!(
            io.stdout,
            "No instance of {} runs now.",
            context.facts.identity().container
        )?,
        false => table::write(&mut io.stdout, &["INSTANCE", "AGE", "MEMORY", "RUNS"], &instances)?,
    }
    Ok(0)
}

pub(super) fn top(context: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    let (mut times, mut seconds) = (TOP_TIMES, TOP_SECONDS);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = args.next().map(String::as_str).unwrap_or_default();
        let wrong = || Failure::Usage(format!("{arg} {value}: not understood"));
        match arg.as_str() {
            "-n" => times = value.parse().map_err(|_| wrong())?,
            "-d" => {
                let given: f64 = value.parse().map_err(|_| wrong())?;
                seconds = Some(given)
                    .filter(|s| *s > 0.0 && *s <= TOP_SECONDS_MAX)
                    .ok_or_else(wrong)?;
            }
            _ => return Err(wrong()),
        }
    }
    let name = context.facts.identity().container;
    for n in 0..times {
        let (before, _) = context.facts.usage();
        let begun = std::time::Instant::now();
        context.console.wait(Duration::from_secs_f64(seconds));
        if context.console.is_cancelled() {
            return Err(Failure::Broken);
        }
        let (after, memory) = context.facts.usage();
        let millis = after.saturating_sub(before).as_nanos() * 1000 / begun.elapsed().as_nanos().max(1);
        let heads: &[&str] = if n == 0 {
            &["NAME", "CPU(cores)", "MEMORY(bytes)", "CPU TIME"]
        } else {
            &[]
        };
        let row = vec![name.clone(), format!("{millis}m"), bytes(memory), cpu(after)];
        table::write(&mut io.stdout, heads, &[row])?;
        io.stdout.flush()?;
    }
    Ok(0)
}

pub(super) fn limits(context: &mut Context, _: &[String], io: &mut Io) -> Outcome {
    let rows = context.facts.limits().into_iter();
    let rows: Vec<_> = rows
        .map(|row| vec![row.what.to_owned(), row.value, row.used, row.over.to_owned()])
        .collect();
    table::write(&mut io.stdout, &["LIMIT", "VALUE", "USED", "OVER IT"], &rows)?;
    Ok(0)
}

pub(super) fn memory(context: &mut Context, _: &[String], io: &mut Io) -> Outcome {
    let module = context.facts.module();
    let (_, used) = context.facts.usage();
    writeln!(
        io.stdout,
        "Each instance has {} memories and {} tables. The container uses {}.",
        module.memories,
        module.tables,
        bytes(used)
    )?;
    let rows: Vec<_> = context
        .facts
        .instances()
        .iter()
        .flat_map(|row| {
            let id = row.id.to_string();
            let memories = row.memories.iter().map(|size| (["memory", "bytes"], bytes(*size)));
            let tables = row.tables.iter().map(|size| (["table", "elements"], size.to_string()));
            let rows = memories
                .chain(tables)
                .map(move |([kind, unit], size)| vec![id.clone(), kind.to_owned(), size, unit.to_owned()]);
            rows.collect::<Vec<_>>()
        })
        .collect();
    if !rows.is_empty() {
        writeln!(io.stdout)?;
        table::write(&mut io.stdout, &["INSTANCE", "KIND", "SIZE", "IN"], &rows)?;
    }
    Ok(0)
}

pub(super) fn stack(context: &mut Context, _: &[String], io: &mut Io) -> Outcome {
    let found = context.facts.backtraces();
    if found.is_empty() {
        writeln!(
            io.stdout,
            "No instance of {} runs now.",
            context.facts.identity().container
        )?;
    }
    for (InstanceRow { id, what, age, .. }, frames) in found {
        let head = format!("instance {id} ({}, {}):", shown(&what), duration(age));
        match frames {
            None => writeln!(io.stdout, "{head} idle, it waits for the host")?,
            Some(frames) => {
                writeln!(io.stdout, "{head}")?;
                for frame in frames {
                    writeln!(io.stdout, "  {}", shown(&frame))?;
                }
            }
        }
    }
    Ok(0)
}

pub(super) fn handles(context: &mut Context, _: &[String], io: &mut Io) -> Outcome {
    let found = context.facts.handles().map_err(Failure::Told)?;
    let rows: Vec<_> = found
        .into_iter()
        .map(|row| vec![row.kind.to_owned(), row.state, shown(&row.name)])
        .collect();
    table::write(&mut io.stdout, &["KIND", "STATE", "NAME"], &rows)?;
    Ok(0)
}

pub(super) fn imports(context: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    let module = context.facts.module();
    interfaces(&module.imports, args, io)
}

pub(super) fn exports(context: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    let module = context.facts.module();
    interfaces(&module.exports, args, io)
}

/// All interfaces, or the functions of one.
fn interfaces(all: &[(String, Vec<String>)], args: &[String], io: &mut Io) -> Outcome {
    match args {
        [] => {
            for (name, _) in all {
                writeln!(io.stdout, "{}", shown(name))?;
            }
        }
        [wanted] => {
            let found = all
                .iter()
                .find(|(name, _)| name == wanted || name.split('@').next() == Some(wanted));
            let (_, functions) = found.ok_or_else(|| Failure::Told(format!("{wanted}: no such interface")))?;
            for function in functions {
                writeln!(io.stdout, "{}", shown(function))?;
            }
        }
        _ => return Err(Failure::Usage("one INTERFACE at most".into())),
    }
    Ok(0)
}

pub(super) fn hostname(context: &mut Context, _: &[String], io: &mut Io) -> Outcome {
    writeln!(io.stdout, "{}", context.facts.identity().hostname)?;
    Ok(0)
}

pub(super) fn id(_: &mut Context, _: &[String], io: &mut Io) -> Outcome {
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    writeln!(
        io.stdout,
        "uid={user} gid={group} (of the worker, for its files; a guest has no user)"
    )?;
    Ok(0)
}

pub(super) fn date(context: &mut Context, args: &[String], io: &mut Io) -> Outcome {
    let format = match args {
        [] => "%a %b %e %H:%M:%S UTC %Y",
        [flag] if flag == "-u" => "%a %b %e %H:%M:%S UTC %Y",
        [format] if format.starts_with('+') => &format[1..],
        _ => return Err(Failure::Usage("not understood".into())),
    };
    let now = context.facts.now().to_zoned(jiff::tz::TimeZone::UTC);
    let text = jiff::fmt::strtime::format(format, &now).map_err(|error| Failure::Told(error.to_string()))?;
    writeln!(io.stdout, "{text}")?;
    Ok(0)
}
