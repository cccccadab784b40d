//! The providers of one resource in order: the first one seals, all of them open what begins with their prefix.
//!
//! The prefixes are upstream's, so that stored bytes can be recognised. Never reads a file.

use super::ciphers::Cipher;
use super::config;
use super::kms::Kms;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::sync::Arc;
use storage::transform::{OpenError, Opened};

/// What everything sealed begins with.
const SEALED: &[u8] = b"k8s:enc:";

/// What identity says about sealed bytes.
const NOT_PLAIN: &str = "identity transformer tried to read encrypted data";

/// One provider.
#[derive(Debug)]
pub(crate) enum Provider {
    /// Named keys, of which the first one seals.
    Keys {
        prefix: &'static str,
        keys: Vec<(String, Cipher)>,
        /// Said when no key has the name.
        unknown: &'static str,
    },
    Kms(Arc<Kms>),
    /// The object as it is.
    Identity,
}

impl Provider {
    /// The provider of a valid configuration, unless it is a KMS.
    pub(crate) fn local(given: &config::Provider) -> Result<Provider, String> {
        let aes = "no matching key was found for the provided AES transformer";
        if let Some(keys) = &given.aesgcm {
            return named("k8s:enc:aesgcm:v1:", keys, Cipher::gcm, aes);
        }
        if let Some(keys) = &given.aescbc {
            return named("k8s:enc:aescbc:v1:", keys, Cipher::cbc, aes);
        }
        if let Some(keys) = &given.secretbox {
            let unknown = "no matching key was found for the provided Secretbox transformer";
            return named("k8s:enc:secretbox:v1:", keys, Cipher::secretbox, unknown);
        }
        Ok(Provider::Identity)
    }

    /// `rest` follows the prefix. The second value says whether it is not what the provider would write now.
    fn open(&self, context: &[u8], rest: &Bytes) -> Result<(Bytes, bool), OpenError> {
        match self {
            Provider::Identity if rest.starts_with(SEALED) => Err(OpenError::Failed(NOT_PLAIN.to_owned())),
            Provider::Identity => Ok((rest.clone(), false)),
            Provider::Kms(kms) => kms.open(context, rest),
            Provider::Keys { keys, unknown, .. } => {
                let mut errors = Vec::new();
                for (index, (name, cipher)) in keys.iter().enumerate() {
                    let Some(sealed) = rest.strip_prefix(name.as_bytes()) else { continue };
                    match cipher.open(context, sealed).and_then(|plain| believable(cipher, plain)) {
                        Ok(plain) => return Ok((plain.into(), index != 0)),
                        Err(error) => errors.push(error),
                    }
                }
                Err(OpenError::Failed(together(errors).unwrap_or_else(|| (*unknown).to_owned())))
            }
        }
    }

    /// What its sealed bytes begin with.
    pub(crate) fn prefix(&self) -> &str {
        match self {
            Provider::Keys { prefix, .. } => prefix,
            Provider::Kms(kms) => kms.prefix(),
            Provider::Identity => "",
        }
    }
}

/// AES-CBC authenticates nothing: under a wrong key one block in 256 has a padding, and what comes out is noise.
fn believable(cipher: &Cipher, plain: Vec<u8>) -> Result<Vec<u8>, String> {
    if let Cipher::Cbc(_) = cipher {
        api::json::from_slice::<serde::de::IgnoredAny>(&plain)
            .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
    }
    Ok(plain)
}

fn named(
    prefix: &'static str,
    given: &[config::Key],
    cipher: impl Fn(&[u8]) -> Result<Cipher, String>,
    unknown: &'static str,
) -> Result<Provider, String> {
    let mut keys = Vec::with_capacity(given.len());
    for key in given {
        let secret =
            STANDARD.decode(&key.secret).map_err(|_| format!("could not obtain secret for named key {}", key.name))?;
        let cipher = cipher(&secret)
            .map_err(|error| format!("error while creating cipher for named key {}: {error}", key.name))?;
        keys.push((format!("{}:", key.name), cipher));
    }
    Ok(Provider::Keys { prefix, keys, unknown })
}

/// Several errors as upstream prints them; nothing when there is none.
fn together(mut errors: Vec<String>) -> Option<String> {
    match errors.len() {
        0 => None,
        1 => errors.pop(),
        _ => Some(format!("[{}]", errors.join(", "))),
    }
}

/// The bytes to keep of an object.
///
/// # Errors
/// One sentence.
pub(crate) fn seal(providers: &[Arc<Provider>], context: &[u8], plain: &Bytes) -> Result<Bytes, String> {
    let mut out = Vec::new();
    match providers.first().map(Arc::as_ref) {
        None | Some(Provider::Identity) => return Ok(plain.clone()),
        Some(Provider::Keys { prefix, keys, unknown }) => {
            let (name, cipher) = keys.first().ok_or(*unknown)?;
            out.reserve(prefix.len() + name.len() + plain.len() + 64);
            out.extend_from_slice(prefix.as_bytes());
            out.extend_from_slice(name.as_bytes());
            cipher.seal(context, plain, &mut out)?;
        }
        Some(Provider::Kms(kms)) => {
            out.extend_from_slice(kms.prefix().as_bytes());
            kms.seal(context, plain, &mut out)?;
        }
    }
    Ok(out.into())
}

/// The object that stored bytes were made from. `tried` hears the prefix of each provider that was asked, and whether it knew.
///
/// # Errors
/// `Locked` when a KMS has to be asked; otherwise what the providers whose prefix it has say.
pub(crate) fn open(
    providers: &[Arc<Provider>],
    context: &[u8],
    stored: &Bytes,
    mut tried: impl FnMut(&str, bool),
) -> Result<Opened, OpenError> {
    let mut errors = Vec::new();
    for (index, provider) in providers.iter().enumerate() {
        let prefix = provider.prefix();
        if !stored.starts_with(prefix.as_bytes()) {
            continue;
        }
        match provider.open(context, &stored.slice(prefix.len()..)) {
            Ok((plain, stale)) => {
                tried(if prefix.is_empty() { "identity" } else { prefix }, true);
                return Ok(Opened { plain, stale: stale || index != 0 });
            }
            // Sealed bytes are none of identity's business: whoever comes later may know them.
            Err(OpenError::Failed(_)) if prefix.is_empty() => {}
            Err(OpenError::Failed(error)) => {
                tried(prefix, false);
                errors.push(error);
            }
            Err(OpenError::Locked) => return Err(OpenError::Locked),
        }
    }
    Err(OpenError::Failed(together(errors).unwrap_or_else(|| {
        tried("unknown", false);
        "no matching prefix found".to_owned()
    })))
}

/// The KMS that has to be asked about stored bytes, and what follows its prefix.
pub(crate) fn kms_of(providers: &[Arc<Provider>], stored: &Bytes) -> Option<(Arc<Kms>, Bytes)> {
    providers.iter().find_map(|provider| match provider.as_ref() {
        Provider::Kms(kms) if stored.starts_with(kms.prefix().as_bytes()) => {
            Some((Arc::clone(kms), stored.slice(kms.prefix().len()..)))
        }
        _ => None,
    })
}

/// What holds for a resource about which the configuration is silent.
///
/// # Errors
/// The bytes are sealed.
pub(crate) fn open_plain(stored: &Bytes) -> Result<Opened, OpenError> {
    Provider::Identity.open(b"", stored).map(|(plain, stale)| Opened { plain, stale })
}
