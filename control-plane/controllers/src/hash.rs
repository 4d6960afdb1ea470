//! Deterministic names: hashes written in the alphabet that Kubernetes uses for generated names.

use sha2::{Digest, Sha256};

/// Kubernetes' alphabet for generated names: no vowels, so no words; no 0, 1, 3.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of the suffix of a pod's name.
const SUFFIX_LENGTH: usize = 5;
/// Length of a pod-template-hash: that of most of Kubernetes' own.
const TEMPLATE_HASH_LENGTH: usize = 10;
/// Longest prefix before a generated suffix (63 characters less the suffix).
const PREFIX_LENGTH_MAX: usize = 58;

fn encode(parts: &[&[u8]], length: usize) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher
        .finalize()
        .iter()
        .take(length)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

/// The hash of a pod template, given as its canonical JSON text; `collisions` makes it another one.
pub fn template_hash(template: &str, collisions: i32) -> String {
    encode(&[template.as_bytes(), &collisions.to_le_bytes()], TEMPLATE_HASH_LENGTH)
}

/// Name of the `index`th child that an owner at this version makes: asking again gives the same name, so a plan that is
/// carried out twice creates once.
pub fn child_name(prefix: &str, owner_uid: &str, owner_version: &str, index: usize) -> String {
    let suffix = encode(
        &[
            owner_uid.as_bytes(),
            owner_version.as_bytes(),
            &(index as u64).to_le_bytes(),
        ],
        SUFFIX_LENGTH,
    );
    let cut = prefix
        .char_indices()
        .map(|(at, _)| at)
        .nth(PREFIX_LENGTH_MAX - 1)
        .unwrap_or(prefix.len());
    format!("{}-{suffix}", &prefix[..cut])
}
