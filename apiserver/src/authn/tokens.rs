//! Service account tokens as JWTs: keys from PEM, signing, and the documents with which others verify (JWKS, OIDC discovery).
//!
//! Algorithms are those of Kubernetes: RS256 for RSA keys, ES256, ES384 and ES512 for EC keys. A key's id is the base64url SHA-256
//! of its public key's DER, as upstream, so that tokens and keys can move between the two. No clock here: callers pass Unix
//! seconds.

use super::signature::{Key, Scheme};
use api::json::{Value, json};
use jsonwebtoken::{Algorithm, DecodingKey};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Seconds a token of the kubelet's default request lives when expiration is extended: one year.
pub const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;
/// The expiration that marks a token of the injected volume, which may be extended.
pub const INJECTED_SECONDS: i64 = 3607;

/// Who issues tokens that live in secrets.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Why a key is unusable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// No PEM block of a known kind.
    #[error("no private or public key in the PEM text")]
    NoKey,
    /// A block that cannot be read.
    #[error("a key cannot be read: {0}")]
    Unreadable(String),
    /// An algorithm that tokens are not signed with.
    #[error("only RSA, P-256, P-384 and P-521 keys sign service account tokens")]
    Unsupported,
    /// The crypto library refused to make or use the key.
    #[error("the key cannot be used: {0}")]
    Refused(String),
}

/// Standard base64 with padding.
#[must_use]
pub fn base64_encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// base64url without padding.
#[must_use]
pub fn base64url_encode(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of unpadded base64url, or `None`.
#[must_use]
pub fn base64url_decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}

/// A public key that verifies tokens.
#[derive(Clone)]
pub struct VerifyKey {
    /// Upstream's key id.
    pub id: String,
    scheme: Scheme,
    key: Key,
    jwk: Value,
}

impl std::fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl VerifyKey {
    /// Every key of a PEM text (`--service-account-key-file`): public keys, certificates, and private keys' public halves.
    ///
    /// # Errors
    /// When a block cannot be read or there is none.
    pub fn all_from_pem(pem: &str) -> Result<Vec<Self>, KeyError> {
        let mut keys = Vec::new();
        for block in x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()) {
            let block = block.map_err(|why| KeyError::Unreadable(why.to_string()))?;
            match block.label.as_str() {
                "PUBLIC KEY" => keys.push(Self::from_spki(&block.contents)?),
                "RSA PUBLIC KEY" => keys.push(Self::from_spki(&rsa_spki(&block.contents))?),
                "CERTIFICATE" => {
                    let certificate = block.parse_x509().map_err(|why| KeyError::Unreadable(why.to_string()))?;
                    keys.push(Self::from_spki(certificate.public_key().raw)?);
                }
                "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
                    let der = PrivateKeyDer::try_from(block.contents.as_slice())
                        .map_err(|why| KeyError::Unreadable(why.to_owned()))?;
                    let pair = KeyPair::try_from(&der).map_err(|why| KeyError::Unreadable(why.to_string()))?;
                    keys.push(Self::from_spki(&pair.subject_public_key_info())?);
                }
                _ => {}
            }
        }
        if keys.is_empty() { Err(KeyError::NoKey) } else { Ok(keys) }
    }

    fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let id = base64url_encode(Sha256::digest(der));
        let (_, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|why| KeyError::Unreadable(why.to_string()))?;
        let parsed = spki.parsed().map_err(|why| KeyError::Unreadable(why.to_string()))?;
        let (scheme, key, parts) = match parsed {
            PublicKey::RSA(rsa) => {
                let (n, e) = (strip_zeroes(rsa.modulus), strip_zeroes(rsa.exponent));
                let parts = json!({"kty": "RSA", "n": base64url_encode(n), "e": base64url_encode(e)});
                (Scheme::Known(Algorithm::RS256), Key::Rsa(DecodingKey::from_rsa_raw_components(n, e)), parts)
            }
            PublicKey::EC(point) => {
                let Some((4, rest)) = point.data().split_first().map(|(form, rest)| (*form, rest)) else {
                    return Err(KeyError::Unsupported);
                };
                let library = || Key::Ec(DecodingKey::from_ec_der(point.data()));
                let (scheme, curve, size, key) = match rest.len() / 2 {
                    size @ 32 => (Scheme::Known(Algorithm::ES256), "P-256", size, library()),
                    size @ 48 => (Scheme::Known(Algorithm::ES384), "P-384", size, library()),
                    size @ 66 => (Scheme::Es512, "P-521", size, Key::P521(point.data().to_vec())),
                    _ => return Err(KeyError::Unsupported),
                };
                let (x, y) = rest.split_at_checked(size).ok_or(KeyError::Unsupported)?;
                let parts = json!({"kty": "EC", "crv": curve, "x": base64url_encode(x), "y": base64url_encode(y)});
                (scheme, key, parts)
            }
            _ => return Err(KeyError::Unsupported),
        };
        let mut jwk = json!({"use": "sig", "kid": id, "alg": scheme.name()});
        if let (Some(jwk), Value::Object(parts)) = (jwk.as_object_mut(), parts) {
            jwk.extend(parts);
        }
        Ok(Self { id, scheme, key, jwk })
    }

    /// Whether it has signed the message; `signature` is base64url. The algorithm is the key's, never the token's.
    #[must_use]
    pub fn has_signed(&self, message: &str, signature: &str) -> bool {
        self.key.has_signed(self.scheme, message, signature)
    }
}

