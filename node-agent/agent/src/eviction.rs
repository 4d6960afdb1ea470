//! Thresholds of available memory and disk: below one the node is under pressure and takes no further pods. Grammar and
//! defaults are those of kubelet's `--eviction-hard`.

use std::str::FromStr;

use skiff_api::quantity::Quantity;

/// The signals that the agent looks at.
const MEMORY: &str = "memory.available";
const DISK: &str = "nodefs.available";
/// Shares are kept in parts of this many.
const WHOLE: u64 = 100_000;

/// How much must stay available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    Bytes(u64),
    /// Of the capacity, in parts per 100,000.
    Share(u64),
}

impl Threshold {
    const NONE: Self = Self::Bytes(0);

    /// In bytes of this capacity, which is never exceeded.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.min(capacity),
            Self::Share(parts) => (u128::from(capacity) * u128::from(parts) / u128::from(WHOLE)) as u64,
        }
    }
}

/// `--eviction-hard`. A signal that is not named has no threshold, as with kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictionHard {
    pub memory_available: Threshold,
    pub nodefs_available: Threshold,
}

impl Default for EvictionHard {
    fn default() -> Self {
        Self {
            memory_available: Threshold::Bytes(100 << 20),
            nodefs_available: Threshold::Share(WHOLE / 10),
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvictionHardError {
    #[error("{0:?} is not SIGNAL<QUANTITY, such as nodefs.available<10%")]
    Form(String),
    #[error("unknown signal {0:?}: memory.available and nodefs.available are known")]
    Signal(String),
    #[error("{signal}: {value:?} is neither a quantity such as 1Gi nor a percentage from 0% to 100%")]
    Value { signal: String, value: String },
    #[error("{0} is named twice")]
    Twice(String),
}

impl FromStr for EvictionHard {
    type Err = EvictionHardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut memory, mut disk) = (None, None);
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let (signal, value) = one
                .split_once('<')
                .ok_or_else(|| EvictionHardError::Form(one.to_owned()))?;
            let place = match signal {
                MEMORY => &mut memory,
                DISK => &mut disk,
                _ => return Err(EvictionHardError::Signal(signal.to_owned())),
            };
            let threshold = threshold(value).ok_or_else(|| EvictionHardError::Value {
                signal: signal.to_owned(),
                value: value.to_owned(),
            })?;
            if place.replace(threshold).is_some() {
                return Err(EvictionHardError::Twice(signal.to_owned()));
            }
        }
        Ok(Self {
            memory_available: memory.unwrap_or(Threshold::NONE),
            nodefs_available: disk.unwrap_or(Threshold::NONE),
        })
    }
}

fn threshold(value: &str) -> Option<Threshold> {
    if let Some(percent) = value.strip_suffix('%') {
        let percent: f64 = percent.parse().ok()?;
        let valid = (0.0..=100.0).contains(&percent);
        return valid.then(|| Threshold::Share((percent * (WHOLE / 100) as f64).round() as u64));
    }
    let quantity = Quantity::parse(value).ok()?;
    u64::try_from(quantity.value()).ok().map(Threshold::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_it_says() {
        let kubelets = "memory.available<100Mi,nodefs.available<10%";
        assert_eq!(kubelets.parse(), Ok(EvictionHard::default()));
    }

    #[test]
    fn a_signal_that_is_not_named_has_no_threshold() {
        let only_disk: EvictionHard = "nodefs.available<2.5%".parse().expect("valid");
        assert_eq!(only_disk.memory_available.of(1 << 30), 0);
        assert_eq!(only_disk.nodefs_available.of(1000), 25);
        let none: EvictionHard = "".parse().expect("valid");
        assert_eq!(none.nodefs_available.of(1000), 0);
    }

    #[test]
    fn a_threshold_is_never_more_than_there_is() {
        assert_eq!(Threshold::Bytes(5).of(3), 3);
        assert_eq!(Threshold::Share(WHOLE).of(u64::MAX), u64::MAX);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| text.parse::<EvictionHard>().expect_err(text).to_string();
        assert!(error("nodefs.available=1Gi").contains("is not SIGNAL<QUANTITY"));
        assert!(error("imagefs.available<1Gi").contains("unknown signal \"imagefs.available\""));
        for value in ["-1Gi", "101%", "x", "", "NaN%"] {
            assert!(
                error(&format!("memory.available<{value}")).contains("neither a quantity"),
                "{value}"
            );
        }
        assert!(error("memory.available<1Gi,memory.available<2Gi").contains("twice"));
    }
}
