//! Walks over one or two values by their shape: what set do they make, how do they differ, merge them, take away paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::map_of;
use super::set::{Node, PathElement, Set};
use super::shape::Shape;

/// How two values differ, as sets of paths.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

impl Changes {
    /// What is new or different.
    pub(super) fn touched(&mut self) -> Set {
        std::mem::take(&mut self.modified).union(std::mem::take(&mut self.added))
    }
}

pub(super) fn compare(old: Option<&Value>, new: Option<&Value>, shape: Shape) -> Changes {
    let difference = difference(old, new, shape);
    Changes {
        added: difference.added.below,
        modified: difference.modified.below,
        removed: difference.removed.below,
    }
}

/// What is to be said of one node and all below it.
#[derive(Default)]
struct Difference {
    added: Node,
    modified: Node,
    removed: Node,
}

impl Difference {
    /// Of two values taken as wholes.
    fn whole(old: Option<&Value>, new: Option<&Value>) -> Self {
        let mut whole = Self::default();
        match (old, new) {
            (None, Some(_)) => whole.added.member = true,
            (Some(_), None) => whole.removed.member = true,
            (Some(a), Some(b)) => whole.modified.member = a != b,
            (None, None) => {}
        }
        whole
    }

    /// Of items that share a key.
    fn alike(old: &[&Value], new: &[&Value]) -> Self {
        let mut alike = Self::default();
        alike.added.member = old.is_empty();
        alike.removed.member = new.is_empty();
        alike.modified.member = !old.is_empty() && !new.is_empty() && old != new;
        alike
    }

    fn put(&mut self, element: impl Fn() -> PathElement, below: Self) {
        for (parent, child) in [
            (&mut self.added, below.added),
            (&mut self.modified, below.modified),
            (&mut self.removed, below.removed),
        ] {
            if !child.is_empty() {
                parent.below.attach(element(), child);
            }
        }
    }
}

fn difference(old: Option<&Value>, new: Option<&Value>, shape: Shape) -> Difference {
    // Most of an object stays as it was.
    if old == new {
        return Difference::default();
    }
    let mut result = Difference::default();
    let is_empty = match shape {
        Shape::Leaf => return Difference::whole(old, new),
        Shape::Unknown if !old.or(new).is_some_and(Value::is_object) => return Difference::whole(old, new),
        Shape::Struct(_) | Shape::Map(_) | Shape::Unknown => {
            let (before, after) = (map_of(old), map_of(new));
            for (name, value) in before.into_iter().flatten() {
                let now = after.and_then(|map| map.get(name));
                result.put(
                    || PathElement::field(name),
                    difference(Some(value), now, shape.member(name)),
                );
            }
            for (name, value) in after.into_iter().flatten() {
                if before.is_none_or(|map| !map.contains_key(name)) {
                    result.put(
                        || PathElement::field(name),
                        difference(None, Some(value), shape.member(name)),
                    );
                }
            }
            before.is_none_or(Map::is_empty) && after.is_none_or(Map::is_empty)
        }
        Shape::List(_) => {
            let mut items: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
            for item in items_of(old) {
                items.entry(shape.element(item)).or_default().0.push(item);
            }
            for item in items_of(new) {
                items.entry(shape.element(item)).or_default().1.push(item);
            }
            let is_empty = items.is_empty();
            for (element, (before, after)) in items {
                let below = match (before.as_slice(), after.as_slice()) {
                    ([] | [_], [] | [_]) => difference(before.first().copied(), after.first().copied(), shape.item()),
                    // Items that share a key cannot be told apart: they are owned together.
                    _ => Difference::alike(&before, &after),
                };
                result.put(|| element.clone(), below);
            }
            is_empty
        }
    };
    // Empty and absent differ, so two empty things are compared as wholes.
    if is_empty {
        return Difference::whole(old, new);
    }
    result.added.member = old.is_none();
    result.removed.member = new.is_none();
    result
}

