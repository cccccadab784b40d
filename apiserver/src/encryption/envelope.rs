//! What a KMS provider keeps beside an object's sealed bytes: upstream's `EncryptedObject`, with upstream's limits.
//!
//! Never asks the service.

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

pub(crate) use super::wire::{EncryptedDekSourceType as SourceType, EncryptedObject};

/// The most bytes of a key's name.
const KEY_ID: usize = 1024;
/// The most bytes of a wrapped seed.
const SOURCE: usize = 1024;
/// The most bytes of all annotations, names included.
const ANNOTATIONS: usize = 32 * 1024;

/// Reads what `EncryptedObject::encode` wrote.
///
/// # Errors
/// One sentence.
pub(crate) fn decode(stored: &Bytes) -> Result<EncryptedObject, String> {
    let object = EncryptedObject::decode(stored.clone()).map_err(|error| error.to_string())?;
    validate(&object)?;
    Ok(object)
}

/// Holds an object against the limits.
///
/// # Errors
/// One sentence.
pub(crate) fn validate(object: &EncryptedObject) -> Result<(), String> {
    if SourceType::try_from(object.encrypted_dek_source_type).is_err() {
        return Err(format!("unknown encryptedDEKSourceType: {}", object.encrypted_dek_source_type));
    }
    if object.encrypted_data.is_empty() {
        return Err("encrypted data is empty".to_owned());
    }
    validate_source(object)
}

/// The same without the data.
pub(crate) fn validate_source(object: &EncryptedObject) -> Result<(), String> {
    let source = &object.encrypted_dek_source;
    let why = match source.len() {
        0 => Some("encrypted DEK source is empty".to_owned()),
        len if len > SOURCE => {
            Some(format!("encrypted DEK source is {len} bytes, which exceeds the max size of {SOURCE}"))
        }
        _ => None,
    };
    if let Some(why) = why {
        return Err(format!("failed to validate encrypted DEK source: {why}"));
    }
    validate_key_id(&object.key_id).map_err(|why| format!("failed to validate key id: {why}"))?;
    let size: usize = object.annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    let mut errors: Vec<String> = object
        .annotations
        .keys()
        .filter(|name| !is_domain(name))
        .map(|name| {
            format!(
                "annotations: Invalid value: {name:?}: should be a domain with at least two segments separated by dots"
            )
        })
        .collect();
    if size > ANNOTATIONS {
        errors.push(format!("total size of annotations is {size}, which exceeds the max size of {ANNOTATIONS}"));
    }
    if errors.is_empty() { Ok(()) } else { Err(format!("failed to validate annotations: {}", errors.join(", "))) }
}

/// The name of a key.
///
/// # Errors
/// It is empty or too long.
pub(crate) fn validate_key_id(key_id: &str) -> Result<(), String> {
    match key_id.len() {
        0 => Err("keyID is empty".to_owned()),
        len if len > KEY_ID => Err(format!("keyID is {len} bytes, which exceeds the max size of {KEY_ID}")),
        _ => Ok(()),
    }
}

/// A domain name of at least two segments, in lower case (RFC 1123).
fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=63).contains(&label.len()) && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(label)
}

/// What names a wrapped seed: everything but the data.
pub(crate) fn digest(object: &EncryptedObject) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    part(&object.encrypted_dek_source_type.to_be_bytes());
    part(&object.encrypted_dek_source);
    part(object.key_id.as_bytes());
    for (name, value) in &object.annotations {
        part(name.as_bytes());
        part(value);
    }
    hash.finalize().into()
}

/// A key's name as logs and errors show it.
pub(crate) fn hash(key_id: &str) -> String {
    if key_id.is_empty() {
        return String::new();
    }
    let hex: String = Sha256::digest(key_id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> EncryptedObject {
        EncryptedObject {
            encrypted_data: vec![1],
            key_id: "k".into(),
            encrypted_dek_source: vec![1],
            annotations: [("a.example".to_owned(), vec![2])].into(),
            encrypted_dek_source_type: 1,
        }
    }

    #[test]
    fn limits_are_upstreams() {
        let check = |change: fn(&mut EncryptedObject), words: &str| {
            let mut object = object();
            change(&mut object);
            match validate(&object) {
                Ok(()) => assert!(words.is_empty(), "{words}"),
                Err(said) => assert!(!words.is_empty() && said.contains(words), "{said}: {words}"),
            }
        };
        check(|_| {}, "");
        check(|o| o.encrypted_data.clear(), "encrypted data is empty");
        check(|o| o.encrypted_dek_source.clear(), "encrypted DEK source is empty");
        check(|o| o.encrypted_dek_source = vec![0; 1024], "");
        check(|o| o.encrypted_dek_source = vec![0; 1025], "1025 bytes, which exceeds the max size of 1024");
        check(|o| o.key_id.clear(), "keyID is empty");
        check(|o| o.key_id = "k".repeat(1024), "");
        check(|o| o.key_id = "k".repeat(1025), "keyID is 1025 bytes");
        check(|o| o.encrypted_dek_source_type = 7, "unknown encryptedDEKSourceType: 7");
        for name in ["plain", "A.example", "", "a..b", "-a.b"] {
            let mut object = object();
            object.annotations = [(name.to_owned(), vec![])].into();
            assert!(validate(&object).is_err_and(|said| said.contains("two segments")), "{name}");
        }
        check(|o| drop(o.annotations.insert("b.example".into(), vec![0; 32 * 1024])), "total size of annotations");
    }

    #[test]
    fn digests_tell_seeds_apart() {
        let one = object();
        let mut others = [one.clone(), one.clone(), one.clone(), one.clone()];
        others[0].key_id = "l".into();
        others[1].encrypted_dek_source = vec![2];
        others[2].encrypted_dek_source_type = 0;
        others[3].annotations.clear();
        assert!(others.iter().all(|other| digest(other) != digest(&one)));
        let same = EncryptedObject { encrypted_data: vec![9], ..one.clone() };
        assert_eq!(digest(&same), digest(&one));
    }
}
