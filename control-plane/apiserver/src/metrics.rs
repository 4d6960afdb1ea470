//! What the server counts about itself, in Prometheus' text form.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::limiter::Limiter;
use crate::request_info::RequestInfo;

/// Upper bounds of the duration buckets in seconds: kube-apiserver's, without the longest.
const BUCKETS: [f64; 12] = [0.001, 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0, 5.0, 10.0];
/// Distinct label sets kept; paths of strangers fall under one of them, so this bounds itself, and this is the proof.
const SERIES_MAX: usize = 4_096;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
}

#[derive(Default)]
struct Counts {
    by_code: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
    count: u64,
}

/// Counters of one server.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<Series, Counts>>,
    /// Series that did not fit any more.
    dropped: AtomicU64,
}

impl Metrics {
    /// Counts one answered request.
    pub fn observe(&self, info: &RequestInfo, code: u16, took: Duration) {
        let known = info.is_resource && code != 404;
        // What strangers make up must not end up in labels.
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let part = |text: &str| {
            if known && plain(text) {
                text.to_owned()
            } else {
                String::new()
            }
        };
        let series = Series {
            verb: if info.is_resource {
                info.verb.to_ascii_uppercase()
            } else {
                "OTHER".to_owned()
            },
            group: part(&info.group),
            version: part(&info.version),
            resource: part(&info.resource),
            subresource: part(&info.subresource),
        };
        let mut requests = self.requests.lock().expect("nothing panics under this lock");
        if requests.len() >= SERIES_MAX && !requests.contains_key(&series) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let counts = requests.entry(series).or_default();
        *counts.by_code.entry(code).or_default() += 1;
        if info.verb == "watch" {
            return;
        }
        let seconds = took.as_secs_f64();
        counts.count += 1;
        counts.seconds += seconds;
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            counts.buckets[bucket] += 1;
        }
    }
    /// The whole exposition.
    pub fn render(&self, limiter: &Limiter) -> String {
        let mut out = String::new();
        let requests = self.requests.lock().expect("nothing panics under this lock");
        out.push_str("# HELP apiserver_request_total Requests answered, by verb, resource and code.\n# TYPE apiserver_request_total counter\n");
        for (series, counts) in requests.iter() {
            for (code, count) in &counts.by_code {
                let _ = writeln!(
                    out,
                    "apiserver_request_total{{{},code=\"{code}\"}} {count}",
                    series.labels()
                );
            }
        }
        out.push_str("# HELP apiserver_request_duration_seconds Time until the answer's head was ready, watches left out.\n# TYPE apiserver_request_duration_seconds histogram\n");
        for (series, counts) in requests.iter() {
            let labels = series.labels();
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(counts.buckets) {
                below += count;
                let _ = writeln!(
                    out,
                    "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {below}"
                );
            }
            let count = counts.count;
            let _ = writeln!(
                out,
                "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {count}"
            );
            let _ = writeln!(
                out,
                "apiserver_request_duration_seconds_sum{{{labels}}} {}",
                counts.seconds
            );
            let _ = writeln!(out, "apiserver_request_duration_seconds_count{{{labels}}} {count}");
        }
        let (short, long) = limiter.in_flight();
        let _ = write!(
            out,
            "# HELP apiserver_current_inflight_requests Requests in work.\n# TYPE apiserver_current_inflight_requests gauge\n\
             apiserver_current_inflight_requests{{request_kind=\"request\"}} {short}\n\
             apiserver_current_inflight_requests{{request_kind=\"watch\"}} {long}\n\
             # HELP skiff_metric_series_dropped_total Requests not counted because there were too many series.\n\
             # TYPE skiff_metric_series_dropped_total counter\nskiff_metric_series_dropped_total {}\n",
            self.dropped.load(Ordering::Relaxed)
        );
        out
    }
}

impl Series {
    fn labels(&self) -> String {
        // Verbs and resources that were served hold no characters that need escaping.
        format!(
            "verb=\"{}\",group=\"{}\",version=\"{}\",resource=\"{}\",subresource=\"{}\"",
            self.verb, self.group, self.version, self.resource, self.subresource
        )
    }
}
