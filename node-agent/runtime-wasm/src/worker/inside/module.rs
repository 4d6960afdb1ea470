//! Imports and exports of a loaded module, with their functions.

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;
use wasmtime::{Engine, Module};

use crate::worker::program::Program;
use crate::worker::shell::facts;

pub(super) fn describe(program: &Program) -> facts::Module {
    match program {
        Program::Core(pre) => core(pre.module()),
        Program::Command(pre) => component("wasi:cli command (0.2)", pre.instance_pre().component()),
        Program::CommandP3(pre) => component("wasi:cli command (0.3)", pre.instance_pre().component()),
        Program::Http(pre) => component("wasi:http server (0.2)", pre.instance_pre().component()),
        Program::HttpP3(pre) => component("wasi:http server (0.3)", pre.instance_pre().component()),
    }
}

fn core(module: &Module) -> facts::Module {
    let mut imports: Vec<(String, Vec<String>)> = Vec::new();
    for import in module.imports() {
        match imports.iter_mut().find(|(name, _)| name == import.module()) {
            Some((_, functions)) => functions.push(import.name().to_owned()),
            None => imports.push((import.module().to_owned(), vec![import.name().to_owned()])),
        }
    }
    let needs = module.resources_required();
    facts::Module {
        kind: "WASI preview 1 command",
        imports,
        exports: module
            .exports()
            .map(|export| (export.name().to_owned(), Vec::new()))
            .collect(),
        memories: needs.num_memories,
        tables: needs.num_tables,
    }
}

fn component(kind: &'static str, component: &Component) -> facts::Module {
    let engine = component.engine();
    let ty = component.component_type();
    let needs = component.resources_required();
    facts::Module {
        kind,
        imports: ty
            .imports(engine)
            .map(|(name, item)| (name.to_owned(), functions(engine, &item.ty)))
            .collect(),
        exports: ty
            .exports(engine)
            .map(|(name, item)| (name.to_owned(), functions(engine, &item.ty)))
            .collect(),
        memories: needs.as_ref().map_or(0, |needs| needs.num_memories),
        tables: needs.as_ref().map_or(0, |needs| needs.num_tables),
    }
}

fn functions(engine: &Engine, item: &ComponentItem) -> Vec<String> {
    match item {
        ComponentItem::ComponentInstance(instance) => {
            let functions = instance
                .exports(engine)
                .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
            functions.map(|(name, _)| name.to_owned()).collect()
        }
        _ => Vec::new(),
    }
}
