//! The one table at the end: what was measured, beside what, against which goal.

use std::fmt;

/// What a row has to reach.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Figure divided by reference.
    RatioAtLeast(f64),
    RatioAtMost(f64),
}

#[derive(Clone, Debug)]
pub struct Row {
    name: String,
    figure: f64,
    unit: &'static str,
    reference: Option<(&'static str, f64)>,
    goal: Option<Goal>,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.reference
            .filter(|(_, value)| *value > 0.0)
            .map(|(_, value)| self.figure / value)
    }

    fn met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::AtMost(most) => self.figure <= most,
            Goal::AtLeast(least) => self.figure >= least,
            Goal::RatioAtLeast(least) => self.ratio()? >= least,
            Goal::RatioAtMost(most) => self.ratio()? <= most,
        })
    }

    fn cells(&self) -> [String; 7] {
        let reference = self.reference.map(|(name, value)| format!("{} {name}", number(value)));
        let goal = self.goal.map(|goal| match goal {
            Goal::AtMost(value) => format!("<= {}", number(value)),
            Goal::AtLeast(value) => format!(">= {}", number(value)),
            Goal::RatioAtLeast(value) => format!("ratio >= {value}"),
            Goal::RatioAtMost(value) => format!("ratio <= {value}"),
        });
        [
            self.name.clone(),
            number(self.figure),
            self.unit.to_owned(),
            reference.unwrap_or_default(),
            self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            goal.unwrap_or_default(),
            self.met().map_or("", |met| if met { "yes" } else { "NO" }).to_owned(),
        ]
    }
}

#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a row and tells it at once, so that a long run shows where it is.
    fn push(&mut self, row: Row) {
        eprintln!("{:<54} {:>12} {}", row.name, number(row.figure), row.unit);
        self.rows.push(row);
    }

    pub fn figure(&mut self, name: impl Into<String>, figure: f64, unit: &'static str) {
        self.push(Row {
            name: name.into(),
            figure,
            unit,
            reference: None,
            goal: None,
        });
    }

    pub fn goal(&mut self, name: impl Into<String>, figure: f64, unit: &'static str, goal: Goal) {
        self.push(Row {
            name: name.into(),
            figure,
            unit,
            reference: None,
            goal: Some(goal),
        });
    }

    pub fn beside(
        &mut self,
        name: impl Into<String>,
        figure: f64,
        unit: &'static str,
        reference: (&'static str, f64),
        goal: Option<Goal>,
    ) {
        self.push(Row {
            name: name.into(),
            figure,
            unit,
            reference: Some(reference),
            goal,
        });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "figure", "unit", "reference", "ratio", "goal", "met"].map(str::to_owned);
        let rows: Vec<[String; 7]> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let widths: [usize; 7] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
        for row in &rows {
            let cell = |column: usize| {
                let (text, width) = (&row[column], widths[column]);
                // Numbers to the right, words to the left.
                if matches!(column, 1 | 4) {
                    format!("{text:>width$}")
                } else {
                    format!("{text:<width$}")
                }
            };
            let line: Vec<String> = (0..7).map(cell).collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// Three significant digits; no fraction from a thousand on.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_says_what_is_met() {
        let mut table = Table::default();
        table.goal("start", 0.52, "s", Goal::AtMost(2.0));
        table.beside(
            "wasm",
            900.0,
            "req/s",
            ("hyper", 10_000.0),
            Some(Goal::RatioAtLeast(0.15)),
        );
        table.figure("list", 80.25, "ms");
        let text = table.to_string();
        assert_eq!(
            text,
            "what   figure  unit   reference    ratio  goal           met\n\
             start   0.520  s                          <= 2.00        yes\n\
             wasm      900  req/s  10000 hyper   0.09  ratio >= 0.15  NO\n\
             list     80.2  ms\n"
        );
    }
}
