//! The resource table: which group, version, kind, plural, short names and verbs each served resource has.
//! The rows are data (`data/resources.tsv`); the API server picks the ones that it serves.

use std::sync::LazyLock;

/// One row of the table: a resource or a subresource.
#[derive(Debug)]
pub struct ResourceInfo {
    pub group: &'static str,
    pub version: &'static str,
    /// Plural, lower case: `pods`.
    pub resource: &'static str,
    /// `status`, `scale`, …; empty for the resource itself.
    pub subresource: &'static str,
    pub singular: &'static str,
    /// The kind that the (sub)resource speaks: `Pod`, or `Scale` for `deployments/scale`.
    pub kind: &'static str,
    pub kind_group: &'static str,
    pub kind_version: &'static str,
    pub namespaced: bool,
    pub verbs: Vec<&'static str>,
    pub short_names: Vec<&'static str>,
    pub categories: Vec<&'static str>,
    pub storage_version_hash: &'static str,
    pub group_priority_minimum: i64,
    pub version_priority: i64,
}

impl ResourceInfo {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }
}

/// `v1` for the core group, else `group/version`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Splits `apps/v1` into (`apps`, `v1`) and `v1` into (``, `v1`).
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

static TABLE: LazyLock<Vec<ResourceInfo>> = LazyLock::new(|| {
    include_str!("../data/resources.tsv")
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&'static str> = line.split('\t').collect();
            let cell = |i: usize| cells.get(i).copied().unwrap_or("");
            let list = |i: usize| cell(i).split(',').filter(|s| !s.is_empty()).collect();
            ResourceInfo {
                group: cell(0),
                version: cell(1),
                resource: cell(2),
                subresource: cell(3),
                singular: cell(4),
                kind: cell(5),
                kind_group: cell(6),
                kind_version: cell(7),
                namespaced: cell(8) == "1",
                verbs: list(9),
                short_names: list(10),
                categories: list(11),
                storage_version_hash: cell(12),
                group_priority_minimum: cell(14).parse().unwrap_or(0),
                version_priority: cell(15).parse().unwrap_or(0),
            }
        })
        .collect()
});

/// Every row that Kubernetes 1.36 knows, served by us or not.
pub fn all() -> &'static [ResourceInfo] {
    &TABLE
}

/// The row of a (sub)resource.
pub fn find(group: &str, version: &str, resource: &str, subresource: &str) -> Option<&'static ResourceInfo> {
    all()
        .iter()
        .find(|r| r.group == group && r.version == version && r.resource == resource && r.subresource == subresource)
}

/// The main resource row of a kind.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static ResourceInfo> {
    all()
        .iter()
        .find(|r| r.group == group && r.version == version && r.kind == kind && r.subresource.is_empty())
}
