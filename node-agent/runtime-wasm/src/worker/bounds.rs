//! The bounds of one container that its pod's annotations may set, with what holds without them.

use std::time::Duration;

use skiff_api::pod_settings::ContainerSettings;

use crate::limits;

/// Fixed when the container is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// At once, over all instances.
    pub(crate) open_files: usize,
    pub(crate) sockets: usize,
    pub(crate) outgoing_requests: usize,
    /// From others, at once.
    pub(crate) connections: usize,
    /// At once, each in an instance of its own.
    pub(crate) requests: usize,
    /// Waiting for their turn.
    pub(crate) request_queue: usize,
    pub(crate) request_deadline: Duration,
    /// That one instance serves, one after another.
    pub(crate) requests_per_instance: u64,
    /// Of one instance: resources, streams, futures, tasks.
    pub(crate) handles: usize,
    /// Bytes per second, and how many may be saved up.
    pub(crate) log_rate: u64,
    pub(crate) log_burst: u64,
}

impl Bounds {
    pub(crate) fn of(settings: &ContainerSettings) -> Self {
        // Counts are at most a million.
        let count = |wanted: Option<u64>, default: usize| wanted.map_or(default, |wanted| wanted as usize);
        let log_rate = settings.log_rate.unwrap_or(limits::LOG_BYTES_PER_SECOND);
        Self {
            open_files: count(settings.open_files, limits::OPEN_FILES_MAX),
            sockets: count(settings.sockets, limits::SOCKETS_MAX),
            outgoing_requests: count(settings.outgoing_requests, limits::OUTGOING_REQUESTS_MAX),
            connections: count(settings.connections, limits::CONNECTIONS_MAX),
            requests: count(settings.requests, limits::REQUESTS_AT_ONCE),
            request_queue: count(settings.request_queue, limits::REQUESTS_WAITING),
            request_deadline: settings.request_deadline.unwrap_or(limits::REQUEST_DEADLINE),
            requests_per_instance: settings.instance_reuse.unwrap_or(1),
            handles: count(settings.handles, limits::HANDLES_MAX),
            log_rate,
            log_burst: log_rate.saturating_mul(limits::LOG_BURST_BYTES / limits::LOG_BYTES_PER_SECOND),
        }
    }
}

#[cfg(test)]
mod tests {
    use skiff_api::pod_settings::SETTINGS;

    use super::*;

    #[test]
    fn the_defaults_that_the_settings_table_names_are_ours() {
        let bounds = Bounds::of(&ContainerSettings::default());
        let ours = [
            ("connections", bounds.connections.to_string()),
            ("handles", bounds.handles.to_string()),
            ("log-rate", format!("{}Mi", bounds.log_rate >> 20)),
            ("open-files", bounds.open_files.to_string()),
            ("outgoing-requests", bounds.outgoing_requests.to_string()),
            ("request-deadline", format!("{}s", bounds.request_deadline.as_secs())),
            ("request-queue", bounds.request_queue.to_string()),
            ("requests", bounds.requests.to_string()),
            ("sockets", bounds.sockets.to_string()),
        ];
        for (name, default) in ours {
            let setting = SETTINGS.iter().find(|setting| setting.name == name).expect(name);
            assert_eq!(setting.default, default, "{name}");
        }
    }

    #[test]
    fn every_setting_of_containers_that_is_a_limit_has_a_row_in_the_table() {
        use skiff_api::pod_settings::{DOMAIN, Parse};

        use crate::limits_table::OF_PODS;
        let of_containers = SETTINGS.iter().filter(|row| matches!(row.parse, Parse::Container(_)));
        // Which ConfigMaps a guest reads bounds nothing.
        for setting in of_containers.filter(|setting| setting.name != "config") {
            let key = format!("{DOMAIN}/{}", setting.name);
            assert!(OF_PODS.iter().any(|row| row.set_by == key), "{key} has no row");
        }
    }

    #[test]
    fn a_log_may_save_up_eight_seconds() {
        let settings = ContainerSettings {
            log_rate: Some(1000),
            ..ContainerSettings::default()
        };
        assert_eq!(Bounds::of(&settings).log_burst, 8000);
    }
}
