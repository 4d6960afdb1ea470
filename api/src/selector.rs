//! Label and field selectors, as the `labelSelector` and `fieldSelector` parameters and as LabelSelector objects.

mod field;
mod parser;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

pub use field::{FieldRequirement, FieldSelector};

/// Longer selector texts are refused: a request line has at most a few kilobytes for all its parameters anyway.
pub const SELECTOR_BYTES_MAX: usize = 64 * 1024;
/// More requirements than this are refused: each is evaluated for every object of a list and for every watch event.
pub const REQUIREMENTS_MAX: usize = 1000;
/// More values than this in one `in (…)` are refused, for the same reason.
pub const VALUES_MAX: usize = 10_000;

/// Why a selector text or object was refused; the text is Kubernetes'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted and without duplicates.
    pub values: Vec<String>,
}

/// All of its requirements must hold; without requirements it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }
    /// Matches no object.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }
    /// Reads the text of a `labelSelector` parameter: `a=b,c!=d,e in (f,g),!h,i`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parser::parse(text)
    }
    /// From a LabelSelector object (`matchLabels`, `matchExpressions`). Null or absent matches nothing, `{}` everything.
    pub fn from_json(selector: &Value) -> Result<Self, SelectorError> {
        let Some(map) = selector.as_object() else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in map.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let values = vec![value.as_str().unwrap_or("").to_owned()];
            requirements.push(Requirement::new(key.clone(), Operator::Equals, values)?);
        }
        for expression in map
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or("");
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
            requirements.push(Requirement::new(text("key").to_owned(), operator, values)?);
        }
        Self::new(requirements)
    }
    /// From a plain map of labels (a Service's or ReplicationController's selector).
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        Self {
            requirements: labels.iter().map(requirement).collect(),
            nothing: false,
        }
    }
    /// From checked requirements; they are sorted by key.
    pub fn new(mut requirements: Vec<Requirement>) -> Result<Self, SelectorError> {
        if requirements.len() > REQUIREMENTS_MAX {
            return Err(SelectorError(format!(
                "a selector may have at most {REQUIREMENTS_MAX} requirements"
            )));
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements,
            nothing: false,
        })
    }
    /// The conditions, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
    /// Matches whatever it is asked.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }
    /// The same on the `labels` value of an object as it is; absent or null labels are none.
    pub fn matches_json(&self, labels: Option<&Value>) -> bool {
        let map = labels.and_then(Value::as_object);
        self.matches_with(|key| map.and_then(|map| map.get(key)).and_then(Value::as_str))
    }
    /// The same with the labels behind a function.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.matches(label(&requirement.key)))
    }
    /// The value that a label must have to match, if the selector says so.
    pub fn exact_value(&self, key: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find_map(|r| match (r.operator, r.values.as_slice()) {
                (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) if r.key == key => {
                    Some(value.as_str())
                }
                _ => None,
            })
    }
}

impl Requirement {
    /// Checks key, number of values and each value; values are sorted and made unique.
    pub fn new(key: String, operator: Operator, mut values: Vec<String>) -> Result<Self, SelectorError> {
        check_key("key", &key)?;
        values.sort();
        values.dedup();
        let fault = |index: Option<usize>, shown: String, detail: &str| {
            let index = index.map_or(String::new(), |index| format!("[{index}]"));
            Err(SelectorError(format!(
                "values{index}: Invalid value: {shown}: {detail}"
            )))
        };
        let list = || {
            format!(
                "[{}]",
                values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(",")
            )
        };
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return fault(None, list(), "for 'in', 'notin' operators, values set can't be empty");
            }
            Operator::In | Operator::NotIn if values.len() > VALUES_MAX => {
                return Err(SelectorError(format!(
                    "values: Too many: {}: must have at most {VALUES_MAX} items",
                    values.len()
                )));
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                return fault(None, list(), "exact-match compatibility requires one single value");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return fault(None, list(), "values set must be empty for exists and does not exist");
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                return fault(None, list(), "for 'Gt', 'Lt' operators, exactly one value is required");
            }
            Operator::GreaterThan | Operator::LessThan if values[0].parse::<i64>().is_err() => {
                return fault(
                    Some(0),
                    format!("{:?}", values[0]),
                    "for 'Gt', 'Lt' operators, the value must be an integer",
                );
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let errors = crate::names::label_value(value);
            if !errors.is_empty() {
                let detail = errors.join("; ");
                return Err(SelectorError(format!(
                    "values[{index}][{key}]: Invalid value: {value:?}: {detail}"
                )));
            }
        }
        Ok(Self { key, operator, values })
    }
    /// Whether a label's value (none: the label is absent) fulfils it.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.binary_search_by(|v| v.as_str().cmp(value)).is_ok();
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.numbers(value).is_some_and(|(label, bound)| label > bound),
            Operator::LessThan => self.numbers(value).is_some_and(|(label, bound)| label < bound),
        }
    }
    fn numbers(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

/// A label key's errors, as a field error at `path`.
fn check_key(path: &str, key: &str) -> Result<(), SelectorError> {
    let errors = crate::names::qualified_name(key);
    if errors.is_empty() {
        return Ok(());
    }
    Err(SelectorError(format!(
        "{path}: Invalid value: {key:?}: {}",
        errors.join("; ")
    )))
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let one = self.values.first().map_or("", String::as_str);
        match self.operator {
            Operator::Equals => write!(f, "{key}={one}"),
            Operator::DoubleEquals => write!(f, "{key}=={one}"),
            Operator::NotEquals => write!(f, "{key}!={one}"),
            Operator::In => write!(f, "{key} in ({})", self.values.join(",")),
            Operator::NotIn => write!(f, "{key} notin ({})", self.values.join(",")),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{one}"),
            Operator::LessThan => write!(f, "{key}<{one}"),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
