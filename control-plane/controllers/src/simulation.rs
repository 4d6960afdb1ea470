//! A small world with seeds: deployments and replica sets over an object map, with crashes after each action, stale
//! caches, wakes that are lost, and pods that start, fail and end in any order. It always converges.

mod world;

use proptest::prelude::*;

use self::world::{Move, Simulation};
use crate::invariants;

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(key, crash)| Move::Reconcile { key, crash }),
        6 => (1_usize..6).prop_map(|count| Move::Deliver { count }),
        4 => any::<prop::sample::Index>().prop_map(|pod| Move::Start { pod }),
        1 => any::<prop::sample::Index>().prop_map(|pod| Move::Fail { pod }),
        3 => any::<prop::sample::Index>().prop_map(|pod| Move::End { pod }),
        1 => (0_i32..6).prop_map(|replicas| Move::Scale { replicas }),
        1 => (1_u32..4).prop_map(|version| Move::Image { version }),
        1 => Just(Move::Restart),
    ];
    proptest::collection::vec(one, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_converges(moves in moves(), recreate in any::<bool>()) {
        let mut simulation = Simulation::new(recreate);
        let mut most = std::collections::BTreeMap::new();
        for step in moves {
            let before = simulation.observe();
            simulation.step(&step);
            let after = simulation.observe();
            let mut breaches = invariants::always(&after);
            breaches.extend(invariants::between(&before, &after));
            breaches.extend(invariants::no_set_has_more_pods_than_it_ever_wanted(&after, &mut most));
            prop_assert!(breaches.is_empty(), "after {:?}: {:?}", step, breaches);
        }
        prop_assert!(simulation.settle(), "still moving");
        let breaches = invariants::settled(&simulation.observe());
        prop_assert!(breaches.is_empty(), "{:?}", breaches);
        prop_assert!(simulation.second_plans_are_empty());
    }
}
