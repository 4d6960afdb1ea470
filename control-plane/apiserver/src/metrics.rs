//! What the server counts about itself, in Prometheus' text form.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skiff_api::exposition::{Exposition, Kind, Label};

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
        let mut out = Exposition::default();
        let requests = self.requests.lock().expect("nothing panics under this lock");
        let mut family = out.family(
            "apiserver_request_total",
            Kind::Counter,
            "Requests answered, by verb, resource and code.",
        );
        for (series, counts) in requests.iter() {
            for (code, count) in &counts.by_code {
                let code = code.to_string();
                let labels = [&series.labels()[..], &[("code", &code)]].concat();
                family.sample(&labels, *count as f64);
            }
        }
        let mut family = out.family(
            "apiserver_request_duration_seconds",
            Kind::Histogram,
            "Time until the answer's head was ready, watches left out.",
        );
        for (series, counts) in requests.iter() {
            let mut below = 0;
            let finite = BUCKETS.iter().zip(counts.buckets).map(|(bound, count)| {
                below += count;
                (*bound, below)
            });
            let buckets = finite.chain([(f64::INFINITY, counts.count)]);
            family.histogram(&series.labels(), buckets, counts.seconds);
        }
        let (short, long) = limiter.in_flight();
        let mut family = out.family("apiserver_current_inflight_requests", Kind::Gauge, "Requests in work.");
        family.sample(&[("request_kind", "request")], short as f64);
        family.sample(&[("request_kind", "watch")], long as f64);
        out.family(
            "skiff_metric_series_dropped_total",
            Kind::Counter,
            "Requests not counted because there were too many series.",
        )
        .sample(&[], self.dropped.load(Ordering::Relaxed) as f64);
        out.into_text()
    }
}

impl Series {
    fn labels(&self) -> [Label<'_>; 5] {
        [
            ("verb", &self.verb),
            ("group", &self.group),
            ("version", &self.version),
            ("resource", &self.resource),
            ("subresource", &self.subresource),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_asked_for() {
        let metrics = Metrics::default();
        let pods = RequestInfo::parse(&hyper::Method::GET, "/api/v1/namespaces/a/pods/b", "");
        metrics.observe(&pods, 200, Duration::from_millis(3));
        metrics.observe(&pods, 200, Duration::from_secs(100));
        let text = metrics.render(&Limiter::default());
        let of_requests = |line: &&str| line.contains("apiserver_request_");
        let lines: Vec<&str> = text.lines().filter(of_requests).collect();
        let some = [lines[2], lines[5], lines[6], lines[16], lines[17], lines[18], lines[19]];
        expect![[r#"
            apiserver_request_total{verb="GET",group="",version="v1",resource="pods",subresource="",code="200"} 2
            apiserver_request_duration_seconds_bucket{verb="GET",group="",version="v1",resource="pods",subresource="",le="0.001"} 0
            apiserver_request_duration_seconds_bucket{verb="GET",group="",version="v1",resource="pods",subresource="",le="0.005"} 1
            apiserver_request_duration_seconds_bucket{verb="GET",group="",version="v1",resource="pods",subresource="",le="10"} 1
            apiserver_request_duration_seconds_bucket{verb="GET",group="",version="v1",resource="pods",subresource="",le="+Inf"} 2
            apiserver_request_duration_seconds_sum{verb="GET",group="",version="v1",resource="pods",subresource=""} 100.003
            apiserver_request_duration_seconds_count{verb="GET",group="",version="v1",resource="pods",subresource=""} 2
        "#]]
        .assert_eq(&(some.join("\n") + "\n"));
    }
}
