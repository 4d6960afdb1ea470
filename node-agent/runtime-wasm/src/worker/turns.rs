//! Whose guests may be on a core: weighted fair shares between the containers of a worker, decided purely.
//!
//! Every container has a weight, from its CPU request as the kernel's `cpu.shares` has it, and a virtual time: the CPU time that
//! it used while others wanted the core, divided by its weight. Whoever is furthest behind goes first. Time that nobody
//! else wanted is free. A container that is behind all who wait runs at once, even beyond the number of cores: the
//! kernel then takes the core from a command, so that a server which uses little answers without waiting for a tick.

use std::collections::{BTreeSet, VecDeque};

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

struct Share {
    weight: u64,
    /// Nanoseconds of contended CPU time times [`CORE_WEIGHT`] over `weight`.
    used: u64,
    /// Its guests that wait, in order.
    waiting: VecDeque<Ticket>,
}

impl Share {
    fn virtually(&self, nanos: u64) -> u64 {
        nanos.saturating_mul(CORE_WEIGHT) / self.weight
    }
}

/// The state: no clock, no threads.
///
/// A core that is left is not handed over, which would leave it idle until the next guest is awake: whoever is first in
/// order is called, and meanwhile another that is no worse may take it.
pub(super) struct Turns {
    cores: usize,
    /// Stays on a core now; more than `cores` while somebody who is behind goes before.
    running: usize,
    /// Virtual time that those who wait have come to; newcomers start here.
    frontier: u64,
    /// By the container's number; None = free.
    shares: Vec<Option<Share>>,
    /// Containers with guests that wait, by virtual time.
    order: BTreeSet<(u64, usize)>,
    tickets: u64,
}

