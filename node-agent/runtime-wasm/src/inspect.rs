//! What a module is and needs, read from its imports and exports without running or compiling it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload};

use crate::capabilities;

/// How a module is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A core module of WASI preview 1 with `_start`: adapted to a `wasi:cli/run` component when pulled.
    CoreP1,
    /// Exports `wasi:cli/run@0.2`.
    CliComponent,
    /// Exports `wasi:cli/run@0.3`.
    CliComponentP3,
    /// Exports `wasi:http/incoming-handler@0.2`.
    HttpComponent,
    /// Exports `wasi:http/handler@0.3`.
    HttpComponentP3,
}

impl Kind {
    /// It runs to its end; the others serve.
    pub(crate) fn is_command(self) -> bool {
        matches!(self, Self::CoreP1 | Self::CliComponent | Self::CliComponentP3)
    }
}

impl Kind {
    /// Serves requests instead of running to an end.
    pub fn is_http(self) -> bool {
        matches!(self, Self::HttpComponent | Self::HttpComponentP3)
    }
    /// One line for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::CoreP1 => "core module (WASI preview 1 command)",
            Self::CliComponent => "wasi:cli command component (WASI 0.2)",
            Self::CliComponentP3 => "wasi:cli command component (WASI 0.3)",
            Self::HttpComponent => "wasi:http component (WASI 0.2)",
            Self::HttpComponentP3 => "wasi:http component (WASI 0.3)",
        }
    }
}

/// The answer of [`inspect`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// None when the module exports nothing that can be run.
    pub kind: Option<Kind>,
    /// True when it needs the engine for WASI 0.3.
    pub p3: bool,
    /// `wasi:http/types@0.2.10`, …, or `wasi_snapshot_preview1` for core modules; sorted.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// Imports that this node cannot provide.
    pub missing: Vec<String>,
}

impl Inspection {
    /// Why the node refuses to run it, or None.
    pub fn refusal(&self) -> Option<String> {
        if let Some(missing) = self.missing.first() {
            let more = match self.missing.len() - 1 {
                0 => String::new(),
                n => format!(" (and {n} more)"),
            };
            return Some(format!(
                "the module imports {missing:?}{more}, which this node does not provide"
            ));
        }
        self.kind.is_none().then(|| {
            "the module exports none of wasi:cli/run, wasi:http/incoming-handler, wasi:http/handler or _start: nothing to run"
                .to_owned()
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("not a WebAssembly module: {0}")]
    Malformed(String),
}

/// Reads kind, imports and exports. Errors: not WebAssembly at all.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, InspectError> {
    let malformed = |e: wasmparser::BinaryReaderError| InspectError::Malformed(e.to_string());
    if !bytes.starts_with(b"\0asm") {
        return Err(InspectError::Malformed("it does not start with \\0asm".into()));
    }
    let (mut imports, mut exports) = (BTreeSet::new(), BTreeSet::new());
    let mut encoding = Encoding::Module;
    // Only sections of the outermost level count: nested modules' imports are satisfied inside the component.
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding: found, .. } if depth == 0 => encoding = found,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ImportSection(section) if depth == 0 => {
                for import in section.into_imports() {
                    imports.insert(import.map_err(malformed)?.module.to_owned());
                }
            }
            Payload::ExportSection(section) if depth == 0 => {
                for export in section {
                    exports.insert(export.map_err(malformed)?.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(malformed)?;
                    // Type imports need nothing from the host.
                    if !matches!(import.ty, wasmparser::ComponentTypeRef::Type(_)) {
                        imports.insert(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(malformed)?;
                    if export.kind != ComponentExternalKind::Type {
                        exports.insert(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    let kind = match encoding {
        Encoding::Module => exports.contains("_start").then_some(Kind::CoreP1),
        Encoding::Component => component_kind(&exports),
    };
    let p3 = imports.iter().chain(&exports).any(|name| capabilities::is_p3(name));
    let provided = |name: &String| match encoding {
        Encoding::Module => name == "wasi_snapshot_preview1" || name == "wasi_unstable",
        Encoding::Component => capabilities::provides(name),
    };
    let missing = imports.iter().filter(|name| !provided(name)).cloned().collect();
    Ok(Inspection {
        kind,
        p3,
        imports: imports.into_iter().collect(),
        exports: exports.into_iter().collect(),
        missing,
    })
}

fn component_kind(exports: &BTreeSet<String>) -> Option<Kind> {
    let exported = |interface: &str, track: &str| {
        exports.iter().any(|name| {
            name.split_once('@').is_some_and(|(base, version)| {
                base == interface && version.strip_prefix(track).is_some_and(|rest| rest.starts_with('.'))
            })
        })
    };
    // A component that does both serves: a server is what somebody added on purpose.
    if exported("wasi:http/incoming-handler", "0.2") {
        Some(Kind::HttpComponent)
    } else if exported("wasi:http/handler", "0.3") {
        Some(Kind::HttpComponentP3)
    } else if exported("wasi:cli/run", "0.2") {
        Some(Kind::CliComponent)
    } else if exported("wasi:cli/run", "0.3") {
        Some(Kind::CliComponentP3)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Inspection {
        inspect(&wat::parse_str(text).expect("fixture")).expect("inspect")
    }

    #[test]
    fn a_core_command_is_told_by_its_start() {
        let found = of(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (memory (export "memory") 1) (func (export "_start")))"#,
        );
        assert_eq!((found.kind, found.missing.len()), (Some(Kind::CoreP1), 0));
    }

    #[test]
    fn an_import_that_nobody_provides_is_named() {
        let found = of(r#"(component (import "acme:iot/gpio@1.0.0" (instance (export "f" (func)))))"#);
        assert_eq!(found.missing, ["acme:iot/gpio@1.0.0"]);
        let refusal = found.refusal().expect("refused");
        assert!(refusal.contains("acme:iot/gpio@1.0.0"), "{refusal}");
    }

    #[test]
    fn nested_modules_do_not_count() {
        let found = of(r#"(component (core module (import "env" "f" (func)) (func (export "_start"))))"#);
        assert!(found.imports.is_empty() && found.exports.is_empty());
        assert!(found.refusal().expect("nothing to run").contains("nothing to run"));
    }

    #[test]
    fn garbage_is_not_a_module() {
        assert!(inspect(b"#!/bin/sh").is_err());
        assert!(inspect(b"\0asm\x01\0\0\0\xff\xff\xff").is_err());
    }
}
