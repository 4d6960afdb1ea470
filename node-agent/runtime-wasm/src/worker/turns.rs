//! Whose guests may be on a core: weighted fair shares between the containers of a worker, decided purely.
//!
//! Every container has a weight, from its CPU request as the kernel's `cpu.shares` has it, and a virtual time: the CPU time that
//! it used while others wanted the core, divided by its weight. Whoever is furthest behind goes first. Time that nobody
//! else wanted is free. A container that is behind all who wait runs at once, even beyond the number of cores: the
//! kernel then takes the core from a command, so that a server which uses little answers without waiting for a tick.

use std::collections::BTreeSet;

/// Weight of a whole core, and of a container without a request (the kernel's `cpu.shares`; MinShares of kubelet).
const CORE_WEIGHT: u64 = 1024;
const WEIGHT_MIN: u64 = 2;
/// CPU time, in nanoseconds, that a container which wanted nothing for a while may catch up with before it waits its turn.
const IDLE_CREDIT_NANOS: u64 = 20_000_000;
/// The same for one that wants the core all the time: longer than a busy kernel keeps its thread waiting.
const RUNNING_CREDIT_NANOS: u64 = 1_000_000_000;

/// The weight that a CPU request gives.
pub(super) fn weight(request_millis: Option<u64>) -> u64 {
    (request_millis.unwrap_or(0).saturating_mul(CORE_WEIGHT) / 1000).max(WEIGHT_MIN)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// When [`Turns::leave`] or [`Turns::interrupted`] returns this ticket.
    Wait(Ticket),
}

struct Share {
    weight: u64,
    /// Nanoseconds of contended CPU time times [`CORE_WEIGHT`] over `weight`.
    used: u64,
}

impl Share {
    fn virtually(&self, nanos: u64) -> u64 {
        nanos.saturating_mul(CORE_WEIGHT) / self.weight
    }

    fn save_up_at_most(&mut self, nanos: u64, frontier: u64) {
        self.used = self.used.max(frontier.saturating_sub(self.virtually(nanos)));
    }
}

/// The state: no clock, no threads.
pub(super) struct Turns {
    cores: usize,
    /// Stays on a core now; more than `cores` while somebody who is behind goes before.
    running: usize,
    /// Virtual time that those who wait have come to; newcomers start here.
    frontier: u64,
    /// By the container's number; None = free.
    shares: Vec<Option<Share>>,
    /// Virtual time when the wait began (a lower bound of the container's by now), ticket, container.
    waiting: BTreeSet<(u64, Ticket, usize)>,
    tickets: u64,
}