fn strip_zeroes(bytes: &[u8]) -> &[u8] {
    let leading = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(leading..).unwrap_or_default()
}

/// DER of one value: tag, length, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len().to_be_bytes();
    let length = strip_zeroes(&length);
    match u8::try_from(content.len()) {
        Ok(short) if short < 128 => out.push(short),
        _ => {
            out.push(0x80 | u8::try_from(length.len()).unwrap_or_default());
            out.extend_from_slice(length);
        }
    }
    out.extend_from_slice(content);
    out
}

/// SubjectPublicKeyInfo around a PKCS#1 public key.
fn rsa_spki(pkcs1: &[u8]) -> Vec<u8> {
    // rsaEncryption with NULL parameters.
    let mut content = der(0x30, &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0]);
    let mut bits = vec![0];
    bits.extend_from_slice(pkcs1);
    content.extend(der(0x03, &bits));
    der(0x30, &content)
}

/// The two integers of a DER ECDSA signature, each in `size` bytes, as JWS wants them.
pub(super) fn fixed_width(signature: &[u8], size: usize) -> Option<Vec<u8>> {
    let integer = |bytes: &[u8]| -> Option<(Vec<u8>, Vec<u8>)> {
        let (header, rest) = bytes.split_at_checked(2)?;
        let &[2, length] = header else { return None };
        let (value, rest) = rest.split_at_checked(usize::from(length))?;
        let value = strip_zeroes(value);
        let mut padded = vec![0; size.checked_sub(value.len())?];
        padded.extend_from_slice(value);
        Some((padded, rest.to_vec()))
    };
    // Those of P-521 are longer than a length of one byte can say.
    let body = signature.get(if signature.get(1) == Some(&0x81) { 3 } else { 2 }..)?;
    let (mut r, rest) = integer(body)?;
    let (s, _) = integer(&rest)?;
    r.extend(s);
    Some(r)
}

/// Name and uid of an object that a token speaks for or is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// `metadata.name`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `metadata.uid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The `kubernetes.io` claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaim {
    /// The service account's namespace.
    #[serde(default)]
    pub namespace: String,
    /// The node, bound or that of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<ObjectRef>,
    /// The pod to which the token is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectRef>,
    /// The secret to which the token is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectRef>,
    /// The service account.
    #[serde(default)]
    pub serviceaccount: ObjectRef,
    /// Unix second after which use is worth a warning.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    pub warnafter: Option<i64>,
}

