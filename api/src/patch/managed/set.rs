//! Sets of field paths as tries, and their wire form FieldsV1 (`{"f:spec":{"f:replicas":{}}}`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde_json::{Map, Value};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathElement {
    /// A field of a struct or a key of a map.
    Field(String),
    /// An item of an associative list: its keys as canonical JSON, `{"name":"a"}`.
    Key(String),
    /// An item of a set: its value as JSON.
    Value(String),
    /// An item by position; read from old records, never made.
    Index(usize),
}

impl PathElement {
    pub(super) fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    fn parse(text: &str) -> Option<Self> {
        let (prefix, rest) = text.split_once(':')?;
        match prefix {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => Some(Self::Key(serde_json::from_str::<Value>(rest).ok()?.to_string())),
            "v" => Some(Self::Value(serde_json::from_str::<Value>(rest).ok()?.to_string())),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(keys) => {
                let map: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "[{}]", pairs.join(","))
            }
        }
    }
}

/// A set of paths. A node is a member itself, or only leads to members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    children: BTreeMap<PathElement, Node>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) member: bool,
    pub(super) below: Set,
}

impl Node {
    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    pub(super) fn insert(&mut self, path: &[PathElement]) {
        let [first, rest @ ..] = path else { return };
        let node = self.children.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// Takes out one path, not what lies below it.
    pub(super) fn remove_member(&mut self, path: &[PathElement]) {
        self.change(path, &mut |node| node.member = false);
    }

    /// Takes out a path and all below it.
    pub(super) fn remove_subtree(&mut self, path: &[PathElement]) {
        self.change(path, &mut |node| *node = Node::default());
    }

    fn change(&mut self, path: &[PathElement], act: &mut dyn FnMut(&mut Node)) {
        let [first, rest @ ..] = path else { return };
        let Some(node) = self.children.get_mut(first) else {
            return;
        };
        if rest.is_empty() {
            act(node);
        } else {
            node.below.change(rest, act);
        }
        if node.is_empty() {
            self.children.remove(first);
        }
    }

    /// Puts a whole branch under an element that has none yet.
    pub(super) fn attach(&mut self, element: PathElement, branch: Node) {
        self.children.insert(element, branch);
    }

    pub(super) fn union(mut self, other: Self) -> Self {
        for (element, theirs) in other.children {
            match self.children.entry(element) {
                Entry::Vacant(place) => {
                    place.insert(theirs);
                }
                Entry::Occupied(mut ours) => {
                    let ours = ours.get_mut();
                    ours.member |= theirs.member;
                    ours.below = std::mem::take(&mut ours.below).union(theirs.below);
                }
            }
        }
        self
    }

    pub(super) fn difference(&self, other: &Self) -> Self {
        self.combine(
            other,
            |ours, theirs| ours && !theirs,
            |ours, theirs| ours.difference(theirs),
            true,
        )
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(
            other,
            |ours, theirs| ours && theirs,
            |ours, theirs| ours.intersection(theirs),
            false,
        )
    }

    fn combine(
        &self,
        other: &Self,
        member: impl Fn(bool, bool) -> bool,
        below: impl Fn(&Self, &Self) -> Self,
        keep_unmatched: bool,
    ) -> Self {
        let mut result = Self::default();
        for (element, ours) in &self.children {
            let node = match other.children.get(element) {
                Some(theirs) => Node {
                    member: member(ours.member, theirs.member),
                    below: below(&ours.below, &theirs.below),
                },
                None if keep_unmatched => ours.clone(),
                None => continue,
            };
            if !node.is_empty() {
                result.children.insert(element.clone(), node);
            }
        }
        result
    }

    /// Whether the element is a member or leads to one.
    pub(super) fn mentions(&self, element: &PathElement) -> bool {
        self.children.contains_key(element)
    }

    /// What lies below an element.
    pub(super) fn below(&self, element: &PathElement) -> Option<&Self> {
        self.children.get(element).map(|node| &node.below)
    }

    pub(super) fn elements(&self) -> impl Iterator<Item = &PathElement> {
        self.children.keys()
    }

    /// Every member as text, `.spec.containers[name="a"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        for (element, node) in &self.children {
            let path = format!("{prefix}{element}");
            if node.member {
                paths.push(path.clone());
            }
            node.below.collect(&path, paths);
        }
    }

    /// Reads FieldsV1. `None` when it is not that.
    pub(super) fn decode(fields: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (key, value) in fields.as_object()? {
            if key == "." {
                continue;
            }
            let map = value.as_object()?;
            let node = Node {
                member: map.is_empty() || map.contains_key("."),
                below: Self::decode(value)?,
            };
            set.children.insert(PathElement::parse(key)?, node);
        }
        Some(set)
    }

    /// Writes FieldsV1.
    pub(super) fn encode(&self) -> Value {
        let mut map = Map::new();
        for (element, node) in &self.children {
            let mut value = node.below.encode();
            if let (true, false, Value::Object(below)) = (node.member, node.below.is_empty(), &mut value) {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(element.encode(), value);
        }
        Value::Object(map)
    }
}
