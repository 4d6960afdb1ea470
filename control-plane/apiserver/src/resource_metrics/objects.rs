//! NodeMetrics and PodMetrics out of what an agent told. Pure.

use serde_json::{Value, json};
use skiff_api::object::{list_at, str_at};
use skiff_api::quantity::{Format, Quantity};
use skiff_api::time::{format_go_duration, format_rfc3339};
use skiff_api::usage::{NodeUsage, Use};
use skiff_store::watch_cache::CachedObject;

use super::{GROUP, VERSION};
use crate::table::Include;

pub(super) fn node(object: &CachedObject, usage: &NodeUsage, now: i64) -> Value {
    let mut metrics = head("NodeMetrics", object, usage, usage.node.window, now);
    metrics["usage"] = quantities(&usage.node);
    metrics
}

/// None when the agent tells nothing of the pod. `usage.pods` is sorted by namespace and name.
pub(super) fn pod(object: &CachedObject, usage: &NodeUsage, now: i64) -> Option<Value> {
    let wanted = (object.namespace.as_str(), object.name.as_str());
    let found = usage
        .pods
        .binary_search_by(|pod| (pod.namespace.as_str(), pod.name.as_str()).cmp(&wanted))
        .ok()?;
    let containers = &usage.pods[found].containers;
    let window = containers.iter().map(|(_, of)| of.window).max().unwrap_or(0);
    let mut metrics = head("PodMetrics", object, usage, window, now);
    let container = |(name, of): &(String, Use)| json!({ "name": name, "usage": quantities(of) });
    metrics["containers"] = containers.iter().map(container).collect();
    Some(metrics)
}

fn head(kind: &str, object: &CachedObject, usage: &NodeUsage, window: u64, now: i64) -> Value {
    let mut metadata = json!({ "name": object.name, "creationTimestamp": format_rfc3339(now) });
    if !object.namespace.is_empty() {
        metadata["namespace"] = object.namespace.clone().into();
    }
    if !object.labels.is_empty() {
        metadata["labels"] = json!(object.labels);
    }
    json!({
        "kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": metadata,
        "timestamp": format_rfc3339(usage.time.div_euclid(1000)),
        // To the millisecond: finer is noise.
        "window": format_go_duration(i64::try_from(window / 1_000_000 * 1_000_000).unwrap_or(i64::MAX)),
    })
}

fn quantities(of: &Use) -> Value {
    json!({ "cpu": cpu(of.nano_cores), "memory": memory(of.memory) })
}

fn cpu(nano_cores: u64) -> String {
    let text = format!("{nano_cores}n");
    Quantity::parse(&text).map_or(text, |quantity| quantity.to_string())
}

fn memory(bytes: u64) -> String {
    Quantity::new(i64::try_from(bytes).unwrap_or(i64::MAX), Format::BinarySi).to_string()
}

/// Columns as metrics-server has them: name, one for each resource, window.
pub(super) fn table(items: &[Value], of_pods: bool, include: Include, version: &str) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({ "name": name, "type": "string", "format": format, "description": description, "priority": 0 });
    let columns = [
        column("Name", "name", "Name of the resource"),
        column("cpu", "quantity", ""),
        column("memory", "quantity", ""),
        column("Window", "duration", ""),
    ];
    let rows: Vec<Value> = items
        .iter()
        .map(|item| {
            let usages: Vec<&Value> = match of_pods {
                true => list_at(item, "/containers").iter().map(|of| &of["usage"]).collect(),
                false => vec![&item["usage"]],
            };
            let sum = |resource: &str| {
                let texts = usages.iter().filter_map(|usage| usage[resource].as_str());
                let quantities = texts.filter_map(|text| Quantity::parse(text).ok());
                quantities.reduce(|a, b| a + b).unwrap_or(Quantity::ZERO).to_string()
            };
            let object = match include {
                Include::None => Value::Null,
                Include::Object => item.clone(),
                Include::Metadata => json!({
                    "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": item["metadata"],
                }),
            };
            let cells = json!([
                str_at(item, "/metadata/name"),
                sum("cpu"),
                sum("memory"),
                item["window"]
            ]);
            json!({ "cells": cells, "object": object })
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": {},
        "columnDefinitions": columns, "rows": rows,
    })
}