/// The claims of a service account token, bound or legacy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Audiences; one may stand without a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Expiry, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    pub exp: Option<i64>,
    /// Issued at, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    pub iat: Option<i64>,
    /// Issuer.
    #[serde(default)]
    pub iss: String,
    /// Token id, a UUID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// What the token speaks for.
    #[serde(default, rename = "kubernetes.io", skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesClaim>,
    /// Not before, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    pub nbf: Option<i64>,
    /// Subject, the service account's user name.
    #[serde(default)]
    pub sub: String,
    /// Legacy tokens only: namespace.
    #[serde(default, rename = "kubernetes.io/serviceaccount/namespace", skip_serializing_if = "String::is_empty")]
    pub legacy_namespace: String,
    /// Legacy tokens only: the secret that holds the token.
    #[serde(default, rename = "kubernetes.io/serviceaccount/secret.name", skip_serializing_if = "String::is_empty")]
    pub legacy_secret: String,
    /// Legacy tokens only: name.
    #[serde(
        default,
        rename = "kubernetes.io/serviceaccount/service-account.name",
        skip_serializing_if = "String::is_empty"
    )]
    pub legacy_name: String,
    /// Legacy tokens only: uid.
    #[serde(
        default,
        rename = "kubernetes.io/serviceaccount/service-account.uid",
        skip_serializing_if = "String::is_empty"
    )]
    pub legacy_uid: String,
}

/// JWT dates may have a fraction, which is cut off.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let number = Option::<api::json::Number>::deserialize(deserializer)?;
    #[allow(clippy::cast_possible_truncation, reason = "saturates, and a date that far off is refused by its meaning")]
    Ok(number.and_then(|n| n.as_i64().or_else(|| n.as_f64().map(|float| float as i64))))
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<Audience>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Audience::One(one)) => vec![one],
        Some(Audience::Many(many)) => many,
    })
}

/// To what a token is bound, beyond its service account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    /// Nothing: it lives until it expires.
    #[default]
    Nothing,
    /// A pod, with the node it runs on where known.
    Pod(ObjectRef, Option<ObjectRef>),
    /// A secret.
    Secret(ObjectRef),
    /// A node.
    Node(ObjectRef),
}

/// What a `TokenRequest` asks for, already validated and defaulted.
#[derive(Clone, Debug, Default)]
pub struct TokenFor {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: ObjectRef,
    /// Binding.
    pub bound: Bound,
    /// Audiences, not empty.
    pub audiences: Vec<String>,
    /// `spec.expirationSeconds`.
    pub seconds: i64,
    /// Whether an injected volume's token (3607 seconds, the API server's audience) lives a year with a warning
    /// (`--service-account-extend-token-expiration`).
    pub extend: bool,
    /// Unix seconds.
    pub now: i64,
    /// A fresh UUID.
    pub jti: String,
}

/// Signs service account tokens.
pub struct TokenSigner {
    pair: KeyPair,
    public: VerifyKey,
    issuer: String,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner")
            .field("key", &self.public.id)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// A fresh P-256 key, PKCS#8 PEM.
///
/// # Errors
/// When the crypto library has no randomness.
pub fn generate_es256() -> Result<String, KeyError> {
    KeyPair::generate().map(|pair| pair.serialize_pem()).map_err(|why| KeyError::Refused(why.to_string()))
}

/// A fresh 2048-bit RSA key, PKCS#8 PEM. Takes a noticeable fraction of a second.
///
/// # Errors
/// When the crypto library has no randomness.
pub fn generate_rsa() -> Result<String, KeyError> {
    KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)
        .map(|pair| pair.serialize_pem())
        .map_err(|why| KeyError::Refused(why.to_string()))
}