impl Turns {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            cores: cores.max(1),
            running: 0,
            frontier: 0,
            shares: Vec::new(),
            order: BTreeSet::new(),
            tickets: 0,
        }
    }

    /// A new container; returns its number.
    pub(super) fn add(&mut self, weight: u64) -> usize {
        let share = Some(Share {
            weight: weight.max(WEIGHT_MIN),
            used: self.frontier,
            waiting: VecDeque::new(),
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

    fn set_used(&mut self, container: usize, used: u64) {
        let share = self.share(container);
        let before = std::mem::replace(&mut share.used, used);
        if !share.waiting.is_empty() && before != used {
            self.order.remove(&(before, container));
            self.order.insert((used, container));
        }
    }

    fn is_first(&self, used: u64) -> bool {
        self.order.first().is_none_or(|(first, _)| used <= *first)
    }

    /// One guest of the container wants a core. True if it has it; else it waits ([`Turns::wait`]).
    pub(super) fn enter(&mut self, container: usize) -> bool {
        let frontier = self.frontier;
        let share = self.share(container);
        let used = share
            .used
            .max(frontier.saturating_sub(share.virtually(IDLE_CREDIT_NANOS)));
        self.set_used(container, used);
        let may = used < frontier || (self.running < self.cores && self.is_first(used));
        self.running += usize::from(may);
        may
    }

    /// A place in the queue.
    pub(super) fn wait(&mut self, container: usize) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let share = self.share(container);
        share.waiting.push_back(ticket);
        let place = (share.used, container);
        self.order.insert(place);
        ticket
    }

    /// One that waits wants to go on; `called`: it was told so. True if it has a core now and waits no more.
    pub(super) fn claim(&mut self, container: usize, ticket: Ticket, called: bool) -> bool {
        let used = self.share(container).used;
        let may = self.running < self.cores && (called || self.is_first(used));
        if may {
            let first = self.order.first().map_or(used, |(first, _)| *first);
            self.frontier = self.frontier.max(first);
            self.cancel(container, ticket);
            self.running += 1;
        }
        may
    }

    /// Takes back a place in the queue.
    pub(super) fn cancel(&mut self, container: usize, ticket: Ticket) {
        let share = self.share(container);
        share.waiting.retain(|waiting| *waiting != ticket);
        if share.waiting.is_empty() {
            let place = (share.used, container);
            self.order.remove(&place);
        }
    }

    /// A guest of the container leaves its core after `nanos` of CPU time and wants none for now.
    pub(super) fn leave(&mut self, container: usize, nanos: u64) {
        self.charge(container, nanos);
        self.running -= 1;
    }

    /// Whose turn it is: the first of those who wait, as many as cores are free.
    pub(super) fn next(&self) -> Vec<Ticket> {
        let free = self.cores.saturating_sub(self.running);
        let waiting = self
            .order
            .iter()
            .filter_map(|(_, container)| self.shares[*container].as_ref());
        waiting
            .flat_map(|share| share.waiting.iter().copied())
            .take(free)
            .collect()
    }

    /// A guest was interrupted after `nanos` and wants to go on. Returns its place, and whose turn it is: its own, maybe.
    ///
    /// `delayed`: the kernel had its thread wait meanwhile. Such a thread is left to somebody else, and the guest goes on
    /// with the next one that is free: else it would stay behind on the slower thread for good.
    pub(super) fn interrupted(&mut self, container: usize, nanos: u64, delayed: bool) -> (Ticket, Vec<Ticket>) {
        self.leave(container, nanos);
        let others = if delayed { self.next() } else { Vec::new() };
        let ticket = self.wait(container);
        let next = if others.is_empty() { self.next() } else { others };
        (ticket, next)
    }

    fn charge(&mut self, container: usize, nanos: u64) {
        // Time that nobody else wanted is free.
        if self.running <= self.cores && self.order.is_empty() {
            return;
        }
        let frontier = self.frontier;
        let share = self.share(container);
        let used = share.used + share.virtually(nanos);
        // Who gets all that it can take although it is behind saves nothing up for later.
        let least = frontier.saturating_sub(share.virtually(RUNNING_CREDIT_NANOS));
        self.set_used(container, used.max(least));
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
                true => on_core.push_back(index),
                false => holders.push((turns.wait(*number), index)),
            }
        }
        for _ in 0..ticks * cores as u64 {
            let index = on_core.pop_front().expect("somebody runs");
            got[index] += 1;
            let (ticket, called) = turns.interrupted(numbers[index], TICK, false);
            holders.push((ticket, index));
            for ticket in called {
                let at = holders.iter().position(|(held, _)| *held == ticket).expect("known");
                let index = holders.swap_remove(at).1;
                assert!(turns.claim(numbers[index], ticket, true));
                on_core.push_back(index);
            }
            assert_eq!(on_core.len(), cores, "no core is idle, and nobody here is behind");
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
            assert!(turns.enter(old) && turns.enter(small));
            turns.leave(old, TICK);
            turns.leave(small, TICK);
        }
        // The third of equal weight has no more right than the first.
        assert_eq!(turns.share(old).used, 0);
        assert_eq!(turns.share(small).used, 0);
    }

    /// The only core goes back and forth between two spinners for so many ticks.
    fn alternate(turns: &mut Turns, spinners: [usize; 2], ticks: usize) {
        assert!(turns.enter(spinners[0]) && !turns.enter(spinners[1]));
        let mut waiting = turns.wait(spinners[1]);
        let mut running = 0;
        for _ in 0..ticks {
            let (ticket, called) = turns.interrupted(spinners[running], TICK, false);
            let [next] = called[..] else { panic!("one core") };
            if next != ticket {
                assert_eq!(next, waiting);
                waiting = ticket;
                running = 1 - running;
            }
            assert!(turns.claim(spinners[running], next, true));
        }
    }

    #[test]
    fn who_used_little_goes_before_spinners_at_once_and_who_used_much_waits() {
        let mut turns = Turns::new(1);
        let server = turns.add(1024);
        let spinners = [turns.add(1024), turns.add(1024)];
        alternate(&mut turns, spinners, 20);
        assert!(turns.enter(server), "it is ten ticks behind");
        turns.leave(server, 12 * TICK);
        assert!(turns.next().is_empty(), "the core is still taken");
        assert!(!turns.enter(server), "it has had more than they");
    }

    #[test]
    fn a_free_core_goes_to_whoever_is_no_worse_than_those_called() {
        let mut turns = Turns::new(1);
        let [server, other] = [0; 2].map(|_| turns.add(1024));
        assert!(turns.enter(server) && !turns.enter(server));
        let second = turns.wait(server);
        turns.leave(server, TICK);
        assert_eq!(turns.next(), [second]);
        // A third request is on a thread that is awake; the second is called in vain, and again later.
        assert!(turns.enter(server));
        assert!(!turns.claim(server, second, true));
        assert!(!turns.enter(other));
        let third = turns.wait(other);
        turns.leave(server, TICK);
        // The server has used more by now.
        assert_eq!(turns.next(), [third]);
        assert!(!turns.enter(server) && turns.claim(other, third, true));
        turns.leave(other, 0);
        assert!(turns.claim(server, second, false), "it is the first");
    }

    #[test]
    fn who_was_delayed_goes_on_elsewhere() {
        let mut turns = Turns::new(2);
        let [slow, fast, other] = [0; 3].map(|_| turns.add(1024));
        assert!(turns.enter(slow) && turns.enter(fast) && !turns.enter(other));
        let waiting = turns.wait(other);
        // It is the furthest behind and would keep its place.
        turns.charge(other, TICK);
        let (ticket, called) = turns.interrupted(slow, TICK / 2, true);
        assert_eq!(called, [waiting]);
        assert!(turns.claim(other, waiting, true));
        assert_eq!(turns.interrupted(fast, 5 * TICK, false).1, [ticket]);
    }

    #[test]
    fn a_ticket_taken_back_is_never_called() {
        let mut turns = Turns::new(1);
        let [first, second] = [turns.add(2), turns.add(2)];
        assert!(turns.enter(first) && !turns.enter(second));
        let ticket = turns.wait(second);
        turns.cancel(second, ticket);
        turns.remove(second);
        turns.leave(first, TICK);
        assert!(turns.next().is_empty() && turns.order.is_empty());
    }

    #[test]
    fn requests_give_the_kernels_weights() {
        assert_eq!(
            [weight(None), weight(Some(1)), weight(Some(100)), weight(Some(2000))],
            [2, 2, 102, 2048]
        );
    }
}
