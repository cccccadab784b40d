//! CertificateSigningRequests: what their conditions say, what a kubelet may ask for, and certificates signed by the cluster's
//! authority. Decisions are pure but for the serial number's chance; it never writes to the API.

use std::net::IpAddr;
use std::sync::Arc;

use api::x509::{ORGANIZATION, Request};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use rcgen::{KeyPair, SigningKey as _};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};
use yasna::{DERWriter, Tag, models::ObjectIdentifier};

use crate::controller::Context;
use crate::informer::{Change, Watched};
use crate::object;
use crate::queue::Queue;

impl Watched for CertificateSigningRequest {}

/// Clients of the API server that kubelets are.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Servers that kubelets are.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Any client of the API server.
pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Whatever was asked of the cluster before signers had names.
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

/// The names of requests as they come and change.
pub(crate) fn queue(context: &Context) -> Arc<Queue<String>> {
    let queue: Arc<Queue<String>> = Arc::default();
    context.informers.of::<CertificateSigningRequest>().subscribe({
        let queue = queue.clone();
        move |change| {
            if !matches!(change, Change::Deleted(_)) {
                queue.add(object::name(&change.object().metadata).to_owned());
            }
        }
    });
    queue
}

/// The conditions of one type.
pub fn conditions<'a>(
    request: &'a CertificateSigningRequest,
    type_: &'a str,
) -> impl Iterator<Item = &'a CertificateSigningRequestCondition> {
    let all = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.filter(move |condition| condition.type_ == type_)
}

/// Whether it has a condition of this type.
#[must_use]
pub fn has(request: &CertificateSigningRequest, type_: &str) -> bool {
    conditions(request, type_).next().is_some()
}

/// The certificate, PEM; empty until it is issued.
#[must_use]
pub fn issued(request: &CertificateSigningRequest) -> &[u8] {
    request.status.as_ref().and_then(|status| status.certificate.as_ref()).map_or(&[], |bytes| &bytes.0)
}

/// The usages asked for.
#[must_use]
pub fn usages(request: &CertificateSigningRequest) -> Vec<&str> {
    request.spec.usages.iter().flatten().map(String::as_str).collect()
}

/// What is wrong with a request of a kubelet for its client certificate.
///
/// # Errors
/// Upstream's sentence about the first thing that is.
pub fn check_kubelet_client(request: &Request, usages: &[&str]) -> Result<(), String> {
    of_nodes(request)?;
    for (list, sentence) in [
        (request.dns_names.len(), "DNS subjectAltNames are not allowed"),
        (request.emails.len(), "Email subjectAltNames are not allowed"),
        (request.ip_addresses.len(), "IP subjectAltNames are not allowed"),
        (request.uris.len(), "URI subjectAltNames are not allowed"),
    ] {
        if list > 0 {
            return Err(sentence.to_owned());
        }
    }
    named_as_node(request)?;
    exactly(usages, &["client auth", "digital signature", "key encipherment"])
}

/// What is wrong with a request of a kubelet for its serving certificate.
///
/// # Errors
/// Upstream's sentence about the first thing that is.
pub fn check_kubelet_serving(request: &Request, usages: &[&str]) -> Result<(), String> {
    of_nodes(request)?;
    if request.dns_names.is_empty() && request.ip_addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    if !request.emails.is_empty() {
        return Err("Email subjectAltNames are not allowed".to_owned());
    }
    if !request.uris.is_empty() {
        return Err("URI subjectAltNames are not allowed".to_owned());
    }
    exactly(usages, &["digital signature", "key encipherment", "server auth"])?;
    named_as_node(request)
}

/// What is wrong with a request of any client of the API server.
///
/// # Errors
/// Upstream's sentence about the first thing that is.
pub fn check_client(usages: &[&str]) -> Result<(), String> {
    let known = |usage: &&&str| ["digital signature", "key encipherment", "client auth"].contains(*usage);
    if let Some(other) = usages.iter().find(|usage| !known(usage)) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.contains(&"client auth") {
        return Err("missing required usage for client certificate: client auth".to_owned());
    }
    Ok(())
}

