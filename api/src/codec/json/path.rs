//! Where the decoder is, as a list on its stack: nothing is built until there is something to report.

use std::fmt::Write;

use crate::schema::{Field, Message};

#[derive(Clone, Copy)]
pub(super) struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    /// A field of a struct.
    Field(&'static Message, &'static Field),
    /// A key of a map.
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    pub(super) const ROOT: Path<'static> = Path {
        parent: None,
        step: Step::Root,
    };

    pub(super) fn field(&'p self, owner: &'static Message, field: &'static Field) -> Path<'p> {
        Path {
            parent: Some(self),
            step: Step::Field(owner, field),
        }
    }
    pub(super) fn key(&'p self, key: &'p str) -> Path<'p> {
        Path {
            parent: Some(self),
            step: Step::Key(key),
        }
    }
    pub(super) fn index(&'p self, index: usize) -> Path<'p> {
        Path {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    fn steps(&self) -> Vec<Step<'p>> {
        let mut steps = Vec::new();
        let mut here = Some(self);
        while let Some(path) = here {
            steps.push(path.step);
            here = path.parent;
        }
        steps.reverse();
        steps
    }

    /// `spec.containers[0].ports`, as strict-decoding problems name it.
    pub(super) fn strict(&self) -> String {
        let mut out = String::new();
        for step in self.steps() {
            match step {
                Step::Root => {}
                Step::Field(_, field) => push_name(&mut out, field.json),
                Step::Key(key) => push_name(&mut out, key),
                Step::Index(index) => write!(out, "[{index}]").expect("a String takes every write"),
            }
        }
        out
    }

    /// `Container.spec.containers.workingDir`, as Go's type errors name it: the innermost struct, then field names only.
    /// Empty outside of any struct.
    pub(super) fn go(&self) -> String {
        let (mut owner, mut names) = ("", String::new());
        for step in self.steps() {
            if let Step::Field(message, field) = step {
                owner = message.name;
                push_name(&mut names, field.json);
            }
        }
        if owner.is_empty() {
            String::new()
        } else {
            format!("{owner}.{names}")
        }
    }
}

fn push_name(out: &mut String, name: &str) {
    if !out.is_empty() {
        out.push('.');
    }
    out.push_str(name);
}
