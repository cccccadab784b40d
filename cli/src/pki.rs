//! The cluster's certificates: an authority, and what it signs, in `DATA-DIR/pki`.
//!
//! What is there and good is used again; serving certificates are made anew when they expire soon or lack a name.

use crate::kubeconfig::write_private;
use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long the authority lives.
const CA_DAYS: u64 = 3650;
/// How long everything else lives.
const LEAF_DAYS: u64 = 365;
/// A certificate with less than this left is made anew.
const RENEW_DAYS: u64 = 30;

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The cluster's authority and the directory in which it keeps what it signs.
pub(crate) struct Authority {
    directory: PathBuf,
    pair: Pair,
}

/// What a certificate is for.
pub(crate) struct Subject<'a> {
    /// File name without ending.
    pub(crate) file: &'a str,
    /// User name, or the server's own.
    pub(crate) name: &'a str,
    /// Group, at most one.
    pub(crate) group: Option<&'a str>,
    /// Names and addresses of a server; none for clients.
    pub(crate) hosts: Vec<String>,
}

impl Authority {
    /// Reads the cluster's authority or makes one.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Authority> {
        Authority::named(directory, "ca", "kubernetes")
    }

    /// The same of the authority that vouches for the front proxy.
    pub(crate) fn front_proxy(directory: &Path) -> anyhow::Result<Authority> {
        Authority::named(directory, "front-proxy-ca", "front-proxy-ca")
    }

    fn named(directory: &Path, file: &str, common: &str) -> anyhow::Result<Authority> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let (certificate, key) = (directory.join(format!("{file}.crt")), directory.join(format!("{file}.key")));
        let pair = match (read(&certificate)?, read(&key)?) {
            (Some(certificate), Some(key)) => Pair { certificate, key },
            (None, None) => {
                let pair = make_authority(common)?;
                write_private(&key, &pair.key)?;
                write_private(&certificate, &pair.certificate)?;
                pair
            }
            _ => anyhow::bail!("{} holds only one of {file}.crt and {file}.key", directory.display()),
        };
        Ok(Authority { directory: directory.to_owned(), pair })
    }

    /// The authority's certificate, PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.pair.certificate
    }

    /// The authority's key, PEM.
    pub(crate) fn key(&self) -> &str {
        &self.pair.key
    }

    /// A certificate for a subject: the one that is there, or a new one.
    pub(crate) fn issue(&self, subject: &Subject<'_>) -> anyhow::Result<Pair> {
        let (certificate, key) = (
            self.directory.join(format!("{}.crt", subject.file)),
            self.directory.join(format!("{}.key", subject.file)),
        );
        if let (Some(certificate), Some(key)) = (read(&certificate)?, read(&key)?)
            && still_good(&certificate, subject)
        {
            return Ok(Pair { certificate, key });
        }
        let pair = self.sign(subject)?;
        write_private(&key, &pair.key)?;
        write_private(&certificate, &pair.certificate)?;
        Ok(pair)
    }

    fn sign(&self, subject: &Subject<'_>) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(subject.name, subject.group);
        validity(&mut params, LEAF_DAYS);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = if subject.hosts.is_empty() {
            vec![ExtendedKeyUsagePurpose::ClientAuth]
        } else {
            vec![ExtendedKeyUsagePurpose::ServerAuth]
        };
        for host in &subject.hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into()?),
            });
        }
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_ca_cert_pem(&self.pair.certificate, KeyPair::from_pem(&self.pair.key)?)?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// A certificate of nobody's but its own, for a server that was given none.
pub(crate) fn self_signed(common: &str, hosts: &[String]) -> anyhow::Result<Pair> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = name(common, None);
    validity(&mut params, LEAF_DAYS);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// The key that signs service-account tokens, PEM; made at the first start.
pub(crate) fn token_key(directory: &Path) -> anyhow::Result<String> {
    let path = directory.join("sa.key");
    if let Some(key) = read(&path)? {
        return Ok(key);
    }
    let key = apiserver::authn::tokens::generate_es256()?;
    write_private(&path, &key)?;
    Ok(key)
}

fn make_authority(common: &str) -> anyhow::Result<Pair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common, None);
    validity(&mut params, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn name(common: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name.push(DnType::CommonName, common);
    name
}

/// From an hour ago, so that a clock that lags a little still accepts it.
fn validity(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + Duration::from_secs(days * 86_400)).into();
}

fn still_good(pem: &str, subject: &Subject<'_>) -> bool {
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(pem.as_bytes()) else {
        return false;
    };
    let Ok(certificate) = pem.parse_x509() else {
        return false;
    };
    let left = certificate.validity().time_to_expiration();
    let names: Vec<String> = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|names| names.value.general_names.iter().filter_map(host).collect())
        .unwrap_or_default();
    left.is_some_and(|left| left.whole_seconds() > i64::try_from(RENEW_DAYS * 86_400).unwrap_or(i64::MAX))
        && subject.hosts.iter().all(|host| names.contains(host))
}

fn host(name: &x509_parser::extensions::GeneralName<'_>) -> Option<String> {
    match name {
        x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
        x509_parser::extensions::GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    }
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
