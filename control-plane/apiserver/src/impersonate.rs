//! Impersonation: `Impersonate-User`, `-Group`, `-Uid`, `-Extra-*`. Whoever may, acts as someone else from here on.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::http::request::Parts;
use skiff_api::status::{ApiResult, ApiStatus};

use crate::authn::service_account::{groups as service_account_groups, split_user_name};
use crate::authn::{AUTHENTICATED, UserInfo};
use crate::authz::{Attributes, Decision};
use crate::chain::forbidden;
use crate::plugins::UserFilter;
use crate::query::percent_decode;
use crate::server::ApiServer;

const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
/// Group of the imaginary resources `uids` and `userextras`.
const AUTHENTICATION_GROUP: &str = "authentication.k8s.io";
const EXTRA_PREFIX: &str = "impersonate-extra-";

pub struct Impersonation;

/// What the headers ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    fn of(parts: &Parts) -> Self {
        let mut wanted = Self::default();
        for (name, value) in &parts.headers {
            let Ok(value) = value.to_str().map(str::to_owned) else {
                continue;
            };
            match name.as_str() {
                "impersonate-user" => wanted.user = value,
                "impersonate-uid" => wanted.uid = value,
                "impersonate-group" => wanted.groups.push(value),
                other => {
                    if let Some(key) = other.strip_prefix(EXTRA_PREFIX) {
                        wanted
                            .extra
                            .entry(percent_decode(key).to_lowercase())
                            .or_default()
                            .push(value);
                    }
                }
            }
        }
        wanted
    }

    /// `None`: no impersonation; an error: everything but the user's name.
    fn complete(self) -> ApiResult<Option<Self>> {
        if !self.user.is_empty() {
            return Ok(Some(self));
        }
        if self == Self::default() {
            return Ok(None);
        }
        // The Go value that Kubernetes prints.
        let list = |items: &[String]| {
            let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        };
        let groups = if self.groups.is_empty() {
            "[]string(nil)".to_owned()
        } else {
            list(&self.groups)
        };
        let extra = if self.extra.is_empty() {
            "map[string][]string(nil)".to_owned()
        } else {
            let entries: Vec<String> = self.extra.iter().map(|(k, v)| format!("{k:?}:{}", list(v))).collect();
            format!("map[string][]string{{{}}}", entries.join(", "))
        };
        Err(ApiStatus::bad_request(format!(
            "requested &user.DefaultInfo{{Name:\"\", UID:{:?}, Groups:{groups}, Extra:{extra}}} without impersonating a user name",
            self.uid
        )))
    }

    /// The questions that must all be answered yes.
    fn questions(&self, asker: &UserInfo) -> Vec<Attributes> {
        let question = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| Attributes {
            user: asker.clone(),
            verb: "impersonate".into(),
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            resource_request: true,
            ..Attributes::default()
        };
        let mut questions = vec![match split_user_name(&self.user) {
            Some((namespace, name)) => question("", "serviceaccounts", "", namespace, name),
            None => question("", "users", "", "", &self.user),
        }];
        questions.extend(self.groups.iter().map(|group| question("", "groups", "", "", group)));
        if !self.uid.is_empty() {
            questions.push(question(AUTHENTICATION_GROUP, "uids", "", "", &self.uid));
        }
        for (key, values) in &self.extra {
            questions.extend(
                values
                    .iter()
                    .map(|value| question(AUTHENTICATION_GROUP, "userextras", key, "", value)),
            );
        }
        questions
    }

    fn into_user(self) -> UserInfo {
        let mut groups = self.groups;
        if groups.is_empty()
            && let Some((namespace, _)) = split_user_name(&self.user)
        {
            groups = service_account_groups(namespace);
        }
        let listed = |group: &str| groups.iter().any(|g| g == group);
        if self.user == ANONYMOUS {
            if !listed(UNAUTHENTICATED) {
                groups.push(UNAUTHENTICATED.into());
            }
        } else if !listed(AUTHENTICATED) && !listed(UNAUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        UserInfo {
            name: self.user,
            uid: self.uid,
            groups,
            extra: self.extra,
        }
    }
}

#[async_trait]
impl UserFilter for Impersonation {
    async fn filter(&self, server: &Arc<ApiServer>, parts: &Parts, user: UserInfo) -> ApiResult<UserInfo> {
        let Some(wanted) = Wanted::of(parts).complete()? else {
            return Ok(user);
        };
        for question in wanted.questions(&user) {
            if let Decision::NoOpinion { reason } = server.authorize(&question).await {
                return Err(forbidden(&question, &reason));
            }
        }
        tracing::debug!(target: "audit", user = user.name, acts_as = wanted.user, "impersonated");
        Ok(wanted.into_user())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(headers: &[(&str, &str)]) -> Wanted {
        let mut request = hyper::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Wanted::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn groups_follow_the_kind_of_user() {
        let groups = |headers: &[(&str, &str)]| wanted(headers).complete().unwrap().unwrap().into_user().groups;
        assert_eq!(groups(&[("Impersonate-User", "bob")]), ["system:authenticated"]);
        assert_eq!(
            groups(&[
                ("Impersonate-User", "bob"),
                ("Impersonate-Group", "a"),
                ("Impersonate-Group", "b")
            ]),
            ["a", "b", "system:authenticated"]
        );
        assert_eq!(
            groups(&[("Impersonate-User", "system:serviceaccount:ns:sa")]),
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
        assert_eq!(
            groups(&[("Impersonate-User", "system:anonymous")]),
            ["system:unauthenticated"]
        );
        assert_eq!(
            groups(&[
                ("Impersonate-User", "system:anonymous"),
                ("Impersonate-Group", "system:unauthenticated")
            ]),
            ["system:unauthenticated"]
        );
    }

    #[test]
    fn everything_asked_for_is_a_question() {
        let wanted = wanted(&[
            ("Impersonate-User", "system:serviceaccount:ns:sa"),
            ("Impersonate-Group", "g"),
            ("Impersonate-Uid", "7"),
            ("Impersonate-Extra-Example.com%2fScopes", "view"),
        ]);
        let asked: Vec<String> = wanted
            .questions(&UserInfo::default())
            .iter()
            .map(|q| {
                format!(
                    "{}|{}|{}|{}|{}",
                    q.group, q.resource, q.subresource, q.namespace, q.name
                )
            })
            .collect();
        assert_eq!(
            asked,
            [
                "|serviceaccounts||ns|sa",
                "|groups|||g",
                "authentication.k8s.io|uids|||7",
                "authentication.k8s.io|userextras|example.com/scopes||view",
            ]
        );
    }

    #[test]
    fn a_group_without_a_user_is_refused_in_kubernetes_words() {
        assert_eq!(wanted(&[]).complete().unwrap(), None);
        let error = wanted(&[("Impersonate-Group", "x")]).complete().unwrap_err();
        assert_eq!(error.code, 400);
        assert_eq!(
            error.message,
            "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"x\"}, \
             Extra:map[string][]string(nil)} without impersonating a user name"
        );
    }
}
