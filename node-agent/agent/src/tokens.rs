//! ServiceAccount tokens bound to a pod, asked for once and again before they run out.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;

use crate::error::chain;
use crate::objects::Objects;
use crate::perform::namespace_and_name;

/// Kubelet renews a token after 80 % of its life, at the latest after a day.
const RENEW_AFTER_PERCENT: i32 = 80;
const RENEW_AFTER_MAX: SignedDuration = SignedDuration::from_hours(24);

pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) renew_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

pub(crate) async fn get(objects: &Objects, pod: &Pod, audience: Option<&str>, seconds: i64) -> Result<String, String> {
    let (namespace, pod_name) = namespace_and_name(pod);
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let account = account
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "default".to_owned());
    let key = format!("{uid}/{account}/{}/{seconds}", audience.unwrap_or_default());
    let now = Timestamp::now();
    let kept = objects.token(&key).filter(|token| token.expires_at > now);
    if let Some(token) = kept.as_ref().filter(|token| token.renew_at > now) {
        return Ok(token.text.clone());
    }
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: audience
                .filter(|audience| !audience.is_empty())
                .map(|audience| vec![audience.to_owned()]),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod_name.to_owned()),
                uid: Some(uid),
            }),
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(objects.client(), namespace);
    let answer: Result<TokenRequest, _> = api
        .create_subresource("token", &account, &PostParams::default(), &request)
        .await;
    let status = match answer {
        Ok(answer) => answer.status.unwrap_or_default(),
        // An older token that is still good is better than none while the server is away.
        Err(error) => {
            let failed = || format!("failed to fetch token: {}", message(&error));
            return kept.map(|token| token.text.clone()).ok_or_else(failed);
        }
    };
    let text = status.token.ok_or("failed to fetch token: the answer holds none")?;
    let expires_at = status.expiration_timestamp.map_or(now, |time| time.0);
    let life = expires_at.duration_since(now);
    let renew_at = now + (life * RENEW_AFTER_PERCENT / 100).min(RENEW_AFTER_MAX);
    objects.keep_token(
        key,
        Token {
            text: text.clone(),
            renew_at,
            expires_at,
        },
    );
    Ok(text)
}

fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(answer) => answer.message.clone(),
        other => chain(other),
    }
}
