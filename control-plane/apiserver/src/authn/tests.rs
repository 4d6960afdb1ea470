//! Tokens that must not be accepted, and those that must.

mod network;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::tokens::{API_AUDIENCE, Bound, Claims, Reference, Refused, TokenSigner};
use super::*;
use crate::authn::testing::{ISSUER, TestServer, admin};
use crate::pki::Pki;

const NOW: i64 = 1_800_000_000;

fn claims() -> Claims {
    Claims {
        iss: ISSUER.into(),
        sub: "system:serviceaccount:ns:sa".into(),
        aud: vec![API_AUDIENCE.into()],
        exp: NOW + 600,
        iat: NOW,
        nbf: NOW,
        jti: "id".into(),
        bound: Bound {
            namespace: "ns".into(),
            serviceaccount: Reference {
                name: "sa".into(),
                uid: "u1".into(),
            },
            pod: None,
            node: None,
            secret: None,
        },
    }
}

fn pki(directory: &std::path::Path) -> Arc<Pki> {
    Pki::load_or_create(directory, vec!["localhost".to_owned()]).unwrap()
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

#[test]
fn tampered_tokens_are_refused() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (our_pki, their_pki) = (pki(ours.path()), pki(theirs.path()));
    let signer = TokenSigner::new(&our_pki, ISSUER).unwrap();
    let stranger = TokenSigner::new(&their_pki, ISSUER).unwrap();
    let audiences = signer.api_audiences();
    let verify = |token: &str| signer.verify(token, &audiences, NOW);
    let change = |edit: &dyn Fn(&mut Claims)| {
        let mut claims = claims();
        edit(&mut claims);
        signer.sign(&claims).unwrap()
    };

    let good = signer.sign(&claims()).unwrap();
    assert_eq!(verify(&good).unwrap(), claims());
    assert_eq!(verify(&good).unwrap(), claims(), "from memory");
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let other_payload = encode(&json!({"iss": ISSUER, "sub": "system:serviceaccount:kube-system:admin"}));
    let hmac = {
        let (_, public) = our_pki.service_account_key();
        let key = EncodingKey::from_secret(public.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap()
    };
    let flipped = {
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[10] ^= 1;
        format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode(bytes))
    };
    for (what, token, expected) in [
        (
            "no algorithm",
            format!("{}.{payload}.", encode(&json!({"alg": "none", "typ": "JWT"}))),
            Refused::Invalid,
        ),
        (
            "no algorithm, odd case",
            format!("{}.{payload}.", encode(&json!({"alg": "nOnE"}))),
            Refused::Invalid,
        ),
        (
            "none, signature kept",
            format!("{}.{payload}.{signature}", encode(&json!({"alg": "none"}))),
            Refused::Invalid,
        ),
        ("HMAC with the public key", hmac, Refused::Invalid),
        (
            "another algorithm named",
            format!("{}.{payload}.{signature}", encode(&json!({"alg": "RS256"}))),
            Refused::Invalid,
        ),
        ("another key", stranger.sign(&claims()).unwrap(), Refused::Invalid),
        (
            "another payload",
            format!("{header}.{other_payload}.{signature}"),
            Refused::Invalid,
        ),
        ("a flipped bit", flipped, Refused::Invalid),
        ("no signature", format!("{header}.{payload}."), Refused::Invalid),
        ("expired", change(&|c| c.exp = NOW), Refused::Invalid),
        ("not valid yet", change(&|c| c.nbf = NOW + 3600), Refused::Invalid),
        (
            "subject of someone else",
            change(&|c| c.sub = "system:serviceaccount:ns:other".into()),
            Refused::Invalid,
        ),
        (
            "subject that is no account",
            change(&|c| c.sub = "system:admin".into()),
            Refused::Invalid,
        ),
        (
            "for another audience",
            change(&|c| c.aud = vec!["vault".into()]),
            Refused::Audience,
        ),
        ("for nobody", change(&|c| c.aud = vec![]), Refused::Audience),
        (
            "of another issuer",
            change(&|c| c.iss = "https://elsewhere".into()),
            Refused::NotOurs,
        ),
        ("two parts", format!("{header}.{payload}"), Refused::NotOurs),
        ("four parts", format!("{good}.x"), Refused::NotOurs),
        ("not base64", format!("{header}.???.{signature}"), Refused::NotOurs),
        (
            "endless",
            format!("{header}.{payload}.{}", "A".repeat(20_000)),
            Refused::NotOurs,
        ),
        ("nothing", String::new(), Refused::NotOurs),
    ] {
        assert_eq!(verify(&token), Err(expected), "{what}");
    }
    // What was good once is looked at again: time goes on.
    assert_eq!(signer.verify(&good, &audiences, NOW + 601), Err(Refused::Invalid));
    assert_eq!(signer.verify(&good, &["vault".to_owned()], NOW), Err(Refused::Audience));
}