fn of_nodes(request: &Request) -> Result<(), String> {
    let only = request.attributes(ORGANIZATION).eq(["system:nodes"]);
    if only { Ok(()) } else { Err("subject organization is not system:nodes".to_owned()) }
}

fn named_as_node(request: &Request) -> Result<(), String> {
    let node = request.common_name().starts_with("system:node:");
    if node { Ok(()) } else { Err("subject common name does not begin with system:node:".to_owned()) }
}

/// Exactly these usages; the encipherment of keys, which only RSA does, may be left out.
fn exactly(usages: &[&str], wanted: &[&str]) -> Result<(), String> {
    let complete = |usage: &&str| usages.contains(usage) || *usage == "key encipherment";
    if wanted.iter().all(complete) && usages.iter().all(|usage| wanted.contains(usage)) {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignError {
    /// The authority cannot sign; its files need attention.
    #[error("the cluster's certificate authority cannot be used: {0}")]
    Authority(String),
    /// The request can never be signed as it is.
    #[error("{0}")]
    Request(String),
}

/// The bits of usages in the key usage extension, by their place.
const KEY_USAGES: &[(&str, u8)] = &[
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// Usages that are purposes, in the order in which they are written.
const PURPOSES: &[(&str, &[u64])] = &[
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

/// Subject attributes that a certificate keeps, by their last arc below 2.5.4, in the order in which they are written.
const SUBJECT: &[u64] = &[6, 10, 11, 7, 8, 9, 17, 3, 5];

/// How long before now a certificate is valid already, seconds.
const BACKDATE: i64 = 5 * 60;
/// Shorter ones than this are not shortened by it, seconds.
const SHORT: i64 = 8 * 3600;
/// The least lifetime, seconds.
const SHORTEST: i64 = 10 * 60;

/// The cluster's authority.
#[derive(Clone, Copy)]
pub struct Authority<'a> {
    /// Its certificate, PEM.
    pub certificate: &'a str,
    /// Its key, PEM.
    pub key: &'a str,
    /// The longest that what it signs lives, seconds.
    pub longest: i64,
}

/// A certificate for a request, PEM: the subject and names as asked for, the usages given, and nothing else of the request.
///
/// # Errors
/// See [`SignError`].
pub fn sign(
    authority: Authority<'_>,
    request: &Request,
    usages: &[&str],
    seconds: Option<i64>,
    now: Timestamp,
) -> Result<String, SignError> {
    request.check_signature().map_err(SignError::Request)?;
    let known =
        |usage: &&&str| KEY_USAGES.iter().any(|(n, _)| n == *usage) || PURPOSES.iter().any(|(n, _)| n == *usage);
    if let Some(unknown) = usages.iter().find(|usage| !known(usage)) {
        return Err(SignError::Request(format!("unrecognized usage values: [{unknown:?}]")));
    }
    let broken = |why: String| SignError::Authority(why);
    let blocks = api::x509::pem(authority.certificate.as_bytes());
    let der = &blocks.first().ok_or_else(|| broken("no certificate".to_owned()))?.contents;
    let (_, issuer) = X509Certificate::from_der(der).map_err(|error| broken(error.to_string()))?;
    let key = KeyPair::from_pem(authority.key).map_err(|error| broken(error.to_string()))?;
    let algorithm = algorithm(&key).ok_or_else(|| broken("its key's algorithm is not known".to_owned()))?;

    let end_of_issuer = issuer.validity().not_after.timestamp();
    let now = now.as_second();
    if now >= end_of_issuer {
        return Err(broken(format!("it expired at {end_of_issuer}")));
    }
    let lifetime = seconds.map_or(authority.longest, |wanted| wanted.max(SHORTEST).min(authority.longest));
    let end = if lifetime < SHORT { now + lifetime } else { now + lifetime - BACKDATE };
    let validity = (now - BACKDATE, end.min(end_of_issuer));

    let issuer_key = issuer.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    let body = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
            // More than 64 bits of chance, positive and not zero.
            let mut serial: [u8; 16] = rand::random();
            serial[0] = (serial[0] & 0x7f) | 0x40;
            writer.next().write_bigint_bytes(&serial, true);
            writer.next().write_der(algorithm.as_slice());
            writer.next().write_der(issuer.subject().as_raw());
            writer.next().write_sequence(|writer| {
                time(writer.next(), validity.0);
                time(writer.next(), validity.1);
            });
            subject(writer.next(), request);
            writer.next().write_der(&request.public_key);
            writer.next().write_tagged(Tag::context(3), |writer| {
                writer.write_sequence(|writer| extensions(writer, request, usages, issuer_key.as_deref()));
            });
        });
    });
    let signature = key.sign(&body).map_err(|error| broken(error.to_string()))?;
    let whole = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&body);
            writer.next().write_der(&algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    Ok(api::x509::to_pem("CERTIFICATE", &whole))
}

