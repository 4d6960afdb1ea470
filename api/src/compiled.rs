//! Compiled modules between the compile service and the nodes: what names one, where it is asked for, what is signed.
//!
//! The same module compiled by the same engine for the same target and CPU features is the same code: those four are the
//! key. A node asks `GET /skiff/v1/compiled/<module>?engine=…&target=…&features=…`.

use std::fmt;

/// Path of the compile service, before the module's digest.
pub const PATH: &str = "/skiff/v1/compiled/";
/// Header of an answer: what kind of code it is (`core`, `component`, `component-p3`).
pub const KIND_HEADER: &str = "skiff-compiled-kind";
/// Header: SHA-256 of the code, hex.
pub const SHA256_HEADER: &str = "skiff-compiled-sha256";
/// Header: signature by the cluster's CA key over [`Compiled::signed_text`], base64.
pub const SIGNATURE_HEADER: &str = "skiff-compiled-signature";
/// Largest module that is compiled: JavaScript and Python guests are 13 to 18 MB.
pub const MODULE_BYTES_MAX: u64 = 256 << 20;
/// Largest compiled module: what a compile child may write.
pub const CODE_BYTES_MAX: u64 = 2 << 30;

/// Exit code of the compile child when the module is not to blame: a file or the system is.
pub const COMPILER_AT_FAULT: i32 = 3;
/// Exit code of the compile child when it cannot compile any module for the platform that it was asked for: it does not
/// know the target or a CPU feature, or has no compiler.
pub const OTHER_PLATFORM: i32 = 4;

/// Characters of an engine's or target's name.
const NAME_CHARS_MAX: usize = 64;
/// Cranelift knows 21 features of x86_64, and fewer of others.
const FEATURES_MAX: usize = 64;

/// What makes compiled code what it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `sha256:…` of the module.
    module: String,
    platform: Platform,
}

/// For which engine and machine code is compiled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// Version and settings of the engine: `wasmtime-48.0.8-1`.
    id: String,
    /// `x86_64-unknown-linux-gnu`.
    target: String,
    /// CPU features that the code may use, as the compiler names them (`has_avx2`), sorted.
    features: Vec<String>,
}

/// A key that is not one; the text says what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

impl Platform {
    /// Errors: names with other characters than letters, digits, `.`, `_` and `-`, or too many or long ones.
    pub fn new(id: &str, target: &str, features: &[String]) -> Result<Self, KeyError> {
        for (what, name) in [("engine", id), ("target", target)] {
            if !is_name(name) {
                return Err(KeyError(format!("{what} {name:?} is not a name")));
            }
        }
        if features.len() > FEATURES_MAX {
            return Err(KeyError(format!("more than {FEATURES_MAX} CPU features")));
        }
        // Other flags of the compiler are named otherwise, and are not a node's to choose.
        let is_feature = |name: &str| is_name(name) && name.starts_with("has_");
        if let Some(feature) = features.iter().find(|feature| !is_feature(feature)) {
            return Err(KeyError(format!("{feature:?} is not the name of a CPU feature")));
        }
        let mut features = features.to_vec();
        features.sort();
        features.dedup();
        Ok(Self {
            id: id.to_owned(),
            target: target.to_owned(),
            features,
        })
    }
    pub fn id(&self) -> &str {
        &self.id
    }
    pub fn target(&self) -> &str {
        &self.target
    }
    /// Sorted; none twice.
    pub fn features(&self) -> &[String] {
        &self.features
    }
    /// One line per part: the same for the same engine and machine, and for no others.
    pub fn text(&self) -> String {
        format!(
            "engine {}\ntarget {}\nfeatures {}\n",
            self.id,
            self.target,
            self.features.join(",")
        )
    }
}

