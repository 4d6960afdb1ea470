//! The cores of a worker: a guest's future is polled only while it holds one. Who gets one is decided by [`Turns`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::turns::{Ticket, Turns};

/// Shared by all containers of a worker.
pub(crate) struct Cores(Mutex<State>);

struct State {
    turns: Turns,
    waiters: HashMap<Ticket, Waiter>,
}

#[derive(Default)]
struct Waiter {
    called: bool,
    waker: Option<Waker>,
}

impl State {
    /// Calls these; whoever was called already is awake. The caller wakes them after unlocking.
    fn call(&mut self, tickets: Vec<Ticket>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for ticket in tickets {
            if let Some(waiter) = self.waiters.get_mut(&ticket)
                && !waiter.called
            {
                waiter.called = true;
                wakers.extend(waiter.waker.take());
            }
        }
        wakers
    }

    fn call_next(&mut self) -> Vec<Waker> {
        let next = self.turns.next();
        self.call(next)
    }
}

impl Cores {
    pub(crate) fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            turns: Turns::new(cores),
            waiters: HashMap::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic happens while the cores are held")
    }
}

/// One container's membership; what its guests claim cores with.
pub(super) struct Member {
    cores: Arc<Cores>,
    container: usize,
}

impl Member {
    /// `weight` as [`super::turns::weight`] gives it.
    pub(super) fn new(cores: Arc<Cores>, weight: u64) -> Self {
        let container = cores.state().turns.add(weight);
        Self { cores, container }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.cores.state().turns.remove(self.container);
    }
}

enum Held {
    Nothing,
    Ticket(Ticket),
    Core,
}

/// One guest's claim. Dropped in whatever state, it leaves nothing behind.
pub(super) struct Claim<'a> {
    member: &'a Member,
    held: Held,
}

impl<'a> Claim<'a> {
    pub(super) fn new(member: &'a Member) -> Self {
        Self {
            member,
            held: Held::Nothing,
        }
    }

    /// Ready when the guest may run.
    pub(super) fn poll_core(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let container = self.member.container;
        let state = &mut *self.member.cores.state();
        let ticket = match self.held {
            Held::Core => return Poll::Ready(()),
            Held::Ticket(ticket) => ticket,
            Held::Nothing => {
                if state.turns.enter(container) {
                    self.held = Held::Core;
                    return Poll::Ready(());
                }
                let ticket = state.turns.wait(container);
                self.held = Held::Ticket(ticket);
                ticket
            }
        };
        let waiter = state.waiters.entry(ticket).or_default();
        if state.turns.claim(container, ticket, waiter.called) {
            state.waiters.remove(&ticket);
            self.held = Held::Core;
            return Poll::Ready(());
        }
        waiter.called = false;
        waiter.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The guest left its core after `nanos` and waits for something else.
    pub(super) fn leave(&mut self, nanos: u64) {
        self.held = Held::Nothing;
        let wakers = {
            let mut state = self.member.cores.state();
            state.turns.leave(self.member.container, nanos);
            state.call_next()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Gives up what is held; nothing was used of it.
    pub(super) fn give_up(&mut self) {
        let wakers = match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => return,
            Held::Core => return self.leave(0),
            Held::Ticket(ticket) => {
                let mut state = self.member.cores.state();
                state.waiters.remove(&ticket);
                state.turns.cancel(self.member.container, ticket);
                // It may have been called for a core that is free.
                state.call_next()
            }
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The guest was interrupted after `nanos`, is awake already and goes on when its turn comes. `delayed` as
    /// [`Turns::interrupted`] has it.
    pub(super) fn interrupted(&mut self, nanos: u64, delayed: bool) {
        let wakers = {
            let mut state = self.member.cores.state();
            let (ticket, next) = state.turns.interrupted(self.member.container, nanos, delayed);
            state.waiters.insert(ticket, Waiter::default());
            self.held = Held::Ticket(ticket);
            state.call(next)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(claim: &mut Claim<'_>) -> bool {
        claim.poll_core(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_core_goes_to_the_next_whatever_becomes_of_its_holder() {
        let cores = Cores::new(1);
        let members: Vec<_> = (0..3).map(|_| Member::new(cores.clone(), 2)).collect();
        let [mut first, mut second, mut third] = [0, 1, 2].map(|index| Claim::new(&members[index]));
        assert!(poll(&mut first) && !poll(&mut second) && !poll(&mut third));
        // Ended while on a core; then while its turn had come already.
        drop(first);
        drop(second);
        assert!(poll(&mut third));
        third.leave(5);
        let mut again = Claim::new(&members[1]);
        assert!(poll(&mut again));
        assert!(cores.state().waiters.is_empty());
    }

    #[test]
    fn who_gives_up_keeps_neither_a_core_nor_a_place() {
        let cores = Cores::new(1);
        let members: Vec<_> = (0..3).map(|_| Member::new(cores.clone(), 2)).collect();
        let [mut first, mut second, mut third] = [0, 1, 2].map(|index| Claim::new(&members[index]));
        assert!(poll(&mut first) && !poll(&mut second) && !poll(&mut third));
        second.give_up();
        first.give_up();
        assert!(poll(&mut third));
        third.give_up();
        assert!(poll(&mut second), "it may ask again");
        assert_eq!(cores.state().waiters.len(), 0);
    }

    #[test]
    fn an_interrupted_guest_hands_over_and_waits() {
        let cores = Cores::new(1);
        let members: Vec<_> = (0..2).map(|_| Member::new(cores.clone(), 1024)).collect();
        let [mut first, mut second] = [0, 1].map(|index| Claim::new(&members[index]));
        assert!(poll(&mut first) && !poll(&mut second));
        first.interrupted(1_000_000, false);
        assert!(!poll(&mut first) && poll(&mut second));
        second.interrupted(1_500_000, false);
        assert!(poll(&mut first), "it had less");
        drop(first);
        assert!(poll(&mut second));
    }
}
