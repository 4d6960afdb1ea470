//! `Strategy`: what is special about one kind. Handlers know only this trait; a kind without a rule says so by omission.
//!
//! Objects are plain JSON in their one served version. The generic parts (metadata, uid, generation, managedFields,
//! namespaces, finalizers) are the handlers' work and never a strategy's.

use serde_json::Value;
use skiff_api::field::FieldErrors;
use skiff_api::kind::ResourceInfo;
use skiff_store::watch_cache::Decorate;

/// A column of `kubectl get`. Names, types, formats and priorities come from `api/data/columns.tsv`.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, …
    pub kind: &'static str,
    /// `name` for the first column, else empty.
    pub format: &'static str,
    /// 0 = always shown, 1 = wide output only.
    pub priority: i32,
}

/// What a strategy may know of a write besides the object.
#[derive(Clone, Debug)]
pub struct WriteContext {
    /// RFC 3339, whole seconds, `Z`.
    pub now: String,
    /// A fresh v4 UUID for this write, should the strategy need one.
    pub uuid: String,
    /// `""` for the resource itself, else `status`, `scale`, …
    pub subresource: &'static str,
}

/// Answer of `Strategy::delete_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteMode {
    Immediate,
    /// Set deletionTimestamp and wait this many seconds for whoever runs it (Pods). With 0 the object goes at once, but
    /// is answered as marked (deletionTimestamp, grace period 0, next generation), not as a Status.
    Graceful {
        grace_period_seconds: i64,
    },
}

/// What a write does to a node's ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerChange {
    /// The pod (by uid) no longer uses the node: it ended or is gone.
    Release { node: String, uid: String },
    /// A pod came with its nodeName set (static pods, daemons that bind themselves): entered without a check.
    Enter { node: String },
}

pub trait Strategy: Send + Sync + 'static {
    /// The row of the resource table.
    fn info(&self) -> &'static ResourceInfo;

    /// What stands for the resource in storage keys, `/registry/<this>/<namespace>/<name>`. Kubernetes' own odd ones
    /// (`minions` for nodes) are kept, so that its tools find what they look for.
    fn storage_resource(&self) -> &'static str {
        self.info().resource
    }
    /// Whether objects rest in another version's form than this resource serves; then `to_storage` and `out_of_storage`
    /// translate. Two resources that share one storage (events) differ only in this.
    fn converts(&self) -> bool {
        false
    }
    fn to_storage(&self, object: Value) -> Value {
        object
    }
    fn out_of_storage(&self, object: Value) -> Value {
        object
    }
    /// How stored bytes become the bytes that are served: with their resourceVersion, and converted if the kind converts.
    fn decorate(&self) -> Decorate {
        skiff_api::canonical::with_resource_version
    }

    /// Fills in defaults; idempotent. Runs on create, update and patch.
    fn apply_defaults(&self, _object: &mut Value) {}
    /// Drops what a client may not set on create (status, …).
    fn prepare_for_create(&self, _object: &mut Value, _ctx: &WriteContext) {}
    /// Protects what a client may not change (status on the main resource, …). Generation is bumped by the handler
    /// when `tracks_generation` and the spec differs.
    fn prepare_for_update(&self, _new: &mut Value, _old: &Value, _ctx: &WriteContext) {}
    /// For a write to `/status`: by default everything but status (and metadata.managedFields) comes from `old`.
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _ctx: &WriteContext) {
        let status = new.get("status").cloned();
        let metadata = new.get("metadata").cloned();
        *new = old.clone();
        if let Some(metadata) = metadata {
            new["metadata"] = metadata;
        }
        match status {
            Some(status) => new["status"] = status,
            None => {
                skiff_api::object::as_map(new).remove("status");
            }
        }
    }
    /// Collects all errors of a new object; stops at none. Generic metadata validation is the handler's.
    fn validate(&self, _object: &Value, _errors: &mut FieldErrors) {}
    /// Rules about change only (immutable fields); `validate` has run on `new` already.
    fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut FieldErrors) {}
    fn validate_status_update(&self, _new: &Value, _old: &Value, _errors: &mut FieldErrors) {}
    /// How many of Kubernetes' layers check the metadata of a changed object; each adds its causes to an error. Two always
    /// do, most kinds' own rules are a third, and kinds that are validated wholly on update have a fourth.
    fn metadata_checks(&self) -> usize {
        3
    }
    /// Texts for `Warning:` headers.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }
    /// How object names are checked: `dns_subdomain` (most), `dns_label` (namespaces), `path_segment` (RBAC).
    fn name_rule(&self) -> NameRule {
        NameRule::DnsSubdomain
    }

    /// Whether `metadata.generation` is kept and grows when anything but metadata and status changes.
    fn tracks_generation(&self) -> bool {
        false
    }
    /// Whether a write raises the generation although nothing but metadata and status differs, for kinds that track it.
    fn raises_generation(&self, _new: &Value, _old: &Value) -> bool {
        false
    }
    /// PUT on an absent object creates it.
    fn allows_create_on_update(&self) -> bool {
        false
    }
    /// PUT without a resourceVersion is allowed.
    fn allows_unconditional_update(&self) -> bool {
        true
    }
    /// `requested` is the client's gracePeriodSeconds, if it gave one.
    fn delete_mode(&self, _object: &Value, _requested: Option<i64>) -> DeleteMode {
        DeleteMode::Immediate
    }

    /// Some: a delete that says nothing of dependents leaves them alone, and its answer carries this warning.
    fn orphans_by_default(&self) -> Option<&'static str> {
        None
    }

    /// The object has just been given its deletionTimestamp and will wait (namespaces go to phase Terminating).
    fn begin_deletion(&self, _object: &mut Value) {}
    /// Whether anything but a grace period keeps a deleted object: finalizers in metadata, or, for namespaces, in spec.
    fn has_finalizers(&self, object: &Value) -> bool {
        !skiff_api::object::finalizers(object).is_empty()
    }
    /// What a write means for the ledger of the node that the object runs on (pods). `old` is absent on create, `new`
    /// on final deletion. The ledger changes in the same transaction as the object.
    fn ledger_effect(&self, _old: Option<&Value>, _new: Option<&Value>) -> Option<LedgerChange> {
        None
    }

    /// Cells of one table row, in the order of `columns`. `now`: seconds since the epoch.
    fn columns(&self) -> &'static [Column] {
        DEFAULT_COLUMNS
    }
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let _ = now;
        vec![
            skiff_api::object::name(object).into(),
            skiff_api::object::str_at(object, "/metadata/creationTimestamp").into(),
        ]
    }
    /// Conditions of a table row, as JSON (`kubectl get --watch` greys out pods that have completed).
    fn row_conditions(&self, _object: &Value) -> Vec<Value> {
        Vec::new()
    }
    /// Values of the selectable fields beyond metadata.name and metadata.namespace, absent ones as `""`. `object` may hold
    /// nothing but what lies at these paths.
    fn selectable_fields(&self, _object: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// The scale of the object, for kinds with a `scale` subresource: (spec replicas, status replicas, selector text).
    fn scale(&self, _object: &Value) -> Option<(i64, i64, String)> {
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    DnsSubdomain,
    DnsLabel,
    PathSegment,
}

/// Columns of a kind that has no printer of its own.
pub const DEFAULT_COLUMNS: &[Column] = &[
    Column {
        name: "Name",
        kind: "string",
        format: "name",
        priority: 0,
    },
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        priority: 0,
    },
];
