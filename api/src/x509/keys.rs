//! Public keys, proofs that somebody holds the private one, and the certificates issued for them.
//!
//! Never signs, and never looks at a clock.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// On the curve of this name.
    Ecdsa(&'static str),
    /// With a modulus of so many bits.
    Rsa(usize),
    /// None of these.
    Other,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What it is.
    pub kind: KeyKind,
    /// The bits of the key itself.
    bits: Vec<u8>,
}

const CURVES: &[(&str, &str)] = &[
    ("1.3.132.0.33", "P-224"),
    ("1.2.840.10045.3.1.7", "P-256"),
    ("1.3.132.0.34", "P-384"),
    ("1.3.132.0.35", "P-521"),
];

impl Key {
    fn of(info: &SubjectPublicKeyInfo<'_>) -> Option<Key> {
        let kind = match info.algorithm.algorithm.to_id_string().as_str() {
            "1.3.101.112" => KeyKind::Ed25519,
            "1.2.840.10045.2.1" => {
                let id = info.algorithm.parameters.clone()?.oid().ok()?.to_id_string();
                KeyKind::Ecdsa(CURVES.iter().find(|(known, _)| *known == id)?.1)
            }
            "1.2.840.113549.1.1.1" => match info.parsed().ok()? {
                Parsed::RSA(key) => KeyKind::Rsa(key.key_size()),
                _ => return None,
            },
            _ => KeyKind::Other,
        };
        Some(Key { kind, bits: info.subject_public_key.data.to_vec() })
    }

    /// From a `SubjectPublicKeyInfo`; `None` when it is none.
    #[must_use]
    pub fn of_pkix(der: &[u8]) -> Option<Key> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
        rest.is_empty().then(|| Key::of(&info)).flatten()
    }

    /// The key that a certificate request (PKCS#10) is for; `None` when it is none.
    #[must_use]
    pub fn of_request(der: &[u8]) -> Option<Key> {
        let (rest, request) = X509CertificationRequest::from_der(der).ok()?;
        rest.is_empty().then(|| Key::of(&request.certification_request_info.subject_pki)).flatten()
    }

    /// Whether the proof is a signature of the message by this key: SHA-256 where a digest is needed, PSS with RSA.
    #[must_use]
    pub fn verifies(&self, message: &[u8], proof: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.kind {
            KeyKind::Ed25519 => &signature::ED25519,
            KeyKind::Ecdsa("P-256") => &signature::ECDSA_P256_SHA256_ASN1,
            KeyKind::Ecdsa("P-384") => &signature::ECDSA_P384_SHA256_ASN1,
            KeyKind::Ecdsa("P-521") => &signature::ECDSA_P521_SHA256_ASN1,
            KeyKind::Rsa(_) => &signature::RSA_PSS_2048_8192_SHA256,
            KeyKind::Ecdsa(_) | KeyKind::Other => return false,
        };
        UnparsedPublicKey::new(algorithm, &self.bits).verify(message, proof).is_ok()
    }
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Names of hosts.
    pub hosts: Vec<String>,
    /// Addresses of mail.
    pub emails: Vec<String>,
    /// Whose it is.
    pub key: Option<Key>,
    /// Begin of its validity, Unix seconds.
    pub not_before: i64,
    /// End of its validity, Unix seconds.
    pub not_after: i64,
}

impl Leaf {
    /// Reads it; `None` when it is no certificate.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Leaf> {
        let (_, certificate) = X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty())?;
        let mut leaf = Leaf {
            hosts: Vec::new(),
            emails: Vec::new(),
            key: Key::of(certificate.public_key()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        };
        for extension in certificate.extensions() {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(host) => leaf.hosts.push((*host).to_owned()),
                    GeneralName::RFC822Name(mail) => leaf.emails.push((*mail).to_owned()),
                    _ => {}
                }
            }
        }
        Some(leaf)
    }
}

/// Whether some DER is the certificate of an authority.
///
/// # Errors
/// Why not.
pub fn check_authority(der: &[u8]) -> Result<(), &'static str> {
    const BROKEN: &str = "does not parse as X.509";
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| BROKEN)?;
    if !rest.is_empty() {
        return Err(BROKEN);
    }
    match certificate.basic_constraints() {
        Err(_) => Err(BROKEN),
        Ok(Some(constraints)) if constraints.value.ca => Ok(()),
        Ok(_) => Err("does not have the CA bit set"),
    }
}
