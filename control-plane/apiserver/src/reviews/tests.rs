//! Reviews over a whole server.

use serde_json::{Value, json};
use skiff_api::object::str_at;

use crate::authn::testing::{TestServer, admin, user};

const ACCESS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

#[tokio::test]
async fn access_reviews_answer_for_others_and_for_oneself() {
    let test = TestServer::start().await;
    let ask = async |who: &str, groups: Value, resource: &str| {
        let spec = json!({"user": who, "groups": groups,
            "resourceAttributes": {"verb": "get", "resource": resource, "namespace": "default"}});
        let answer = test
            .post(
                admin(),
                ACCESS,
                &json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}),
            )
            .await;
        assert_eq!(answer.status, 201, "{}", answer.message());
        answer.json()["status"].clone()
    };
    assert_eq!(ask("bob", json!([]), "pods").await, json!({"allowed": false}));
    assert_eq!(ask("bob", json!(["system:masters"]), "pods").await["allowed"], true);

    let own = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/healthz"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = test.post(user("bob", &[]), path, &own).await.json();
    assert_eq!(answer["kind"], "SelfSubjectAccessReview");
    assert_eq!(answer["status"]["allowed"], true);
    assert!(
        str_at(&answer, "/status/reason").starts_with("RBAC: allowed by ClusterRoleBinding"),
        "{answer}"
    );

    let neither = test.post(user("bob", &[]), path, &json!({"spec": {}})).await;
    assert_eq!(neither.status, 422);
    assert!(
        neither
            .message()
            .contains("exactly one of nonResourceAttributes or resourceAttributes must be specified")
    );
    // Asking for others needs a permission.
    assert_eq!(
        test.post(user("bob", &[]), ACCESS, &json!({"spec": {}})).await.status,
        403
    );
}

#[tokio::test]
async fn rules_reviews_list_what_one_may() {
    let test = TestServer::start().await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let answer = test
        .post(user("bob", &[]), path, &json!({"spec": {"namespace": "default"}}))
        .await
        .json();
    assert_eq!(answer["status"]["incomplete"], false);
    let rules = answer["status"]["resourceRules"].to_string();
    assert!(
        rules.contains("selfsubjectaccessreviews") && !rules.contains("secrets"),
        "{rules}"
    );
    assert!(answer["status"]["nonResourceRules"].to_string().contains("/healthz"));
    let nowhere = test.post(user("bob", &[]), path, &json!({"spec": {}})).await;
    assert_eq!(
        (nowhere.status, nowhere.message().as_str()),
        (400, "no namespace on request")
    );
}

#[tokio::test]
async fn token_reviews_look_at_tokens_and_audiences() {
    let test = TestServer::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    test.create(
        accounts,
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa"}}),
    )
    .await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["vault", "other"]}});
    let made = test.create(&format!("{accounts}/sa/token"), request).await;
    let review = async |token: &str, audiences: Value| {
        let answer = test
            .post(
                admin(),
                TOKENS,
                &json!({"spec": {"token": token, "audiences": audiences}}),
            )
            .await;
        assert_eq!(answer.status, 201, "{}", answer.message());
        answer.json()["status"].clone()
    };
    let token = str_at(&made, "/status/token");
    let good = review(token, json!(["vault", "third"])).await;
    assert_eq!(good["authenticated"], true);
    assert_eq!(good["audiences"], json!(["vault"]));
    assert_eq!(good["user"]["username"], "system:serviceaccount:default:sa");
    assert_eq!(
        review(token, json!([])).await.get("authenticated"),
        None,
        "it is not for the API server"
    );
    assert_eq!(
        review("junk", json!([])).await,
        json!({"user": {}, "error": "invalid bearer token"})
    );
    let empty = test.post(admin(), TOKENS, &json!({"spec": {}})).await;
    assert_eq!(
        (empty.status, empty.message().as_str()),
        (400, "token is required for TokenReview in authentication")
    );
}

#[tokio::test]
async fn token_requests_are_checked() {
    let test = TestServer::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    test.create(
        accounts,
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa"}}),
    )
    .await;
    let ask = async |spec: Value| {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let answer = test.post(admin(), &format!("{accounts}/sa/token"), &request).await;
        (answer.status, answer.message())
    };
    let short = "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 5: \
                 may not specify a duration less than 10 minutes";
    assert_eq!(ask(json!({"expirationSeconds": 5})).await, (422, short.to_owned()));
    let absent = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "absent"}});
    assert_eq!(ask(absent).await, (404, "pods \"absent\" not found".to_owned()));
    let kind = json!({"boundObjectRef": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "x"}});
    assert_eq!(
        ask(kind).await,
        (
            400,
            "cannot bind token to object of type apps/v1, Kind=Deployment".to_owned()
        )
    );
    // A node gets tokens for its own pods only.
    let node = crate::authn::testing::node("n1");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    assert_eq!(
        test.post(node, &format!("{accounts}/sa/token"), &request).await.status,
        403
    );
}
