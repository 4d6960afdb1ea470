//! `skiff:pod/resources`: the container's limits, and what it uses of them.

use super::Services;
use super::pod::skiff::pod::resources::{Host, Limits, Usage};

impl Host for &Services {
    fn get_limits(&mut self) -> Limits {
        Limits {
            cpu_millis: self.limits.cpu_limit_millis,
            memory_bytes: self.limits.memory_limit_bytes,
            ephemeral_storage_bytes: self.limits.ephemeral_storage_limit_bytes,
        }
    }
    fn get_usage(&mut self) -> Usage {
        Usage {
            cpu_nanos: self.cpu.used_nanos(),
            memory_bytes: self.memory.used(),
        }
    }
}
