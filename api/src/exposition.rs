//! Prometheus' text format, version 0.0.4: what `/metrics` answers.

use std::fmt::Write;

/// The Content-Type of an exposition.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A label's name and value.
pub type Label<'a> = (&'a str, &'a str);

/// An exposition in the making. The samples of a family follow its head; a family comes once.
#[derive(Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Starts a family.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = write!(self.text, "# HELP {name} ");
        escape(&mut self.text, help, false);
        let _ = write!(self.text, "\n# TYPE {name} {kind}\n");
        Family {
            text: &mut self.text,
            name,
        }
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

/// One family, whose samples are being written.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    pub fn sample(&mut self, labels: &[Label<'_>], value: f64) {
        self.line("", labels, None, value, None);
    }
    /// A sample that was read at this moment, in milliseconds since the epoch.
    pub fn sample_at(&mut self, labels: &[Label<'_>], value: f64, millis: i64) {
        self.line("", labels, None, value, Some(millis));
    }
    /// A histogram's samples. `buckets`: upper bounds and how many lay at or below each, ascending, the last bound infinite.
    pub fn histogram(&mut self, labels: &[Label<'_>], buckets: impl IntoIterator<Item = (f64, u64)>, sum: f64) {
        let mut count = 0;
        for (bound, below) in buckets {
            let bound = number(bound);
            self.line("_bucket", labels, Some(("le", &bound)), below as f64, None);
            count = below;
        }
        self.line("_sum", labels, None, sum, None);
        self.line("_count", labels, None, count as f64, None);
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], last: Option<Label<'_>>, value: f64, millis: Option<i64>) {
        let text = &mut *self.text;
        text.push_str(self.name);
        text.push_str(suffix);
        let mut between = '{';
        for (name, value) in labels.iter().copied().chain(last) {
            text.push(between);
            between = ',';
            let _ = write!(text, "{name}=\"");
            escape(text, value, true);
            text.push('"');
        }
        if between == ',' {
            text.push('}');
        }
        let _ = write!(text, " {}", number(value));
        if let Some(millis) = millis {
            let _ = write!(text, " {millis}");
        }
        text.push('\n');
    }
}

/// Shortest text that is read as the same number.
fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        // As Go prints them: a size in bytes would be 20 zeros long.
        _ if value != 0.0 && !(1e-5..1e21).contains(&value.abs()) => format!("{value:e}"),
        _ => format!("{value}"),
    }
}

fn escape(out: &mut String, text: &str, quoted: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn families_and_samples_are_written_as_prometheus_reads_them() {
        let mut out = Exposition::default();
        let mut family = out.family("a_total", Kind::Counter, "Things\nwith \"lines\" and \\");
        family.sample(&[], 3.0);
        family.sample_at(&[("pod", "a\"b\\c\nd"), ("x", "")], 0.25, 1_700_000_000_123);
        out.family("b", Kind::Gauge, "Sizes").sample(&[], 1_073_741_824.0);
        let mut family = out.family("c_seconds", Kind::Histogram, "Times");
        family.histogram(&[("k", "v")], [(1e-5, 1), (0.5, 2), (f64::INFINITY, 4)], 0.000_001_5);
        expect![[r##"
            # HELP a_total Things\nwith "lines" and \\
            # TYPE a_total counter
            a_total 3
            a_total{pod="a\"b\\c\nd",x=""} 0.25 1700000000123
            # HELP b Sizes
            # TYPE b gauge
            b 1073741824
            # HELP c_seconds Times
            # TYPE c_seconds histogram
            c_seconds_bucket{k="v",le="0.00001"} 1
            c_seconds_bucket{k="v",le="0.5"} 2
            c_seconds_bucket{k="v",le="+Inf"} 4
            c_seconds_sum{k="v"} 1.5e-6
            c_seconds_count{k="v"} 4
        "##]]
        .assert_eq(&out.into_text());
    }
}
