//! The token in an Authorization header, and the end of the chain: a token that nobody knows.

use std::borrow::Cow;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use skiff_api::status::{ApiResult, ApiStatus};

use super::{Authenticator, Credentials, UserInfo};

/// The bearer token of a request. `Basic` counts too, its password being the token: clients of OCI registries can send
/// nothing else. Other schemes and empty tokens are none.
pub fn token<'a>(credentials: &Credentials<'a>) -> Option<Cow<'a, str>> {
    let (scheme, value) = credentials.authorization?.trim().split_once(' ')?;
    let value = value.trim();
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        Cow::Borrowed(value)
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
        Cow::Owned(decoded.split_once(':')?.1.to_owned())
    } else {
        return None;
    };
    (!token.is_empty()).then_some(token)
}

/// The last of the chain: whoever shows credentials that nobody knew is refused, not treated as anonymous.
pub struct UnknownToken;

#[async_trait]
impl Authenticator for UnknownToken {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> ApiResult<Option<UserInfo>> {
        match token(credentials) {
            Some(_) => Err(ApiStatus::unauthorized()),
            None => Ok(None),
        }
    }
}
