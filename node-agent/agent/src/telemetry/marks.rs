//! Rates out of counters: each counter is marked now and then, and its rate is taken since a mark that is old enough to
//! give a steady figure and young enough to be about now. Pure.

use std::collections::HashMap;

use super::reading::Reading;

/// A window below this is taken only when nothing older is known.
const WINDOW_MIN_NANOS: u64 = 10_000_000_000;
/// A container that is not read is remembered this long: one missed answer must not turn the next rate into an average
/// since the start.
const KEPT_NANOS: u64 = 120_000_000_000;
/// Below this a counter's last step weighs too much.
const WINDOW_LEAST_NANOS: u64 = 1_000_000_000;

/// A counter's value at a moment of the monotonic clock; both in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) value: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    newer: Option<Mark>,
    older: Option<Mark>,
}

/// A rate in billionths (for CPU time: nanocores), and the window that it was taken over in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) nanos: u64,
    pub(crate) window: u64,
}

/// The marks of the node and of every running container, by container id; of one that is not read for a while as well.
#[derive(Default)]
pub(super) struct Marks {
    node: Pair,
    containers: HashMap<String, Pair>,
}

impl Marks {
    /// Marks everything that runs. What ended is forgotten at once, what was not read after `KEPT_NANOS`.
    pub(super) fn mark(&mut self, reading: &Reading) {
        self.node.push(reading.node_mark());
        let mut marked = HashMap::with_capacity(self.containers.len());
        for container in reading.containers() {
            let usage = &container.usage;
            let known = self.containers.remove_entry(&usage.id);
            if !usage.running {
                continue;
            }
            let (id, mut pair) = known.unwrap_or_else(|| (usage.id.clone(), Pair::default()));
            pair.push(Mark {
                at: usage.read_nanos,
                value: usage.figures.cpu_nanos,
            });
            marked.insert(id, pair);
        }
        let unread = std::mem::replace(&mut self.containers, marked);
        let is_young = |mark: Mark| reading.now.nanos.saturating_sub(mark.at) <= KEPT_NANOS;
        self.containers
            .extend(unread.into_iter().filter(|(_, pair)| pair.newer.is_some_and(is_young)));
    }

    pub(super) fn node(&self, now: Mark) -> Rate {
        // Counted since the machine came up.
        self.node.rate(now, 0)
    }

    /// The rate of a container that started at `started` with its counter at 0.
    pub(super) fn container(&self, id: &str, now: Mark, started: u64) -> Rate {
        let pair = self.containers.get(id).copied().unwrap_or_default();
        pair.rate(now, started)
    }
}

impl Pair {
    fn push(&mut self, mark: Mark) {
        self.older = self.newer.replace(mark);
    }

    fn rate(&self, now: Mark, started: u64) -> Rate {
        let at_least = |nanos: u64| self.newer.filter(|mark| now.at.saturating_sub(mark.at) >= nanos);
        let start = Mark { at: started, value: 0 };
        let since = at_least(WINDOW_MIN_NANOS)
            .or(self.older)
            .or_else(|| at_least(WINDOW_LEAST_NANOS))
            .unwrap_or(start);
        // What started a moment ago has not had a second yet.
        let window = now.at.saturating_sub(since.at).max(WINDOW_LEAST_NANOS);
        let grown = u128::from(now.value.saturating_sub(since.value));
        Rate {
            nanos: u64::try_from(grown * 1_000_000_000 / u128::from(window)).unwrap_or(u64::MAX),
            window,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn mark(seconds: u64, value_millis: u64) -> Mark {
        Mark {
            at: seconds * SECOND,
            value: value_millis * 1_000_000,
        }
    }

    /// Millicores and seconds of a rate.
    fn told(pair: Pair, now: Mark) -> (u64, u64) {
        let rate = pair.rate(now, 5 * SECOND);
        (rate.nanos / 1_000_000, rate.window / SECOND)
    }

    #[test]
    fn the_window_is_the_shortest_of_ten_seconds_or_more() {
        let mut pair = Pair::default();
        // Nothing marked: since the start at second 5.
        assert_eq!(told(pair, mark(25, 1000)), (50, 20));
        pair.push(mark(100, 1000));
        // Too short a time ago to be better than the start: then since the start.
        assert_eq!(told(pair, mark(100, 1900)).1, 95);
        assert_eq!(told(pair, mark(102, 1200)), (100, 2));
        pair.push(mark(115, 2000));
        assert_eq!(told(pair, mark(120, 3000)), (100, 20));
        assert_eq!(told(pair, mark(125, 3000)), (100, 10));
    }

    #[test]
    fn a_container_of_this_moment_has_a_whole_second() {
        let now = Mark {
            at: 5 * SECOND + 1000,
            value: 1000,
        };
        assert_eq!(
            Pair::default().rate(now, 5 * SECOND),
            Rate {
                nanos: 1000,
                window: SECOND
            }
        );
        // A clock or counter that goes back is no reason to panic.
        let odd = Pair::default().rate(Mark { at: 1, value: 0 }, 5 * SECOND);
        assert_eq!(odd.nanos, 0);
    }
}
