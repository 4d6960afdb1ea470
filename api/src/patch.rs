//! The four ways to change an object by PATCH, as pure functions on JSON: `json` (RFC 6902), `merge` (RFC 7396),
//! `strategic` (merge keys and directives) and `managed` (server-side apply and the bookkeeping of field managers).

pub mod json;
pub mod managed;
pub mod merge;
pub mod strategic;

use crate::status::ApiStatus;

/// Why a patch was refused, named for the HTTP answer that it becomes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// 400: the patch itself makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// 413: over a named limit.
    #[error("{0}")]
    TooLarge(String),
    /// 500 without a reason: what kube-apiserver answers when a strategic merge breaks a rule of its own.
    #[error("{0}")]
    Broken(String),
    /// 422: well formed, but it does not fit this object.
    #[error("{0}")]
    DoesNotApply(String),
}

impl PatchError {
    pub fn into_status(self) -> Box<ApiStatus> {
        match self {
            Self::Malformed(why) => ApiStatus::bad_request(why),
            Self::TooLarge(why) => ApiStatus::too_large(why),
            Self::Broken(why) => ApiStatus::new(500, "", why),
            Self::DoesNotApply(why) => ApiStatus::new(422, "Invalid", why).with_details(serde_json::json!({})),
        }
    }
}
