//! Certificates and certificate requests (PKCS#10) in PEM, as far as the API judges them.
//!
//! Never signs, and never looks at a clock.

pub mod keys;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;
use x509_parser::asn1_rs::oid;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

/// The last common name of a subject, as Go reads one; `None` when nobody is named.
#[must_use]
pub fn common_name<'a>(subject: &'a X509Name<'_>) -> Option<&'a str> {
    subject.iter_common_name().filter_map(|name| name.as_str().ok()).last().filter(|name| !name.is_empty())
}

/// Every organization of a subject: the groups of a client's certificate.
#[must_use]
pub fn organizations(subject: &X509Name<'_>) -> Vec<String> {
    subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned).collect()
}

/// One block of a PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// `CERTIFICATE`.
    pub label: String,
    /// Lines of the form `Key: value` stand before the content.
    pub has_headers: bool,
    /// The content, decoded.
    pub contents: Vec<u8>,
}

/// The blocks of a PEM text; what is no block, or a broken one, is passed over.
#[must_use]
pub fn pem(text: &[u8]) -> Vec<Block> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::trim).peekable();
    let mut out = Vec::new();
    while let Some(line) = lines.next() {
        let label = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        let Some(label) = label else { continue };
        let (mut has_headers, mut body) = (false, String::new());
        while let Some(line) = lines.next_if(|line| !line.starts_with("-----")) {
            if body.is_empty() && line.contains(':') {
                has_headers = true;
            } else {
                body.push_str(line);
            }
        }
        let end = format!("-----END {label}-----");
        if lines.next_if(|line| *line == end).is_some()
            && let Ok(contents) = STANDARD.decode(&body)
        {
            out.push(Block { label: label.to_owned(), has_headers, contents });
        }
    }
    out
}

/// A PEM text of one block.
#[must_use]
pub fn to_pem(label: &str, contents: &[u8]) -> String {
    let body = STANDARD.encode(contents);
    let mut out = format!("-----BEGIN {label}-----\n");
    for (i, letter) in body.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            out.push('\n');
        }
        out.push(letter);
    }
    format!("{out}\n-----END {label}-----\n")
}

/// The block type of certificates.
const CERTIFICATE: &str = "CERTIFICATE";

/// A text of certificates and nothing else.
///
/// # Errors
/// Why it is none, in the words of `status.certificate`.
pub fn check_certificates(text: &[u8]) -> Result<(), String> {
    let blocks = pem(text);
    for block in &blocks {
        if block.label != CERTIFICATE {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".to_owned());
        }
        let mut rest = block.contents.as_slice();
        if rest.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        while !rest.is_empty() {
            let (more, _) = X509Certificate::from_der(rest).map_err(|error| format!("x509: {error}"))?;
            rest = more;
        }
    }
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Ok(())
}

/// The end of validity of the first certificate in a PEM text, Unix seconds.
#[must_use]
pub fn expiry(text: &[u8]) -> Option<i64> {
    let blocks = pem(text);
    let (_, certificate) = X509Certificate::from_der(&blocks.first()?.contents).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// What a certificate request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The subject's attributes below 2.5.4, by their last arc, in the order given: 3 is the common name, 10 an organization.
    pub subject: Vec<(u64, String)>,
    /// Names of hosts.
    pub dns_names: Vec<String>,
    /// Addresses of hosts.
    pub ip_addresses: Vec<IpAddr>,
    /// Addresses of people.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// The public key with its algorithm, DER.
    pub public_key: Vec<u8>,
    der: Vec<u8>,
}

/// The last arc of the common name.
pub const COMMON_NAME: u64 = 3;
/// The last arc of an organization.
pub const ORGANIZATION: u64 = 10;

impl Request {
    /// Reads the first block of a PEM text.
    ///
    /// # Errors
    /// Why it is no request.
    pub fn read(text: &[u8]) -> Result<Request, String> {
        let block = pem(text).into_iter().next().filter(|block| block.label == "CERTIFICATE REQUEST");
        Request::of_der(block.ok_or("PEM block type must be CERTIFICATE REQUEST")?.contents)
    }

    /// Reads DER.
    ///
    /// # Errors
    /// Why it is no request.
    pub fn of_der(der: Vec<u8>) -> Result<Request, String> {
        let (rest, parsed) = X509CertificationRequest::from_der(&der).map_err(|error| format!("x509: {error}"))?;
        if !rest.is_empty() {
            return Err("asn1: syntax error: trailing data".to_owned());
        }
        let info = &parsed.certification_request_info;
        let mut out = Request { public_key: info.subject_pki.raw.to_vec(), ..Request::default() };
        for attribute in info.subject.iter_attributes() {
            let arcs: Option<Vec<u64>> = attribute.attr_type().iter().map(Iterator::collect);
            if let (Some([2, 5, 4, arc]), Ok(text)) = (arcs.as_deref(), attribute.as_str()) {
                out.subject.push((*arc, text.to_owned()));
            }
        }
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                for name in &names.general_names {
                    out.add(name)?;
                }
            }
        }
        out.der = der;
        Ok(out)
    }

    fn add(&mut self, name: &GeneralName<'_>) -> Result<(), String> {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => self.ip_addresses.push(match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).map(IpAddr::from).map_err(|error| error.to_string())?,
                16 => <[u8; 16]>::try_from(*bytes).map(IpAddr::from).map_err(|error| error.to_string())?,
                length => return Err(format!("x509: cannot parse IP address of length {length}")),
            }),
            GeneralName::Invalid(..) => return Err("x509: invalid subject alternative names".to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// The values of one attribute of the subject.
    pub fn attributes(&self, arc: u64) -> impl Iterator<Item = &str> {
        self.subject.iter().filter(move |(own, _)| *own == arc).map(|(_, text)| text.as_str())
    }

    /// The last common name; empty without one.
    #[must_use]
    pub fn common_name(&self) -> &str {
        self.attributes(COMMON_NAME).last().unwrap_or_default()
    }

    /// Whoever asks holds the private key.
    ///
    /// # Errors
    /// Why the signature does not show it.
    pub fn check_signature(&self) -> Result<(), String> {
        let (_, parsed) = X509CertificationRequest::from_der(&self.der).map_err(|error| format!("x509: {error}"))?;
        let info = &parsed.certification_request_info;
        let algorithm = &parsed.signature_algorithm;
        let pss = algorithm.parameters.as_ref().and_then(|any| RsaSsaPssParams::try_from(any).ok());
        let hash = pss.as_ref().map(|params| params.hash_algorithm_oid().clone());
        let algorithm = verification(&algorithm.algorithm, hash.as_ref(), &info.subject_pki)
            .ok_or("x509: cannot verify signature: algorithm unimplemented")?;
        UnparsedPublicKey::new(algorithm, &info.subject_pki.subject_public_key.data)
            .verify(info.raw, &parsed.signature_value.data)
            .map_err(|_| "x509: the signature does not match the request's public key".to_owned())
    }
}

