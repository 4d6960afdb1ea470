//! `wasi:config/store`: the ConfigMaps and Secrets that the pod's annotation names, as they were when the container was
//! created. The agent has read them, from the pod's own namespace only.

use super::{Guest, HasServices, Linker, Services};

mod bindings {
    wasmtime::component::bindgen!({ path: "../../wit/wasi-config", world: "imports" });
}

use bindings::wasi::config::store::{Error, Host};

impl Host for &Services {
    fn get(&mut self, key: String) -> Result<Option<String>, Error> {
        let found = self.config.binary_search_by(|(other, _)| other.as_str().cmp(&key));
        Ok(found.ok().map(|index| self.config[index].1.clone()))
    }
    fn get_all(&mut self) -> Result<Vec<(String, String)>, Error> {
        Ok(self.config.clone())
    }
}

pub(super) fn add_to_linker(linker: &mut Linker) -> wasmtime::Result<()> {
    bindings::Imports::add_to_linker::<Guest, HasServices>(linker, Guest::services)
}
