//! Client certificates: the common name is the user, every organization a group.
//!
//! The chain is verified here against `--client-ca-file` (the TLS layer only proves possession of the key), including the
//! validity period and the client-auth key usage. A verified chain is remembered for some minutes, so that a busy connection
//! pays for one verification.

use super::remembered::Remembered;
use super::{Authenticator, CREDENTIAL_ID, Credentials, Outcome, Settings, SettingsError, User};
use api::x509::{common_name, organizations};
use async_trait::async_trait;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// Seconds after which a chain is verified anew.
const REMEMBER: i64 = 300;
/// The attribute that carries a user's uid, from upstream's arc for certificate extensions.
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

/// Authorities of client certificates.
pub(super) struct Authorities(Arc<dyn ClientCertVerifier>);

impl Authorities {
    /// From PEM.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn read(pem: &str) -> Result<Authorities, String> {
        let mut roots = RootCertStore::empty();
        for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.map_err(|why| format!("not usable PEM: {why}"))?;
            roots.add(der).map_err(|why| format!("not a usable certificate: {why}"))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.map(Authorities).map_err(|why| why.to_string())
    }

    /// Whether one of them vouches for the chain at this Unix second.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn vouch(
        &self,
        leaf: &CertificateDer<'static>,
        rest: &[CertificateDer<'static>],
        now: i64,
    ) -> Result<(), String> {
        let seconds = u64::try_from(now).map_err(|_| "the clock stands before 1970".to_owned())?;
        self.0
            .verify_client_cert(leaf, rest, UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
            .map(drop)
            .map_err(|why| format!("the client certificate does not hold: {why}"))
    }
}

struct X509 {
    authorities: Authorities,
    known: Remembered<Result<Option<User>, String>>,
}

pub(super) fn build(settings: &Settings) -> Result<Option<Box<dyn Authenticator>>, SettingsError> {
    let Some(pem) = &settings.client_ca else { return Ok(None) };
    let authorities = Authorities::read(pem).map_err(SettingsError::ClientCa)?;
    Ok(Some(Box::new(X509 { authorities, known: Remembered::new(4096) })))
}

impl X509 {
    /// `Ok(None)`: a good certificate that names nobody.
    fn judge(
        &self,
        leaf: &CertificateDer<'static>,
        rest: &[CertificateDer<'static>],
        now: i64,
    ) -> Result<Option<User>, String> {
        self.authorities.vouch(leaf, rest, now)?;
        let (_, certificate) =
            X509Certificate::from_der(leaf).map_err(|why| format!("the client certificate cannot be read: {why}"))?;
        user(certificate.subject(), leaf)
    }
}

fn user(subject: &X509Name<'_>, leaf: &CertificateDer<'_>) -> Result<Option<User>, String> {
    let Some(name) = common_name(subject) else { return Ok(None) };
    let mut uids = subject.iter_attributes().filter(|part| part.attr_type().to_id_string() == UID_OID);
    let uid = uids.next().map(|uid| uid.as_str().unwrap_or_default().to_owned());
    if uids.next().is_some() || uid.as_deref() == Some("") {
        return Err("the client certificate's uid must be one non-empty text".to_owned());
    }
    let mut id = "X509SHA256=".to_owned();
    for byte in Sha256::digest(leaf.as_ref()) {
        let _ = write!(id, "{byte:02x}");
    }
    Ok(Some(User {
        name: name.to_owned(),
        uid: uid.unwrap_or_default(),
        groups: organizations(subject),
        extra: BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![id])]),
    }))
}

#[async_trait]
impl Authenticator for X509 {
    async fn request(&self, credentials: &Credentials<'_>, _: Option<&str>) -> Outcome {
        let Some((leaf, rest)) = credentials.client_certs.split_first() else { return Outcome::None };
        let mut hash = Sha256::new();
        for der in credentials.client_certs {
            hash.update(der.len().to_be_bytes());
            hash.update(der);
        }
        let key = hash.finalize().into();
        let known = self.known.get(&key, credentials.now);
        let judged = known.unwrap_or_else(|| {
            let judged = self.judge(leaf, rest, credentials.now);
            let until = expiry(leaf).map_or(credentials.now, |end| end.min(credentials.now.saturating_add(REMEMBER)));
            if judged.is_ok() {
                self.known.put(key, judged.clone(), credentials.now, until);
            }
            judged
        });
        match judged {
            Ok(Some(user)) => Outcome::User(user),
            Ok(None) => Outcome::None,
            Err(why) => Outcome::Rejected(why),
        }
    }
}

/// The leaf's end of validity, Unix seconds.
fn expiry(leaf: &CertificateDer<'_>) -> Option<i64> {
    X509Certificate::from_der(leaf).ok().map(|(_, certificate)| certificate.validity().not_after.timestamp())
}