impl Turns {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            cores: cores.max(1),
            running: 0,
            frontier: 0,
            shares: Vec::new(),
            waiting: BTreeSet::new(),
            tickets: 0,
        }
    }

    /// A new container; returns its number.
    pub(super) fn add(&mut self, weight: u64) -> usize {
        let share = Some(Share {
            weight: weight.max(WEIGHT_MIN),
            used: self.frontier,
        });
        match self.shares.iter().position(Option::is_none) {
            Some(free) => {
                self.shares[free] = share;
                free
            }
            None => {
                self.shares.push(share);
                self.shares.len() - 1
            }
        }
    }

    /// Forgets a container that neither runs nor waits.
    pub(super) fn remove(&mut self, container: usize) {
        self.shares[container] = None;
    }

    fn share(&mut self, container: usize) -> &mut Share {
        self.shares[container]
            .as_mut()
            .expect("a container is added before it asks, and removed after")
    }

    /// One guest of the container wants a core.
    pub(super) fn enter(&mut self, container: usize) -> Turn {
        let (frontier, free) = (self.frontier, self.running < self.cores && self.waiting.is_empty());
        let share = self.share(container);
        share.save_up_at_most(IDLE_CREDIT_NANOS, frontier);
        let used = share.used;
        if free || used < frontier {
            self.running += 1;
            return Turn::Now;
        }
        // No core is free while somebody waits, so there is nothing to grant.
        Turn::Wait(self.wait(container, used))
    }

    /// A guest of the container leaves its core after `nanos` of CPU time and wants none for now. Returns whose turn it is,
    /// if anybody waits.
    pub(super) fn leave(&mut self, container: usize, nanos: u64) -> Option<Ticket> {
        self.charge(container, nanos);
        self.running -= 1;
        self.grant()
    }

    /// A guest was interrupted after `nanos` and wants to go on. Returns its turn, and whose else it is.
    ///
    /// `delayed`: the kernel had its thread wait meanwhile. Such a thread is handed to somebody else, and the guest goes on
    /// with the next one that is free: else it would stay behind on the slower thread for good.
    pub(super) fn interrupted(&mut self, container: usize, nanos: u64, delayed: bool) -> (Turn, Option<Ticket>) {
        self.charge(container, nanos);
        self.running -= 1;
        if delayed && let Some(other) = self.grant() {
            let used = self.share(container).used;
            return (Turn::Wait(self.wait(container, used)), Some(other));
        }
        let (frontier, used) = (self.frontier, self.share(container).used);
        let first = match self.waiting.first() {
            _ if self.running >= self.cores => used < frontier,
            Some((since, ..)) => used <= *since,
            None => true,
        };
        if first {
            self.running += 1;
            return (Turn::Now, None);
        }
        let ticket = self.wait(container, used);
        match self.grant() {
            Some(granted) if granted == ticket => (Turn::Now, None),
            other => (Turn::Wait(ticket), other),
        }
    }

    fn charge(&mut self, container: usize, nanos: u64) {
        // Time that nobody else wanted is free.
        if self.running + self.waiting.len() <= self.cores {
            return;
        }
        let frontier = self.frontier;
        let share = self.share(container);
        share.used += share.virtually(nanos);
        // Who gets all that it can take although it is behind saves nothing up for later.
        share.save_up_at_most(RUNNING_CREDIT_NANOS, frontier);
    }

    fn wait(&mut self, container: usize, used: u64) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert((used, ticket, container));
        ticket
    }

    /// Takes back a ticket that was not granted.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.waiting.retain(|(_, waiting, _)| *waiting != ticket);
    }

    fn grant(&mut self) -> Option<Ticket> {
        while self.running < self.cores {
            let (since, ticket, container) = self.waiting.pop_first()?;
            let used = self.share(container).used;
            if since < used {
                // Another guest of the same container ran meanwhile.
                self.waiting.insert((used, ticket, container));
                continue;
            }
            self.running += 1;
            self.frontier = self.frontier.max(used);
            return Some(ticket);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const TICK: u64 = 1_000_000;

    /// Spinners of these weights on so many cores for so many ticks. Returns the ticks that each had.
    fn spin(cores: usize, weights: &[u64], ticks: u64) -> Vec<u64> {
        let mut turns = Turns::new(cores);
        let numbers: Vec<_> = weights.iter().map(|weight| turns.add(*weight)).collect();
        let mut got = vec![0; weights.len()];
        let mut holders: Vec<(Ticket, usize)> = Vec::new();
        let mut on_core = VecDeque::new();
        for (index, number) in numbers.iter().enumerate() {
            match turns.enter(*number) {
                Turn::Now => on_core.push_back(index),
                Turn::Wait(ticket) => holders.push((ticket, index)),
            }
        }
        for _ in 0..ticks * cores as u64 {
            let index = on_core.pop_front().expect("somebody runs");
            got[index] += 1;
            let (turn, granted) = turns.interrupted(numbers[index], TICK, false);
            match turn {
                Turn::Now => on_core.push_back(index),
                Turn::Wait(ticket) => holders.push((ticket, index)),
            }
            if let Some(ticket) = granted {
                let at = holders.iter().position(|(held, _)| *held == ticket).expect("known");
                on_core.push_back(holders.swap_remove(at).1);
            }
            assert!(on_core.len() <= cores, "nobody here is behind");
        }
        got
    }

    fn shares(cores: usize, weights: &[u64]) -> Vec<i64> {
        let ticks = 10_000;
        let got = spin(cores, weights, ticks);
        got.iter().map(|got| (got * 1000 / ticks) as i64).collect()
    }

    fn assert_near(got: &[i64], wanted: &[i64]) {
        let near = got
            .iter()
            .zip(wanted)
            .all(|(got, wanted)| (got - wanted).abs() <= 5.max(wanted / 50));
        assert!(near, "{got:?} instead of {wanted:?}");
    }

    #[test]
    fn cores_are_shared_by_weight() {
        assert_near(&shares(2, &[1024, 1024, 512, 512]), &[667, 667, 333, 333]);
        assert_near(&shares(2, &[500, 300, 200, 100]), &[909, 545, 364, 182]);
        assert_near(&shares(1, &[1024, 512, 256]), &[571, 286, 143]);
        assert_near(&shares(2, &[2; 20]), &[100; 20]);
    }

    #[test]
    fn a_weight_that_one_core_cannot_serve_leaves_the_others_in_proportion() {
        assert_near(&shares(2, &[8192, 1024, 512, 512]), &[1000, 500, 250, 250]);
    }

    #[test]
    fn uncontended_time_is_free() {
        let mut turns = Turns::new(2);
        let (old, small) = (turns.add(1024), turns.add(2));
        for _ in 0..1000 {
            assert_eq!((turns.enter(old), turns.enter(small)), (Turn::Now, Turn::Now));
            assert_eq!((turns.leave(old, TICK), turns.leave(small, TICK)), (None, None));
        }
        // The third of equal weight has no more right than the first.
        assert_eq!(turns.shares[old].as_ref().map(|share| share.used), Some(0));
        assert_eq!(turns.shares[small].as_ref().map(|share| share.used), Some(0));
    }

    #[test]
    fn who_used_little_goes_before_spinners_at_once_and_who_used_much_waits() {
        let mut turns = Turns::new(1);
        let server = turns.add(1024);
        let spinners = [turns.add(1024), turns.add(1024)];
        assert_eq!(turns.enter(spinners[0]), Turn::Now);
        let mut waiting = turns.enter(spinners[1]);
        let mut running = 0;
        for _ in 0..20 {
            let (turn, granted) = turns.interrupted(spinners[running], TICK, false);
            if let Some(ticket) = granted {
                assert_eq!(Turn::Wait(ticket), waiting);
                waiting = turn;
                running = 1 - running;
            }
        }
        assert_eq!(turns.enter(server), Turn::Now, "it is ten ticks behind");
        assert_eq!(turns.leave(server, 12 * TICK), None, "the core is still taken");
        assert!(
            matches!(turns.enter(server), Turn::Wait(_)),
            "it has had more than they"
        );
    }

    #[test]
    fn who_was_delayed_goes_on_elsewhere() {
        let mut turns = Turns::new(2);
        let [slow, fast, other] = [0; 3].map(|_| turns.add(1024));
        assert_eq!([turns.enter(slow), turns.enter(fast)], [Turn::Now, Turn::Now]);
        let Turn::Wait(waiting) = turns.enter(other) else {
            panic!("two cores")
        };
        assert_eq!(turns.interrupted(fast, 5 * TICK, false).1, Some(waiting));
        let Turn::Wait(_) = turns.enter(fast) else {
            panic!("two cores")
        };
        // It is the furthest behind and would keep its place.
        let (turn, next) = turns.interrupted(slow, TICK, true);
        assert!(next.is_some());
        assert_eq!(Some(turn), turns.interrupted(other, 5 * TICK, false).1.map(Turn::Wait));
    }

    #[test]
    fn a_ticket_taken_back_is_never_granted() {
        let mut turns = Turns::new(1);
        let [first, second] = [turns.add(2), turns.add(2)];
        assert_eq!(turns.enter(first), Turn::Now);
        let Turn::Wait(ticket) = turns.enter(second) else {
            panic!("one core")
        };
        turns.cancel(ticket);
        turns.remove(second);
        assert_eq!(turns.leave(first, TICK), None);
    }

    #[test]
    fn requests_give_the_kernels_weights() {
        assert_eq!(
            [weight(None), weight(Some(1)), weight(Some(100)), weight(Some(2000))],
            [2, 2, 102, 2048]
        );
    }
}
