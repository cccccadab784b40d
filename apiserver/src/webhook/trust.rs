//! Whose certificates are believed: those that the given authorities vouch for, else the machine's.
//!
//! Never speaks. A certificate that is itself among the authorities is believed too, as Go believes it.

use crate::transport::{Identity, with_identity};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// Where machines keep the authorities that they believe, PEM.
const OF_MACHINE: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Settings for HTTP/1.1 over TLS; `authorities` is PEM, and empty for the machine's. `identity` is shown to who asks for one.
///
/// # Errors
/// When no authority can be read, or the identity cannot be used.
pub(crate) fn client_config(authorities: &str, identity: Option<&Identity>) -> Result<rustls::ClientConfig, String> {
    let own = !authorities.is_empty();
    let pem = if own {
        authorities.as_bytes().to_vec()
    } else {
        OF_MACHINE.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default()
    };
    let mut roots = RootCertStore::empty();
    let mut given = Vec::new();
    for der in CertificateDer::pem_slice_iter(&pem).flatten() {
        // Machines keep some that rustls does not read.
        if roots.add(der.clone()).is_ok() && own {
            given.push(der);
        }
    }
    if roots.is_empty() && own {
        return Err("unable to load root certificates: unable to parse bytes as PEM block".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if roots.is_empty() {
        return with_identity(builder.with_root_certificates(roots), identity).map_err(|error| error.to_string());
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let inner = inner.map_err(|error| error.to_string())?;
    let verifier = Arc::new(Verifier { inner, given });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    with_identity(builder, identity).map_err(|error| error.to_string())
}

/// As webpki, but an authority may also serve.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let outcome = self.inner.verify_server_cert(leaf, between, name, ocsp, now);
        if outcome.is_err() && self.given.iter().any(|given| given.as_ref() == leaf.as_ref()) {
            let (_, read) = x509_parser::parse_x509_certificate(leaf)
                .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
            let validity = read.validity();
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            if seconds < validity.not_before.timestamp() || seconds > validity.not_after.timestamp() {
                return Err(Error::InvalidCertificate(CertificateError::Expired));
            }
            rustls::client::verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        outcome
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A failed handshake in Go's words.
pub(crate) fn sentence(error: &std::io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let Some(Error::InvalidCertificate(why)) = tls else { return error.to_string() };
    let why = match why {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("certificate is not valid for the name: {why}")
        }
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}