#[test]
fn the_published_key_verifies_our_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let signer = TokenSigner::new(&pki(directory.path()), ISSUER).unwrap();
    let token = signer.sign(&claims()).unwrap();
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(signer.key_set()).unwrap();
    let header = jsonwebtoken::decode_header(&token).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(set.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(Algorithm::ES256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    assert!(jsonwebtoken::decode::<Value>(&token, &key, &validation).is_ok());
}

#[tokio::test]
async fn tokens_end_with_what_they_are_bound_to() {
    let test = TestServer::start().await;
    let path = "/api/v1/namespaces/default/serviceaccounts";
    test.create(
        path,
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa"}}),
    )
    .await;
    test.create(
        "/api/v1/namespaces/default/secrets",
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}),
    )
    .await;
    let token = async |spec: Value| {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let made = test.create(&format!("{path}/sa/token"), request).await;
        skiff_api::object::str_at(&made, "/status/token").to_owned()
    };
    let who = async |token: &str| {
        let header = format!("Bearer {token}");
        let credentials = Credentials {
            authorization: Some(&header),
            client_certificates: &[],
        };
        test.server
            .authenticate(&credentials)
            .await
            .map(|user| user.map(|user| user.name))
            .map_err(|e| e.code)
    };
    let plain = token(json!({})).await;
    let bound = token(json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "s"}})).await;
    let elsewhere = token(json!({"audiences": ["vault"]})).await;
    let name = Some("system:serviceaccount:default:sa".to_owned());
    assert_eq!(who(&plain).await, Ok(name.clone()));
    assert_eq!(who(&bound).await, Ok(name.clone()));
    assert_eq!(who(&elsewhere).await, Err(401));

    let delete = async |path: &str| {
        let answer = test.send(admin(), hyper::Request::delete(path), "").await;
        assert_eq!(answer.status, 200, "{}", answer.message());
    };
    // The cache may lag behind a deletion by a moment, never longer.
    let refused = async |token: &str| {
        for _ in 0..1000 {
            if who(token).await == Err(401) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the token is still good");
    };
    delete("/api/v1/namespaces/default/secrets/s").await;
    refused(&bound).await;
    assert_eq!(who(&plain).await, Ok(name));
    delete(&format!("{path}/sa")).await;
    refused(&plain).await;
    // One of the same name is another one.
    test.create(
        path,
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa"}}),
    )
    .await;
    refused(&plain).await;
}

#[test]
fn certificates_are_judged_at_every_request() {
    let directory = tempfile::tempdir().unwrap();
    let pki = pki(directory.path());
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (certificate, _) = pki.issue_client("ann", "devs").unwrap();
    let now = unix_now();
    let user = x509::identity(&der(&certificate), now).unwrap().unwrap();
    assert_eq!(user.name, "ann");
    assert_eq!(user.groups, ["devs", "system:authenticated"]);
    const YEAR: i64 = 366 * 24 * 3600;
    assert_eq!(x509::identity(&der(&certificate), now + YEAR).unwrap_err().code, 401);
    assert_eq!(x509::identity(&der(&certificate), now - YEAR).unwrap_err().code, 401);
    let (nameless, _) = pki.issue_client("", "system:masters").unwrap();
    assert_eq!(x509::identity(&der(&nameless), now).unwrap(), None);
    assert_eq!(
        x509::identity(pki.ca_der(), now).unwrap_err().code,
        401,
        "a CA is no client"
    );
    let serving = std::fs::read_to_string(directory.path().join("apiserver.crt")).unwrap();
    assert_eq!(
        x509::identity(&der(&serving), now).unwrap_err().code,
        401,
        "a server is no client"
    );
}

#[test]
fn bootstrap_tokens_must_be_in_order() {
    let secret = |edits: &[(&str, &str)]| {
        let mut data = json!({
            "token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
            "expiration": "2027-06-01T00:00:00Z", "auth-extra-groups": "system:bootstrappers:edge",
        });
        for (key, value) in edits {
            data[key] = (*value).into();
        }
        let encoded: serde_json::Map<String, Value> = data
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.clone(), STANDARD.encode(v.as_str().unwrap()).into()))
            .collect();
        json!({"type": "bootstrap.kubernetes.io/token", "data": encoded})
    };
    let at = |object: &Value, now| bootstrap_token::identity(object, "abcdef", "0123456789abcdef", now);
    let user = at(&secret(&[]), NOW).unwrap();
    assert_eq!(user.name, "system:bootstrap:abcdef");
    assert_eq!(
        user.groups,
        [
            "system:bootstrappers",
            "system:bootstrappers:edge",
            "system:authenticated"
        ]
    );
    assert!(at(&secret(&[("expiration", "")]), NOW).is_some());
    for (what, edits) in [
        ("another secret", ("token-secret", "0123456789abcdeF")),
        ("another id", ("token-id", "fedcba")),
        ("not for authentication", ("usage-bootstrap-authentication", "false")),
        ("expired", ("expiration", "2020-01-01T00:00:00Z")),
        ("an expiration that is no time", ("expiration", "soon")),
        ("a group beyond its kind", ("auth-extra-groups", "system:masters")),
    ] {
        assert_eq!(at(&secret(&[edits]), NOW), None, "{what}");
    }
    let mut other_type = secret(&[]);
    other_type["type"] = "Opaque".into();
    assert_eq!(at(&other_type, NOW), None);
    let mut going = secret(&[]);
    going["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    assert_eq!(at(&going, NOW), None);
    for form in [
        "abcdef",
        "abcdef.0123",
        "ABCDEF.0123456789abcdef",
        "abcdef.0123456789abcde/",
        "abcdef.0123456789abcdef.x",
    ] {
        assert_eq!(bootstrap_token::split(form), None, "{form}");
    }
}

#[tokio::test]
async fn unknown_tokens_are_refused_and_no_token_is_anonymous() {
    let test = TestServer::start().await;
    let ask = async |header: Option<&str>| {
        let credentials = Credentials {
            authorization: header,
            client_certificates: &[],
        };
        test.server.authenticate(&credentials).await.map_err(|e| e.code)
    };
    assert_eq!(ask(None).await, Ok(None));
    assert_eq!(ask(Some("Negotiate abc")).await, Ok(None));
    for wrong in [
        "Bearer nonsense",
        "Bearer a.b.c",
        "Bearer abcdef.0123456789abcdef",
        "Basic eDp5",
    ] {
        assert_eq!(ask(Some(wrong)).await, Err(401), "{wrong}");
    }
}