impl Key {
    /// Errors: the module is not named by `sha256:` and 64 lower-case hex digits.
    pub fn new(module: &str, platform: Platform) -> Result<Self, KeyError> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match module.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(digit) => Ok(Self {
                module: module.to_owned(),
                platform,
            }),
            _ => Err(KeyError(format!("{module:?} is not a sha256 digest"))),
        }
    }
    /// `sha256:…`.
    pub fn module(&self) -> &str {
        &self.module
    }
    pub fn platform(&self) -> &Platform {
        &self.platform
    }
    /// Where it is asked for. All of the parts are safe in a URL.
    pub fn path_and_query(&self) -> String {
        let Platform { id, target, features } = &self.platform;
        let features = features.join(",");
        format!("{PATH}{}?engine={id}&target={target}&features={features}", self.module)
    }
    /// As [`Platform::text`], with the module.
    pub fn text(&self) -> String {
        format!("module {}\n{}", self.module, self.platform.text())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} for {} on {}",
            self.module, self.platform.id, self.platform.target
        )
    }
}

fn is_name(text: &str) -> bool {
    let char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(char) && !text.starts_with('-')
}

/// What came of compiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// `core`, `component` or `component-p3`.
    pub kind: String,
    /// Hex.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

impl Compiled {
    /// What the cluster's key signs. No certificate begins like this, so none can be taken for one or the other.
    pub fn signed_text(&self, key: &Key) -> String {
        let Self { kind, sha256, size } = self;
        format!(
            "skiff compiled module v1\n{}kind {kind}\nsha256 {sha256}\nsize {size}\n",
            key.text()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(id: &str, features: &[&str]) -> Result<Platform, KeyError> {
        let features: Vec<String> = features.iter().map(|f| (*f).to_owned()).collect();
        Platform::new(id, "x86_64-unknown-linux-gnu", &features)
    }

    #[test]
    fn a_key_is_the_same_however_its_features_are_ordered() {
        let module = format!("sha256:{}", "ab".repeat(32));
        let key = |features: &[&str]| Key::new(&module, platform("w-1", features).unwrap()).unwrap();
        assert_eq!(key(&["has_b", "has_a", "has_b"]), key(&["has_a", "has_b"]));
        assert_ne!(key(&["has_a"]).text(), key(&[]).text());
        assert_eq!(
            key(&["has_b", "has_a"]).path_and_query(),
            format!("/skiff/v1/compiled/{module}?engine=w-1&target=x86_64-unknown-linux-gnu&features=has_a,has_b")
        );
    }

    #[test]
    fn nothing_gets_into_a_key_that_means_something_else_elsewhere() {
        for id in ["", "../x", "a b", "a&b", "a\nb", "-x", &"x".repeat(65)] {
            assert!(platform(id, &[]).is_err(), "{id:?}");
        }
        for feature in ["has_a,has_b", "enable_probestack", "has_a "] {
            assert!(platform("w", &[feature]).is_err(), "{feature:?}");
        }
        let platform = platform("w", &[]).unwrap();
        for module in [
            "sha256:../../etc/passwd",
            "md5:00",
            &format!("sha256:{}", "A".repeat(64)),
        ] {
            assert!(Key::new(module, platform.clone()).is_err(), "{module}");
        }
    }

    #[test]
    fn every_part_is_signed() {
        let key =
            |module: &str, id: &str| Key::new(&format!("sha256:{}", module.repeat(64)), platform(id, &[]).unwrap());
        let compiled = |kind: &str, sha256: &str, size| Compiled {
            kind: kind.to_owned(),
            sha256: sha256.to_owned(),
            size,
        };
        let text = compiled("core", "00", 1).signed_text(&key("a", "w").unwrap());
        for other in [
            compiled("component", "00", 1).signed_text(&key("a", "w").unwrap()),
            compiled("core", "01", 1).signed_text(&key("a", "w").unwrap()),
            compiled("core", "00", 2).signed_text(&key("a", "w").unwrap()),
            compiled("core", "00", 1).signed_text(&key("b", "w").unwrap()),
            compiled("core", "00", 1).signed_text(&key("a", "v").unwrap()),
        ] {
            assert_ne!(text, other);
        }
    }
}
