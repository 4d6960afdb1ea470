//! Tables: what `kubectl get` shows, made on the server.

use serde_json::{Value, json};
use skiff_api::object;
use skiff_api::status::{ApiResult, ApiStatus};

use crate::clock;
use crate::kinds::common::column_description;
use crate::query::Query;
use crate::strategy::Strategy;

/// What each row carries besides its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    /// `includeObject=`.
    pub fn parse(query: &Query) -> ApiResult<Self> {
        match query.get("includeObject").unwrap_or("") {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(ApiStatus::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// The Table of some objects. Watches leave the column definitions out after their first event.
pub fn table(
    strategy: &dyn Strategy,
    items: &[Value],
    list_meta: Value,
    include: Include,
    version: &str,
    with_columns: bool,
) -> Value {
    let now = clock::now_seconds();
    let rows: Vec<Value> = items
        .iter()
        .map(|item| row(strategy, item, include, version, now))
        .collect();
    let columns = if with_columns { columns(strategy) } else { Value::Null };
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": list_meta,
        "columnDefinitions": columns, "rows": rows,
    })
}

fn columns(strategy: &dyn Strategy) -> Value {
    let resource = strategy.info().resource;
    let column = |c: &crate::strategy::Column| {
        let description = column_description(resource, c.name);
        json!({"name": c.name, "type": c.kind, "format": c.format, "description": description, "priority": c.priority})
    };
    strategy.columns().iter().map(column).collect()
}

fn row(strategy: &dyn Strategy, item: &Value, include: Include, version: &str, now: i64) -> Value {
    let mut row = json!({ "cells": strategy.row(item, now) });
    let conditions = strategy.row_conditions(item);
    if !conditions.is_empty() {
        row["conditions"] = conditions.into();
    }
    row["object"] = match include {
        Include::None => Value::Null,
        Include::Object => item.clone(),
        Include::Metadata => json!({
            "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"),
            "metadata": item.get("metadata").cloned().unwrap_or_else(|| json!({})),
        }),
    };
    if include == Include::Object {
        let info = strategy.info();
        let map = object::as_map(&mut row["object"]);
        object::set_default(map, "kind", info.kind);
        object::set_default(
            map,
            "apiVersion",
            skiff_api::kind::api_version(info.kind_group, info.kind_version),
        );
    }
    row
}
