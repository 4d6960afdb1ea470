//! A service that lies in every way, and what comes of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use skiff_api::compiled::Platform;

use super::*;

const CODE: &[u8] = b"machine code";

/// What an answer is made of; the signature is the signed text itself.
#[derive(Clone)]
struct Lie {
    kind: &'static str,
    signed_for: Option<Key>,
    signature: Option<Vec<u8>>,
    code: Vec<u8>,
    size: u64,
    broken_off: bool,
}

impl Lie {
    fn truth() -> Self {
        Self {
            kind: "component",
            signed_for: None,
            signature: None,
            code: CODE.to_vec(),
            size: CODE.len() as u64,
            broken_off: false,
        }
    }
}

struct Service {
    lie: Lie,
    /// Answers before the code.
    before: Mutex<Vec<Result<Answer, ServiceError>>>,
    sent: AtomicUsize,
}

impl Service {
    fn that(lie: Lie) -> Self {
        Self {
            lie,
            before: Mutex::default(),
            sent: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl CompileService for Service {
    async fn ask(&self, key: &Key, module: Option<&Path>, _wait: Duration) -> Result<Answer, ServiceError> {
        self.sent.fetch_add(usize::from(module.is_some()), Ordering::SeqCst);
        if let Some(answer) = self.before.lock().unwrap().pop() {
            return answer;
        }
        let lie = self.lie.clone();
        let compiled = Compiled {
            kind: lie.kind.to_owned(),
            sha256: engine::hex(&Sha256::digest(CODE)),
            size: lie.size,
        };
        let signed = compiled.signed_text(lie.signed_for.as_ref().unwrap_or(key));
        let mut chunks: Vec<std::io::Result<bytes::Bytes>> =
            lie.code.chunks(5).map(|chunk| Ok(chunk.to_vec().into())).collect();
        if lie.broken_off {
            chunks.pop();
            chunks.push(Err(std::io::Error::other("connection reset")));
        }
        Ok(Answer::Ready {
            compiled,
            signature: lie.signature.unwrap_or_else(|| signed.into_bytes()),
            code: Box::pin(futures::stream::iter(chunks)),
        })
    }
    fn has_signed(&self, text: &str, signature: &[u8]) -> bool {
        text.as_bytes() == signature
    }
}

fn key(module: &str) -> Key {
    let platform = Platform::new("e", "t", &[]).unwrap();
    Key::new(&format!("sha256:{}", module.repeat(64)), platform).unwrap()
}

async fn fetched(service: &Service, says: Says<'_>) -> Result<Vec<u8>, ServiceError> {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    fetch(
        service,
        &key("a"),
        "component",
        Path::new("module"),
        &out,
        Duration::from_secs(60),
        says,
    )
    .await?;
    Ok(std::fs::read(out).unwrap())
}

#[tokio::test]
async fn code_is_taken_only_as_signed() {
    let truth = fetched(&Service::that(Lie::truth()), &|_| {}).await;
    assert_eq!(truth.unwrap(), CODE);
    let mut flipped = CODE.to_vec();
    flipped[3] ^= 1;
    let lies = [
        (
            "another module's",
            Lie {
                signed_for: Some(key("b")),
                ..Lie::truth()
            },
            "signature",
        ),
        (
            "unsigned",
            Lie {
                signature: Some(Vec::new()),
                ..Lie::truth()
            },
            "signature",
        ),
        (
            "another kind",
            Lie {
                kind: "core",
                ..Lie::truth()
            },
            "it is a core",
        ),
        (
            "a flipped byte",
            Lie {
                code: flipped,
                ..Lie::truth()
            },
            "its hash",
        ),
        (
            "more than signed",
            Lie {
                code: [CODE, b"!"].concat(),
                ..Lie::truth()
            },
            "its length",
        ),
    ];
    for (what, lie, why) in lies {
        let error = fetched(&Service::that(lie), &|_| {}).await.expect_err(what);
        assert!(matches!(error, ServiceError::Untrusted(_)), "{what}: {error}");
        assert!(error.to_string().contains(why), "{what}: {error}");
    }
}

#[tokio::test]
async fn code_that_breaks_off_is_no_fault_of_the_module_nor_a_lie() {
    for lie in [
        Lie {
            broken_off: true,
            ..Lie::truth()
        },
        Lie {
            code: CODE[..7].to_vec(),
            ..Lie::truth()
        },
    ] {
        let error = fetched(&Service::that(lie), &|_| {}).await.expect_err("half of it");
        assert!(matches!(error, ServiceError::Absent(_)), "{error}");
    }
}

#[tokio::test]
async fn the_module_is_sent_when_asked_for_and_waiting_is_told() {
    let service = Service::that(Lie::truth());
    // The last is the first.
    *service.before.lock().unwrap() = vec![
        Ok(Answer::Working("the module is being compiled".to_owned())),
        Ok(Answer::SendModule),
        Ok(Answer::Busy {
            why: "256 modules wait to be compiled".to_owned(),
            retry_after: Duration::ZERO,
        }),
    ];
    let told = Mutex::new(Vec::new());
    let code = fetched(&service, &|text| told.lock().unwrap().push(text.to_owned())).await;
    assert_eq!(code.unwrap(), CODE);
    assert_eq!(service.sent.load(Ordering::SeqCst), 1);
    assert_eq!(
        told.into_inner().unwrap(),
        [
            "waiting for the compile service: 256 modules wait to be compiled",
            "waiting for the compile service: the module is being compiled",
        ]
    );
}

#[tokio::test]
async fn a_service_that_asks_for_the_module_again_and_again_is_given_up() {
    let service = Service::that(Lie::truth());
    *service.before.lock().unwrap() = vec![Ok(Answer::SendModule), Ok(Answer::SendModule)];
    let error = fetched(&service, &|_| {}).await.expect_err("for ever");
    assert!(matches!(error, ServiceError::Absent(_)), "{error}");
    let service = Service::that(Lie::truth());
    let (key, nowhere) = (key("a"), Path::new("nowhere"));
    let late = fetch(&service, &key, "component", nowhere, nowhere, Duration::ZERO, &|_| {}).await;
    let error = late.expect_err("no time left");
    assert!(error.to_string().contains("has not finished"), "{error}");
}