impl TokenSigner {
    /// A signer with this private key (PKCS#8, PKCS#1 or SEC1 PEM) and issuer (`--service-account-issuer`).
    ///
    /// # Errors
    /// When the key cannot be read or its algorithm is not one of tokens.
    pub fn from_pem(pem: &str, issuer: impl Into<String>) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|why| KeyError::Unreadable(why.to_string()))?;
        let pair = KeyPair::try_from(&der).map_err(|why| KeyError::Unreadable(why.to_string()))?;
        let public = VerifyKey::from_spki(&pair.subject_public_key_info())?;
        Ok(Self { pair, public, issuer: issuer.into() })
    }

    /// The issuer that tokens carry.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &VerifyKey {
        &self.public
    }

    /// The claims for a request, and the Unix second that `TokenRequest.status.expirationTimestamp` names: the asked end, even
    /// where the token lives longer.
    #[must_use]
    pub fn claims(&self, wanted: &TokenFor, api_audiences: &[String]) -> (Claims, i64) {
        let for_us = wanted.audiences.iter().all(|audience| api_audiences.contains(audience));
        let of_pod = matches!(wanted.bound, Bound::Pod(..));
        let extended = wanted.extend && for_us && of_pod && wanted.seconds == INJECTED_SECONDS;
        let lifetime = if extended { EXTENDED_SECONDS } else { wanted.seconds };
        let mut claim = KubernetesClaim {
            namespace: wanted.namespace.clone(),
            serviceaccount: wanted.service_account.clone(),
            warnafter: extended.then(|| wanted.now.saturating_add(wanted.seconds)),
            ..KubernetesClaim::default()
        };
        match &wanted.bound {
            Bound::Nothing => {}
            Bound::Pod(pod, node) => (claim.pod, claim.node) = (Some(pod.clone()), node.clone()),
            Bound::Secret(secret) => claim.secret = Some(secret.clone()),
            Bound::Node(node) => claim.node = Some(node.clone()),
        }
        let claims = Claims {
            aud: wanted.audiences.clone(),
            exp: Some(wanted.now.saturating_add(lifetime)),
            iat: Some(wanted.now),
            iss: self.issuer.clone(),
            jti: wanted.jti.clone(),
            kubernetes: Some(claim),
            nbf: Some(wanted.now),
            sub: super::service_account_username(&wanted.namespace, &wanted.service_account.name),
            ..Claims::default()
        };
        (claims, wanted.now.saturating_add(wanted.seconds))
    }

    /// The claims of a token that lives in a secret, without end.
    #[must_use]
    pub fn legacy_claims(&self, namespace: &str, account: ObjectRef, secret: &str) -> Claims {
        Claims {
            iss: self.issuer.clone(),
            sub: super::service_account_username(namespace, &account.name),
            legacy_namespace: namespace.to_owned(),
            legacy_secret: secret.to_owned(),
            legacy_name: account.name,
            legacy_uid: account.uid,
            ..Claims::default()
        }
    }

    /// The compact JWT of `claims`.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let refused = |why: String| KeyError::Refused(why);
        let header = json!({"alg": self.public.scheme.name(), "kid": self.public.id});
        let body = api::json::to_vec(claims).map_err(|why| refused(why.to_string()))?;
        let message = format!("{}.{}", base64url_encode(header.to_string()), base64url_encode(body));
        let signature = self.pair.sign(message.as_bytes()).map_err(|why| refused(why.to_string()))?;
        let signature = match self.public.scheme.width() {
            Some(width) => fixed_width(&signature, width).ok_or(KeyError::Unsupported)?,
            None => signature,
        };
        Ok(format!("{message}.{}", base64url_encode(signature)))
    }
}

/// `/openid/v1/jwks` (media type `application/jwk-set+json`).
#[must_use]
pub fn jwks(keys: &[VerifyKey]) -> Value {
    json!({"keys": keys.iter().map(|key| &key.jwk).collect::<Vec<_>>()})
}

/// `/.well-known/openid-configuration`.
#[must_use]
pub fn discovery(issuer: &str, jwks_uri: &str, keys: &[VerifyKey]) -> Value {
    let mut algorithms: Vec<_> = keys.iter().map(|key| key.scheme.name()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}