/// The `AlgorithmIdentifier` of signatures with this key, DER.
fn algorithm(key: &KeyPair) -> Option<Vec<u8>> {
    let known: [(&rcgen::SignatureAlgorithm, &[u64], bool); 5] = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, &[1, 2, 840, 10045, 4, 3, 2], false),
        (&rcgen::PKCS_ECDSA_P384_SHA384, &[1, 2, 840, 10045, 4, 3, 3], false),
        (&rcgen::PKCS_ECDSA_P521_SHA512, &[1, 2, 840, 10045, 4, 3, 4], false),
        (&rcgen::PKCS_ED25519, &[1, 3, 101, 112], false),
        (&rcgen::PKCS_RSA_SHA256, &[1, 2, 840, 113_549, 1, 1, 11], true),
    ];
    let (_, oid, null) = known.into_iter().find(|(algorithm, ..)| *algorithm == key.algorithm())?;
    Some(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
            if null {
                writer.next().write_null();
            }
        });
    }))
}

/// A time as certificates have it: two digits of the year until 2049.
fn time(writer: DERWriter<'_>, seconds: i64) {
    let at = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    let (tag, text) = if at.year() < 2050 {
        (yasna::tags::TAG_UTCTIME, at.strftime("%y%m%d%H%M%SZ").to_string())
    } else {
        (yasna::tags::TAG_GENERALIZEDTIME, at.strftime("%Y%m%d%H%M%SZ").to_string())
    };
    writer.write_tagged_implicit(tag, |writer| writer.write_bytes(text.as_bytes()));
}

/// The attributes that have a name, one relative name for each kind of them.
fn subject(writer: DERWriter<'_>, request: &Request) {
    writer.write_sequence(|writer| {
        for arc in SUBJECT {
            let mut texts: Vec<&str> = request.attributes(*arc).filter(|text| !text.is_empty()).collect();
            // Of names and serial numbers there is one.
            if matches!(arc, 3 | 5) {
                texts = texts.pop().into_iter().collect();
            }
            if texts.is_empty() {
                continue;
            }
            writer.next().write_set_of(|writer| {
                for text in texts {
                    writer.next().write_sequence(|writer| {
                        writer.next().write_oid(&ObjectIdentifier::from_slice(&[2, 5, 4, *arc]));
                        let printable = |b: u8| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b);
                        if text.bytes().all(printable) {
                            writer.next().write_printable_string(text);
                        } else {
                            writer.next().write_utf8_string(text);
                        }
                    });
                }
            });
        }
    });
}

