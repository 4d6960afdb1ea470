//! The whole system in one thread from one seed: real controllers, scheduler cycle and pod lifecycle over an API server
//! and runtimes in memory. Chance delivers, delays, cuts, crashes; the invariants are checked after every move.
//!
//! `SKIFF_SIM_SEED=17 cargo test -p skiff-tests --test sim` plays one seed and prints its moves.

#![allow(clippy::unwrap_used, reason = "tests")]

mod api;
mod checks;
mod ledger;
mod machine;
mod manager;
mod perform;
mod pods;
mod rng;
mod scenarios;
mod scheduler;
mod settle;
mod user;
mod worker;
mod world;

use world::{Mutation, World};

/// Seeds of every run.
const SEEDS: u64 = 300;
/// Moves before the faults stop.
const MOVES: usize = 400;
/// Seeds within which a bug that was put in has to be found.
const SEEDS_FOR_BUGS: u64 = 60;
/// Last moves that a failure prints.
const SHOWN: usize = 60;

/// Plays one seed; a failure as text.
fn play(seed: u64, mutation: Option<Mutation>) -> Result<World, String> {
    let mut world = World::new(seed, mutation);
    // Some runs begin with an empty cluster, most with one at work.
    if !seed.is_multiple_of(3) {
        world.settle();
    }
    for _ in 0..MOVES {
        world.step();
        if !world.breaches.is_empty() {
            return Err(told(seed, &world, "moves"));
        }
    }
    world.log.push("the faults stop".to_owned());
    for node in 0..world.machines.len() {
        world.cordon(&format!("node-{node}"), false);
    }
    world.settle();
    if world.breaches.is_empty() {
        Ok(world)
    } else {
        Err(told(seed, &world, "at the end"))
    }
}

fn told(seed: u64, world: &World, when: &str) -> String {
    let all = std::env::var_os("SKIFF_SIM_SEED").is_some();
    let skipped = if all { 0 } else { world.log.len().saturating_sub(SHOWN) };
    let moves: Vec<String> = world
        .log
        .iter()
        .enumerate()
        .skip(skipped)
        .map(|(index, text)| format!("{index:5} {text}"))
        .collect();
    format!(
        "SKIFF_SIM_SEED={seed} ({when}):\n{}\n{}",
        moves.join("\n"),
        world.breaches.join("\n")
    )
}

fn play_all(seeds: impl Iterator<Item = u64>) {
    if let Some(seed) = std::env::var("SKIFF_SIM_SEED").ok().and_then(|text| text.parse().ok()) {
        let world = play(seed, None).unwrap_or_else(|failure| panic!("{failure}"));
        println!("{}", world.log.join("\n"));
        return;
    }
    let failures: Vec<String> = seeds.filter_map(|seed| play(seed, None).err()).collect();
    let whys: Vec<&str> = failures.iter().filter_map(|failure| failure.lines().last()).collect();
    assert!(
        failures.is_empty(),
        "{} seeds fail: {whys:#?}\nthe first is {}",
        failures.len(),
        failures[0]
    );
}

#[test]
fn whatever_happens_it_converges_and_stays() {
    play_all((0..SEEDS).filter(|seed| seed.is_multiple_of(2)));
}

#[test]
fn with_standbys_that_take_over_and_gates_that_give_up_too() {
    play_all((0..SEEDS).filter(|seed| !seed.is_multiple_of(2)));
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (one, two) = (play(4, None).unwrap(), play(4, None).unwrap());
    assert_eq!(one.log, two.log);
    assert_eq!(one.api.revision, two.api.revision);
}

#[test]
fn bugs_that_are_put_in_are_found() {
    for (bug, words) in [
        (Mutation::BindsWithoutCompare, ["bound twice", "is over:"]),
        (
            Mutation::CollectsFromStaleCache,
            ["collected though its owner is there", "its owner is there"],
        ),
        (Mutation::AgentForgets, ["restarts to", "lives again"]),
    ] {
        let found = (0..SEEDS_FOR_BUGS).find_map(|seed| play(seed, Some(bug)).err());
        let found = found.unwrap_or_else(|| panic!("{bug:?} is not found"));
        assert!(
            words.iter().any(|word| found.contains(word)),
            "{bug:?} is found for another reason: {found}"
        );
    }
}
