//! Which Events are posted, which are counted on an earlier one, and which are one too many.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;

use super::Posting;

/// Events of one component about one object that may come in a burst; then one per [`REFILL_SECONDS`] (Kubernetes').
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// Repeats are counted on one Event as long as they are no further apart than this (Kubernetes' 10 minutes).
const REPEAT_SECONDS_MAX: i64 = 600;
/// Events and objects remembered; the oldest are forgotten first (Kubernetes' 4096).
const REMEMBERED_MAX: usize = 4096;

/// What to do with an Event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Post,
    Count { name: String, count: i64 },
    Drop,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Same {
    component: &'static str,
    uid: String,
    name: String,
    reason: &'static str,
    message: String,
}

#[derive(Debug)]
struct Posted {
    name: String,
    count: i64,
    last: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Correlator {
    posted: HashMap<Same, Posted>,
    posted_order: VecDeque<Same>,
    tokens: HashMap<(&'static str, String), (f64, Timestamp)>,
    last_nanos: i128,
}

fn same(posting: &Posting) -> Same {
    Same {
        component: posting.component,
        uid: posting.draft.regarding.uid.clone(),
        name: posting.draft.regarding.name.clone(),
        reason: posting.draft.reason,
        message: posting.draft.message.clone(),
    }
}

impl Correlator {
    pub(super) fn judge(&mut self, posting: &Posting, now: Timestamp) -> Verdict {
        if !self.take_token(posting, now) {
            return Verdict::Drop;
        }
        match self.posted.get_mut(&same(posting)) {
            Some(posted) if now.as_second() - posted.last.as_second() <= REPEAT_SECONDS_MAX => {
                posted.count += 1;
                posted.last = now;
                Verdict::Count {
                    name: posted.name.clone(),
                    count: posted.count,
                }
            }
            _ => Verdict::Post,
        }
    }

    pub(super) fn posted(&mut self, posting: &Posting, name: String, now: Timestamp) {
        let key = same(posting);
        if self
            .posted
            .insert(
                key.clone(),
                Posted {
                    name,
                    count: 1,
                    last: now,
                },
            )
            .is_none()
        {
            self.posted_order.push_back(key);
        }
        while self.posted_order.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.posted_order.pop_front() {
                self.posted.remove(&oldest);
            }
        }
    }

    /// `<object>.<hexadecimal nanoseconds>`, different each time.
    pub(super) fn name(&mut self, object: &str, now: Timestamp) -> String {
        self.last_nanos = now.as_nanosecond().max(self.last_nanos + 1);
        format!("{object}.{:x}", self.last_nanos)
    }

    fn take_token(&mut self, posting: &Posting, now: Timestamp) -> bool {
        if self.tokens.len() > REMEMBERED_MAX {
            self.tokens
                .retain(|_, (_, last)| now.as_second() - last.as_second() < REPEAT_SECONDS_MAX);
        }
        let about = &posting.draft.regarding;
        let object = if about.uid.is_empty() {
            format!("{}/{}", about.kind, about.name)
        } else {
            about.uid.clone()
        };
        let (tokens, last) = self.tokens.entry((posting.component, object)).or_insert((BURST, now));
        let elapsed = now.duration_since(*last).as_secs_f64().max(0.0);
        *tokens = (*tokens + elapsed / REFILL_SECONDS).min(BURST);
        *last = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Style;
    use skiff_controllers::{EventDraft, Regarding};

    fn posting(uid: &str, message: &str) -> Posting {
        let regarding = Regarding {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: "d".into(),
            name: "a".into(),
            uid: uid.into(),
            resource_version: String::new(),
        };
        let draft = EventDraft {
            regarding,
            warning: false,
            reason: "R",
            message: message.into(),
        };
        Posting {
            component: "c",
            style: Style::Source,
            draft,
        }
    }

    #[test]
    fn a_repeat_is_counted_until_it_is_too_old() {
        let mut correlator = Correlator::default();
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let one = posting("1", "m");
        assert_eq!(correlator.judge(&one, now), Verdict::Post);
        correlator.posted(&one, "a.1".into(), now);
        assert_eq!(
            correlator.judge(&one, now),
            Verdict::Count {
                name: "a.1".into(),
                count: 2
            }
        );
        assert_eq!(correlator.judge(&posting("1", "other"), now), Verdict::Post);
        assert_eq!(correlator.judge(&posting("2", "m"), now), Verdict::Post);
        let later = now.checked_add(std::time::Duration::from_secs(601)).unwrap();
        assert_eq!(correlator.judge(&one, later), Verdict::Post);
    }

    #[test]
    fn a_flood_about_one_object_is_cut_off() {
        let mut correlator = Correlator::default();
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let kept = (0..100)
            .filter(|i| correlator.judge(&posting("1", &i.to_string()), now) == Verdict::Post)
            .count();
        assert_eq!(kept, 25);
        assert_eq!(correlator.judge(&posting("2", "m"), now), Verdict::Post);
    }

    #[test]
    fn names_differ_within_one_nanosecond() {
        let mut correlator = Correlator::default();
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        assert_ne!(correlator.name("a", now), correlator.name("a", now));
    }
}