/// How a signature of this algorithm is verified; `hash` is the digest of RSA-PSS.
fn verification(
    algorithm: &Oid<'_>,
    hash: Option<&Oid<'_>>,
    key: &SubjectPublicKeyInfo<'_>,
) -> Option<&'static dyn VerificationAlgorithm> {
    let id = algorithm.to_id_string();
    let curve = || {
        let parameters = key.algorithm.parameters.as_ref()?;
        parameters.clone().oid().ok().map(|oid| oid.to_id_string())
    };
    const P256: &str = "1.2.840.10045.3.1.7";
    const P384: &str = "1.3.132.0.34";
    const P521: &str = "1.3.132.0.35";
    Some(match id.as_str() {
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        "1.2.840.113549.1.1.11" => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        "1.2.840.113549.1.1.12" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "1.2.840.113549.1.1.13" => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        "1.2.840.113549.1.1.10" => match hash? {
            hash if *hash == oid!(2.16.840.1.101.3.4.2.1) => &signature::RSA_PSS_2048_8192_SHA256,
            hash if *hash == oid!(2.16.840.1.101.3.4.2.2) => &signature::RSA_PSS_2048_8192_SHA384,
            hash if *hash == oid!(2.16.840.1.101.3.4.2.3) => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        },
        "1.3.101.112" => &signature::ED25519,
        "1.2.840.10045.4.1" => match curve()?.as_str() {
            P256 => &signature::ECDSA_P256_SHA1_ASN1,
            P521 => &signature::ECDSA_P521_SHA1_ASN1,
            _ => return None,
        },
        "1.2.840.10045.4.3.2" => match curve()?.as_str() {
            P256 => &signature::ECDSA_P256_SHA256_ASN1,
            P384 => &signature::ECDSA_P384_SHA256_ASN1,
            P521 => &signature::ECDSA_P521_SHA256_ASN1,
            _ => return None,
        },
        "1.2.840.10045.4.3.3" => match curve()?.as_str() {
            P256 => &signature::ECDSA_P256_SHA384_ASN1,
            P384 => &signature::ECDSA_P384_SHA384_ASN1,
            P521 => &signature::ECDSA_P521_SHA384_ASN1,
            _ => return None,
        },
        "1.2.840.10045.4.3.4" => match curve()?.as_str() {
            P256 => &signature::ECDSA_P256_SHA512_ASN1,
            P384 => &signature::ECDSA_P384_SHA512_ASN1,
            P521 => &signature::ECDSA_P521_SHA512_ASN1,
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_among_other_lines() {
        let text = b"Subject: x\n-----BEGIN A-----\nK: v\n\nAAEC\n-----END A-----\n-----BEGIN B-----\n-----BEGIN C C-----\r\nAA\r\nEC\r\n\
            -----END C C-----\n-----BEGIN D-----\nAA*C\n-----END D-----\n-----BEGIN E-----\nAAEC\n-----END F-----\n";
        let found: Vec<(String, bool)> = pem(text).into_iter().map(|block| (block.label, block.has_headers)).collect();
        assert_eq!(found, [("A".to_owned(), true), ("C C".to_owned(), false)]);
        let long = [7; 100];
        assert_eq!(pem(to_pem("X Y", &long).as_bytes())[0].contents, long);
        assert!(to_pem("X Y", &long).lines().all(|line| line.len() <= 64));
        assert!(pem(text).iter().all(|block| block.contents == [0, 1, 2]));
    }

    #[test]
    fn certificates_alone_make_a_chain() {
        for (text, why) in [
            ("", "must contain at least one CERTIFICATE PEM block"),
            ("-----BEGIN X-----\nAA==\n-----END X-----", "only CERTIFICATE PEM blocks are allowed, found \"X\""),
            (
                "-----BEGIN CERTIFICATE-----\nA: b\n\nAA==\n-----END CERTIFICATE-----",
                "no PEM block headers are permitted",
            ),
            (
                "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
                "found CERTIFICATE PEM block containing 0 certificates",
            ),
        ] {
            assert_eq!(check_certificates(text.as_bytes()), Err(why.to_owned()));
        }
        let broken = check_certificates(b"-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----").unwrap_err();
        assert!(broken.starts_with("x509: "), "{broken}");
    }
}