fn items_of(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The paths that a configuration claims.
pub(super) fn claimed(value: &Value, shape: Shape) -> Set {
    let mut set = Set::default();
    claim(value, shape, &mut Vec::new(), &mut set);
    set
}

fn claim(value: &Value, shape: Shape, path: &mut Vec<PathElement>, set: &mut Set) {
    match (shape, value) {
        (Shape::Struct(_) | Shape::Map(_) | Shape::Unknown, Value::Object(map)) => {
            for (name, inner) in map {
                path.push(PathElement::field(name));
                claim(inner, shape.member(name), path, set);
                let is_empty = inner.is_null() || inner.as_object().is_some_and(Map::is_empty);
                // A key of a map is a choice of its own; a field of a struct only leads further.
                if is_empty || !matches!(shape, Shape::Struct(_)) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Shape::List(_), Value::Array(items)) => {
            for item in items {
                path.push(shape.element(item));
                claim(item, shape.item(), path, set);
                set.insert(path);
                path.pop();
            }
        }
        (Shape::List(_), _) => {}
        _ => set.insert(path),
    }
}

/// The first list with two items of the same key, as (path of the list, the item's name in a path).
pub(super) fn duplicate(value: &Value, shape: Shape) -> Option<(String, PathElement)> {
    duplicate_at(value, shape, &mut String::new())
}

fn duplicate_at(value: &Value, shape: Shape, path: &mut String) -> Option<(String, PathElement)> {
    let length = path.len();
    let mut inside = |inner: &Value, shape: Shape, element: &PathElement| {
        path.push_str(&element.to_string());
        let found = duplicate_at(inner, shape, path);
        path.truncate(length);
        found
    };
    match (shape, value) {
        (Shape::Struct(_) | Shape::Map(_), Value::Object(map)) => map
            .iter()
            .find_map(|(name, inner)| inside(inner, shape.member(name), &PathElement::field(name))),
        (Shape::List(_), Value::Array(items)) => {
            let mut seen = std::collections::BTreeSet::new();
            for item in items {
                let element = shape.element(item);
                if let Some(found) = inside(item, shape.item(), &element) {
                    return Some(found);
                }
                if !seen.insert(element.clone()) {
                    return Some((path.clone(), element));
                }
            }
            None
        }
        _ => None,
    }
}

/// `base` with `over` merged in; where both say something about one leaf, `over` wins.
pub(super) fn merge(base: &Value, over: &Value, shape: Shape) -> Value {
    match (shape, base, over) {
        (Shape::Struct(_) | Shape::Map(_) | Shape::Unknown, Value::Object(old), Value::Object(new)) => {
            let mut merged = old.clone();
            for (name, value) in new {
                let inner = match old.get(name) {
                    Some(existing) => merge(existing, value, shape.member(name)),
                    None => value.clone(),
                };
                merged.insert(name.clone(), inner);
            }
            Value::Object(merged)
        }
        (Shape::List(_), Value::Array(old), Value::Array(new)) => Value::Array(merge_lists(old, new, shape)),
        _ => over.clone(),
    }
}

/// Shared items take the order of `new`; items of one side only stay before what follows them there.
fn merge_lists(old: &[Value], new: &[Value], shape: Shape) -> Vec<Value> {
    let old: Vec<(PathElement, &Value)> = old.iter().map(|item| (shape.element(item), item)).collect();
    let new: Vec<(PathElement, &Value)> = new.iter().map(|item| (shape.element(item), item)).collect();
    let position = |list: &[(PathElement, &Value)], element: &PathElement| list.iter().position(|(e, _)| e == element);
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let mut old_at = 0;
    let mut new_at = 0;
    while old_at < old.len() || new_at < new.len() {
        if let Some((element, item)) = old.get(old_at) {
            match position(&new, element) {
                None => {
                    merged.push((*item).clone());
                    old_at += 1;
                    continue;
                }
                // Written already, at its place in the new order.
                Some(place) if place < new_at => {
                    old_at += 1;
                    continue;
                }
                Some(_) => {}
            }
        }
        let Some((element, item)) = new.get(new_at) else { break };
        let inner = match position(&old, element) {
            Some(at) => merge(old[at].1, item, shape.item()),
            None => (*item).clone(),
        };
        merged.push(inner);
        new_at += 1;
    }
    merged
}

/// Takes out of `value` what was claimed `before` and is claimed by nobody `now`. A struct, map or item that nobody
/// mentions any more goes whole, with whatever defaults had been filled into it.
pub(super) fn prune(value: &mut Value, before: &Set, now: &Set, shape: Shape) {
    let nothing = Set::default();
    match (shape, value) {
        (Shape::Struct(_) | Shape::Map(_) | Shape::Unknown, Value::Object(map)) => {
            for element in before.elements() {
                let PathElement::Field(name) = element else { continue };
                if !now.mentions(element) {
                    map.remove(name);
                } else if let Some(inner) = map.get_mut(name) {
                    let (before, now) = (before.below(element), now.below(element));
                    prune(
                        inner,
                        before.unwrap_or(&nothing),
                        now.unwrap_or(&nothing),
                        shape.member(name),
                    );
                }
            }
        }
        (Shape::List(_), Value::Array(items)) => {
            items.retain(|item| {
                let element = shape.element(item);
                !before.mentions(&element) || now.mentions(&element)
            });
            for item in items {
                let element = shape.element(item);
                if let Some(before) = before.below(&element) {
                    prune(item, before, now.below(&element).unwrap_or(&nothing), shape.item());
                }
            }
        }
        _ => {}
    }
}
