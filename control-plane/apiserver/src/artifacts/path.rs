//! Paths of the distribution API, and the grammar of names, tags and digests. Pure; what passes here is safe in a file
//! name.

use super::error::{Code, OciError};

/// Longest repository name, as docker has it.
const NAME_LENGTH_MAX: usize = 255;
const TAG_LENGTH_MAX: usize = 128;

/// The 64 hex digits of `sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest(String);

impl Digest {
    pub(super) fn parse(text: &str) -> Result<Self, OciError> {
        let hex = text
            .strip_prefix("sha256:")
            .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        hex.map(|hex| Self(hex.to_owned())).ok_or_else(|| {
            OciError::new(
                400,
                Code::DigestInvalid,
                "a digest must be sha256: and 64 lower-case hex digits",
            )
        })
    }
    pub(super) fn of(content: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(crate::pki::hex(&sha2::Sha256::digest(content)))
    }
    pub(super) fn hex(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Tag(String),
    Digest(Digest),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Version,
    Catalog,
    Tags { name: String },
    Referrers { name: String, digest: Digest },
    Blob { name: String, digest: Digest },
    Uploads { name: String },
    Upload { name: String, id: String },
    Manifest { name: String, reference: Reference },
}

impl Endpoint {
    pub(super) fn parse(path: &str) -> Result<Self, OciError> {
        let unknown = || OciError::new(404, Code::Unsupported, "there is nothing at this path");
        let rest = match path {
            "/v2" | "/v2/" => return Ok(Self::Version),
            "/v2/_catalog" => return Ok(Self::Catalog),
            other => other.strip_prefix("/v2/").ok_or_else(unknown)?,
        };
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags {
                name: repository_name(name)?,
            });
        }
        if let Some((name, id)) = rest.split_once("/blobs/uploads") {
            let name = repository_name(name)?;
            return match id.strip_prefix('/') {
                None | Some("") if id.len() <= 1 => Ok(Self::Uploads { name }),
                Some(id) if uuid::Uuid::parse_str(id).is_ok() => Ok(Self::Upload {
                    name,
                    id: id.to_owned(),
                }),
                _ => Err(OciError::new(
                    404,
                    Code::BlobUploadUnknown,
                    "blob upload unknown to registry",
                )),
            };
        }
        // A name may contain `blobs` or `manifests` as a component; the last one counts.
        let (before, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
        let (name, what) = before.rsplit_once('/').ok_or_else(unknown)?;
        let name = repository_name(name)?;
        match what {
            "blobs" => Ok(Self::Blob {
                name,
                digest: Digest::parse(last)?,
            }),
            "referrers" => Ok(Self::Referrers {
                name,
                digest: Digest::parse(last)?,
            }),
            "manifests" => Ok(Self::Manifest {
                name,
                reference: reference(last)?,
            }),
            _ => Err(unknown()),
        }
    }
}

fn reference(text: &str) -> Result<Reference, OciError> {
    if text.contains(':') {
        return Ok(Reference::Digest(Digest::parse(text)?));
    }
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if first && rest && text.len() <= TAG_LENGTH_MAX {
        Ok(Reference::Tag(text.to_owned()))
    } else {
        Err(OciError::new(400, Code::ManifestInvalid, "invalid tag"))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, several joined by `/`.
pub(super) fn repository_name(name: &str) -> Result<String, OciError> {
    if !name.is_empty() && name.len() <= NAME_LENGTH_MAX && name.split('/').all(is_component) {
        Ok(name.to_owned())
    } else {
        Err(OciError::new(400, Code::NameInvalid, "invalid repository name"))
    }
}

fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes
        .split(|b| alphanumeric(*b))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "hello-world", "a/b/c", "a.b_c__d---e", "blobs/manifests", "0/1"] {
            assert!(repository_name(good).is_ok(), "{good}");
        }
        for bad in [
            "", "A", "a/", "/a", "a//b", "..", "a/../b", "-a", "a-", "a..b", "a___b", "a._b", "_uploads", "a b",
        ] {
            assert!(repository_name(bad).is_err(), "{bad}");
        }
        assert!(repository_name(&"a".repeat(256)).is_err());
    }

    #[test]
    fn paths_become_endpoints() {
        let hex = "0".repeat(64);
        let digest = Digest::parse(&format!("sha256:{hex}")).unwrap();
        let id = "4f2b0a0e-6a3f-4f57-8a39-0d7a1d2f3c4b";
        let parse = |path: &str| Endpoint::parse(path);
        assert_eq!(parse("/v2").unwrap(), Endpoint::Version);
        assert_eq!(
            parse("/v2/a/b/tags/list").unwrap(),
            Endpoint::Tags { name: "a/b".into() }
        );
        assert_eq!(
            parse("/v2/a/blobs/uploads/").unwrap(),
            Endpoint::Uploads { name: "a".into() }
        );
        assert_eq!(
            parse("/v2/a/blobs/uploads").unwrap(),
            Endpoint::Uploads { name: "a".into() }
        );
        assert_eq!(
            parse(&format!("/v2/a/blobs/uploads/{id}")).unwrap(),
            Endpoint::Upload {
                name: "a".into(),
                id: id.into()
            }
        );
        assert_eq!(
            parse(&format!("/v2/blobs/x/blobs/sha256:{hex}")).unwrap(),
            Endpoint::Blob {
                name: "blobs/x".into(),
                digest: digest.clone()
            }
        );
        assert_eq!(
            parse("/v2/a/manifests/v1.0").unwrap(),
            Endpoint::Manifest {
                name: "a".into(),
                reference: Reference::Tag("v1.0".into())
            }
        );
        assert_eq!(
            parse(&format!("/v2/a/referrers/sha256:{hex}")).unwrap(),
            Endpoint::Referrers {
                name: "a".into(),
                digest
            }
        );
        for (path, code) in [
            ("/v2/a/blobs/sha256:XYZ", Code::DigestInvalid),
            ("/v2/a/blobs/sha512:00", Code::DigestInvalid),
            ("/v2/../etc/manifests/x", Code::NameInvalid),
            ("/v2/a/manifests/-x", Code::ManifestInvalid),
            ("/v2/a/manifests/..", Code::ManifestInvalid),
            ("/v2/a/blobs/uploads/../../x", Code::BlobUploadUnknown),
            ("/v2/a", Code::Unsupported),
        ] {
            assert_eq!(parse(path).unwrap_err().code, code, "{path}");
        }
    }
}
