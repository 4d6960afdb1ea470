//! What can be wrong with a manager's configuration.

use thiserror::Error;

/// Errors of [`crate::run`]: nothing here is worth a retry.
#[derive(Debug, Error)]
pub enum ManagerError {
    #[error("pod CIDR {cidr:?} is not an IPv4 network such as 10.42.0.0/16")]
    PodCidr { cidr: String },
    #[error("lease times must satisfy retry < renew deadline < duration")]
    LeaseTimes,
}
