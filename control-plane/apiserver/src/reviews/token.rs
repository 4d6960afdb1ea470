//! TokenReview: whose token is this, and is it for these audiences?

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use serde_json::{Value, json};
use skiff_api::object::{list_at, str_at};
use skiff_api::status::{ApiResult, ApiStatus};

use super::{answer, track_manager, user_json};
use crate::authn::service_account::ServiceAccountTokens;
use crate::authn::{Credentials, UserInfo};
use crate::body::Body;
use crate::plugins::{PluginRequest, Subresource};
use crate::server::ApiServer;

const GROUP: &str = "authentication.k8s.io";

pub struct TokenReviews {
    service_accounts: Arc<ServiceAccountTokens>,
}

/// What is known of a token: its user, and for which of the wanted audiences it is good.
enum Verdict {
    Good(UserInfo, Vec<String>),
    /// Known, but for others.
    WrongAudience,
    Bad,
}

impl TokenReviews {
    pub fn new(service_accounts: Arc<ServiceAccountTokens>) -> Self {
        Self { service_accounts }
    }

    async fn look_at(&self, server: &ApiServer, token: &str, wanted: &[String]) -> Verdict {
        let own = self.service_accounts.signer().api_audiences();
        let audiences = if wanted.is_empty() { &own } else { wanted };
        match self.service_accounts.identify(token, audiences).await {
            Ok(Some((user, matched))) => return Verdict::Good(user, matched),
            Ok(None) => {}
            Err(_) if self.service_accounts.is_for_others(token, audiences) => return Verdict::WrongAudience,
            Err(_) => return Verdict::Bad,
        }
        // Tokens of other kinds know no audiences: they are for this API server.
        let matched: Vec<String> = own.iter().filter(|a| audiences.contains(a)).cloned().collect();
        let header = format!("Bearer {token}");
        let credentials = Credentials {
            authorization: Some(&header),
            client_certificates: &[],
        };
        match server.authenticate(&credentials).await {
            Ok(Some(_)) if matched.is_empty() => Verdict::WrongAudience,
            Ok(Some(user)) => Verdict::Good(user, matched),
            _ => Verdict::Bad,
        }
    }
}

#[async_trait]
impl Subresource for TokenReviews {
    fn group(&self) -> &'static str {
        GROUP
    }
    fn resources(&self) -> &'static [&'static str] {
        &["tokenreviews"]
    }
    fn subresource(&self) -> &'static str {
        ""
    }
    async fn handle(&self, server: &Arc<ApiServer>, mut request: PluginRequest) -> ApiResult<Response<Body>> {
        let mut review = request.object(server, GROUP, "v1", "TokenReview").await?;
        track_manager(&request, &mut review, "TokenReview", "");
        let token = str_at(&review, "/spec/token");
        if token.is_empty() {
            return Err(ApiStatus::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let wanted: Vec<String> = list_at(&review, "/spec/audiences")
            .iter()
            .filter_map(|a| Some(a.as_str()?.to_owned()))
            .collect();
        let status: Value = match self.look_at(server, token, &wanted).await {
            Verdict::Good(user, audiences) => {
                json!({"authenticated": true, "user": user_json(&user), "audiences": audiences})
            }
            Verdict::WrongAudience => json!({"user": {}, "error": audience_error(&wanted)}),
            Verdict::Bad => json!({"user": {}, "error": "invalid bearer token"}),
        };
        request.respond(201, &answer(review, GROUP, "TokenReview", status))
    }
}

fn audience_error(wanted: &[String]) -> String {
    let quoted: Vec<String> = wanted.iter().map(|a| format!("{a:?}")).collect();
    format!(
        "[invalid bearer token, token audiences do not include any of [{}]]",
        quoted.join(" ")
    )
}
