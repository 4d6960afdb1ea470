//! Sets of completion indexes, in the short text that a Job's status and success policy have: `0-3,5,7,8`.

use std::collections::BTreeSet;
use std::fmt;

/// Ascending intervals, both ends included, with gaps between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads the text; what is no index below `completions` is left out.
    pub(super) fn parse(text: &str, completions: i32) -> Indexes {
        let interval = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (i32, i32) = (first.parse().ok()?, last.parse().ok()?);
            let last = last.min(completions - 1);
            (first >= 0 && first <= last).then_some((first, last))
        };
        let mut read: Vec<(i32, i32)> = text.split(',').filter_map(interval).collect();
        read.sort_unstable();
        let mut set = Indexes::default();
        read.into_iter().for_each(|interval| set.append(interval));
        set
    }

    /// These and those.
    pub(super) fn with(&self, more: &BTreeSet<i32>) -> Indexes {
        let mut all: Vec<(i32, i32)> = self.0.clone();
        all.extend(more.iter().map(|index| (*index, *index)));
        all.sort_unstable();
        let mut set = Indexes::default();
        all.into_iter().for_each(|interval| set.append(interval));
        set
    }

    /// Adds an interval that begins no earlier than the last one.
    fn append(&mut self, (first, last): (i32, i32)) {
        match self.0.last_mut() {
            Some((_, end)) if first <= *end + 1 => *end = (*end).max(last),
            _ => self.0.push((first, last)),
        }
    }

    pub(super) fn has(&self, index: i32) -> bool {
        let before = self.0.partition_point(|(first, _)| *first <= index);
        before > 0 && self.0[before - 1].1 >= index
    }

    pub(super) fn total(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many of these are in `other` too.
    pub(super) fn common(&self, other: &Indexes) -> i32 {
        let overlap = |a: &(i32, i32), b: &(i32, i32)| (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
        self.0
            .iter()
            .map(|one| other.0.iter().map(|two| overlap(one, two)).sum::<i32>())
            .sum()
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_short_texts() {
        let set = Indexes::parse("0-2,4,5,7,9-20", 12);
        assert_eq!(set.to_string(), "0-2,4,5,7,9-11");
        assert_eq!(
            (set.total(), set.has(2), set.has(3), set.has(11), set.has(12)),
            (9, true, false, true, false)
        );
        assert_eq!(set.with(&BTreeSet::from([3, 8, 6])).to_string(), "0-11");
        assert_eq!(set.common(&Indexes::parse("2-4,11", 12)), 3);
        assert_eq!(Indexes::parse("", 5), Indexes::default());
        assert_eq!(Indexes::parse("x,-1,3-2,1", 5).to_string(), "1");
    }
}
