//! The signatures of tokens: those of the library, and ES512, which it has not.
//!
//! Never looks into a token. Source: RFC 7518.

use super::tokens::base64url_decode;
use api::json::Value;
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// As the library knows it.
    Known(Algorithm),
    /// ECDSA with P-521 and SHA-512.
    Es512,
}

/// All of them, by the names that headers and flags use.
pub(super) const ALL: [(&str, Scheme); 9] = [
    ("RS256", Scheme::Known(Algorithm::RS256)),
    ("RS384", Scheme::Known(Algorithm::RS384)),
    ("RS512", Scheme::Known(Algorithm::RS512)),
    ("ES256", Scheme::Known(Algorithm::ES256)),
    ("ES384", Scheme::Known(Algorithm::ES384)),
    ("ES512", Scheme::Es512),
    ("PS256", Scheme::Known(Algorithm::PS256)),
    ("PS384", Scheme::Known(Algorithm::PS384)),
    ("PS512", Scheme::Known(Algorithm::PS512)),
];

impl Scheme {
    /// Its name in headers.
    pub(super) fn name(self) -> &'static str {
        ALL.iter().find(|(_, scheme)| *scheme == self).map_or("", |(name, _)| name)
    }

    /// Bytes of one integer of its signatures; none where a signature is no pair of integers.
    pub(super) fn width(self) -> Option<usize> {
        match self {
            Scheme::Known(Algorithm::ES256) => Some(32),
            Scheme::Known(Algorithm::ES384) => Some(48),
            Scheme::Es512 => Some(66),
            Scheme::Known(_) => None,
        }
    }
}

/// A public key.
#[derive(Clone)]
pub(super) enum Key {
    /// RSA.
    Rsa(DecodingKey),
    /// P-256 or P-384.
    Ec(DecodingKey),
    /// P-521, as an uncompressed point.
    P521(Vec<u8>),
}

impl Key {
    /// Out of a key set; `None` for what signs no token here.
    pub(super) fn of_set(value: &Value) -> Option<Key> {
        let text = |name: &str| api::value::text(value, name);
        if text("use") == "enc" {
            return None;
        }
        if (text("kty"), text("crv")) == ("EC", "P-521") {
            let coordinate = |name: &str| base64url_decode(text(name)).filter(|bytes| bytes.len() == 66);
            let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
            return Some(Key::P521(point));
        }
        let jwk: Jwk = api::json::from_value(value.clone()).ok()?;
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        match text("kty") {
            "RSA" => Some(Key::Rsa(key)),
            "EC" => Some(Key::Ec(key)),
            _ => None,
        }
    }

    /// Whether it has signed the message so; `signature` is base64url.
    pub(super) fn has_signed(&self, scheme: Scheme, message: &str, signature: &str) -> bool {
        match (self, scheme) {
            (Key::P521(point), Scheme::Es512) => base64url_decode(signature).is_some_and(|signature| {
                UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point).verify(message.as_bytes(), &signature).is_ok()
            }),
            // A key is judged as what it is, whatever a token says.
            (Key::Ec(key), Scheme::Known(algorithm @ (Algorithm::ES256 | Algorithm::ES384))) => {
                jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm).unwrap_or(false)
            }
            (Key::Rsa(key), Scheme::Known(algorithm)) if scheme.width().is_none() => {
                jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm).unwrap_or(false)
            }
            _ => false,
        }
    }
}