fn extensions(writer: &mut yasna::DERWriterSeq<'_>, request: &Request, usages: &[&str], issuer: Option<&[u8]>) {
    let mut add = |id: u64, critical: bool, content: Vec<u8>| {
        writer.next().write_sequence(|writer| {
            writer.next().write_oid(&ObjectIdentifier::from_slice(&[2, 5, 29, id]));
            if critical {
                writer.next().write_bool(true);
            }
            writer.next().write_bytes(&content);
        });
    };
    let bits: Vec<u8> = KEY_USAGES.iter().filter(|(name, _)| usages.contains(name)).map(|(_, bit)| *bit).collect();
    if let Some(last) = bits.iter().max() {
        let mut bytes = [0_u8; 2];
        for bit in &bits {
            if let Some(byte) = bytes.get_mut(usize::from(bit / 8)) {
                *byte |= 0x80 >> (bit % 8);
            }
        }
        let length = usize::from(*last) + 1;
        let bytes = bytes.get(..length.div_ceil(8)).unwrap_or_default();
        add(15, true, yasna::construct_der(|writer| writer.write_bitvec_bytes(bytes, length)));
    }
    let mut purposes: Vec<&[u64]> =
        PURPOSES.iter().filter(|(name, _)| usages.contains(name)).map(|(_, id)| *id).collect();
    purposes.dedup();
    if !purposes.is_empty() {
        let content = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                for id in purposes {
                    writer.next().write_oid(&ObjectIdentifier::from_slice(id));
                }
            });
        });
        add(37, false, content);
    }
    // No authority.
    add(19, true, yasna::construct_der(|writer| writer.write_sequence(|_| ())));
    if let Some(issuer) = issuer {
        let content = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(issuer));
            });
        });
        add(35, false, content);
    }
    let mut names: Vec<(u64, Vec<u8>)> = Vec::new();
    names.extend(request.dns_names.iter().map(|name| (2, name.as_bytes().to_vec())));
    names.extend(request.emails.iter().map(|name| (1, name.as_bytes().to_vec())));
    names.extend(request.ip_addresses.iter().map(|address| match address {
        IpAddr::V4(address) => (7, address.octets().to_vec()),
        IpAddr::V6(address) => (7, address.octets().to_vec()),
    }));
    names.extend(request.uris.iter().map(|name| (6, name.as_bytes().to_vec())));
    if !names.is_empty() {
        let content = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                for (tag, bytes) in &names {
                    writer.next().write_tagged_implicit(Tag::context(*tag), |writer| writer.write_bytes(bytes));
                }
            });
        });
        let nameless = SUBJECT.iter().all(|arc| request.attributes(*arc).next().is_none());
        add(17, nameless, content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa};
    use std::{sync::Arc, time::Duration};

    fn authority() -> (String, String) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2051, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn request(organization: &str, name: &str, hosts: &[&str]) -> Request {
        let mut params =
            CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        Request::read(pem.as_bytes()).unwrap()
    }

    #[test]
    fn kubelets_ask_for_little() {
        let serving = ["digital signature", "key encipherment", "server auth"];
        let client = ["digital signature", "client auth"];
        let node = |hosts: &[&str]| request("system:nodes", "system:node:a", hosts);
        type Check = fn(&Request, &[&str]) -> Result<(), String>;
        for (check, request, usages, why) in [
            (check_kubelet_client as Check, node(&[]), &client[..], ""),
            (
                check_kubelet_client,
                node(&[]),
                &serving,
                "usages did not match [client auth digital signature key encipherment]",
            ),
            (check_kubelet_client, node(&["a"]), &client, "DNS subjectAltNames are not allowed"),
            (check_kubelet_client, node(&["10.0.0.1"]), &client, "IP subjectAltNames are not allowed"),
            (
                check_kubelet_client,
                request("x", "system:node:a", &[]),
                &client,
                "subject organization is not system:nodes",
            ),
            (
                check_kubelet_client,
                request("system:nodes", "a", &[]),
                &client,
                "subject common name does not begin with system:node:",
            ),
            (check_kubelet_serving, node(&["10.0.0.1"]), &serving, ""),
            (
                check_kubelet_serving,
                node(&["a"]),
                &serving[..1],
                "usages did not match [digital signature key encipherment server auth]",
            ),
            (check_kubelet_serving, node(&[]), &serving, "DNS or IP subjectAltName is required"),
        ] {
            assert_eq!(check(&request, usages).err().unwrap_or_default(), why);
        }
        assert_eq!(check_client(&["client auth", "digital signature"]), Ok(()));
        assert_eq!(check_client(&["server auth"]).unwrap_err(), "invalid usage for client certificate: server auth");
        assert_eq!(
            check_client(&["digital signature"]).unwrap_err(),
            "missing required usage for client certificate: client auth"
        );
    }

    #[test]
    fn certificates_say_what_was_asked_and_no_more() {
        let (certificate, key) = authority();
        let authority = Authority { certificate: &certificate, key: &key, longest: 365 * 86_400 };
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let mut wanted = request("devs", "jane", &["a.example.com", "10.0.0.1", "fd00::1"]);
        wanted.subject.insert(0, (ORGANIZATION, "öps".to_owned()));
        wanted.uris.push("spiffe://x/y".to_owned());
        let usages = ["client auth", "decipher only", "digital signature"];
        let pem = sign(authority, &wanted, &usages, Some(3600), now).unwrap();
        assert_eq!(api::x509::check_certificates(pem.as_bytes()), Ok(()));
        let der = api::x509::pem(pem.as_bytes()).remove(0).contents;
        let (_, issued) = X509Certificate::from_der(&der).unwrap();
        let ca = api::x509::pem(certificate.as_bytes()).remove(0).contents;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.clone().into()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let at = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600));
        verifier.build().unwrap().verify_client_cert(&der.clone().into(), &[], at).unwrap();
        let (_, ca) = X509Certificate::from_der(&ca).unwrap();
        assert_eq!(issued.issuer().as_raw(), ca.subject().as_raw());
        let groups: Vec<&str> = issued.subject().iter_organization().map(|group| group.as_str().unwrap()).collect();
        // Sorted as sets are in DER: by their bytes.
        assert_eq!(groups, ["öps", "devs"]);
        assert_eq!(issued.subject().iter_common_name().next().unwrap().as_str(), Ok("jane"));
        let validity = (issued.validity().not_before.timestamp(), issued.validity().not_after.timestamp());
        assert_eq!(validity, (now.as_second() - 300, now.as_second() + 3600));
        assert_eq!(issued.public_key().raw, wanted.public_key);
        let key_usage = issued.key_usage().unwrap().unwrap().value;
        assert!(key_usage.digital_signature() && key_usage.decipher_only() && !key_usage.key_encipherment());
        let purposes = issued.extended_key_usage().unwrap().unwrap().value;
        assert!(purposes.client_auth && !purposes.server_auth);
        assert!(!issued.is_ca());
        assert_eq!(issued.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 4);

        // Never longer than the authority, nor than it allows; in whole years the end is as early as the beginning.
        for (longest, seconds, end) in [
            (86_400, None, now.as_second() + 86_400 - 300),
            (86_400, Some(1), now.as_second() + 600),
            (i64::from(u32::MAX), None, ca.validity().not_after.timestamp()),
        ] {
            let pem = sign(Authority { longest, ..authority }, &wanted, &usages, seconds, now).unwrap();
            assert_eq!(api::x509::expiry(pem.as_bytes()), Some(end));
        }
        let late = Timestamp::from_second(ca.validity().not_after.timestamp()).unwrap();
        assert!(matches!(sign(authority, &wanted, &usages, None, late), Err(SignError::Authority(_))));
        assert!(matches!(sign(authority, &wanted, &["flying"], None, now), Err(SignError::Request(_))));
    }
}
