//! Why nothing fits, in the sentence that users know: "0/3 nodes are available: …".

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::filter::Unfit;

/// What a search without result found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    nodes: usize,
    reasons: BTreeMap<Cow<'static, str>, usize>,
    /// Nodes on which the removal of pods could help.
    pods_in_the_way: usize,
    never_preempts: bool,
    /// What ended the search before any node was looked at.
    early: Option<String>,
}

impl Explanation {
    pub(crate) fn new(nodes: usize, never_preempts: bool) -> Self {
        Explanation {
            nodes,
            never_preempts,
            ..Explanation::default()
        }
    }

    /// The search ended before any node was looked at.
    pub(crate) fn ended_early(nodes: usize, reason: String) -> Self {
        Explanation {
            nodes,
            early: Some(reason),
            ..Explanation::default()
        }
    }

    pub(crate) fn add(&mut self, unfit: Unfit) {
        self.add_many(unfit, 1);
    }

    /// The same finding for several nodes.
    pub(crate) fn add_many(&mut self, unfit: Unfit, count: usize) {
        self.pods_in_the_way += if unfit.pods_in_the_way { count } else { 0 };
        for reason in unfit.reasons {
            *self.reasons.entry(reason).or_insert(0) += count;
        }
    }
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        if let Some(early) = &self.early {
            return write!(f, "0/{} nodes are available: {early}. not found", self.nodes);
        }
        let listed = |counts: Vec<(usize, &str)>| {
            let mut parts: Vec<String> = counts
                .into_iter()
                .map(|(count, reason)| format!("{count} {reason}"))
                .collect();
            // Sorted as text, the count included, as Kubernetes does.
            parts.sort();
            parts.join(", ")
        };
        let all = self.nodes;
        let reasons = listed(
            self.reasons
                .iter()
                .map(|(reason, count)| (*count, reason.as_ref()))
                .collect(),
        );
        write!(
            f,
            "0/{all} nodes are available: {reasons}. no new claims to deallocate, preemption: "
        )?;
        if self.never_preempts {
            return f.write_str("not eligible due to preemptionPolicy=Never.");
        }
        let mut outlook = Vec::new();
        if self.pods_in_the_way > 0 {
            outlook.push((self.pods_in_the_way, "No preemption victims found for incoming pod"));
        }
        if self.pods_in_the_way < all {
            outlook.push((all - self.pods_in_the_way, "Preemption is not helpful for scheduling"));
        }
        write!(f, "0/{all} nodes are available: {}.", listed(outlook))
    }
}
