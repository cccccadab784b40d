//! TLS for the secure port: certificates from PEM, client certificates asked for but judged later.
//!
//! A client certificate from an unknown authority does not end the handshake, as upstream: the request goes on with the
//! other credentials, or is refused with a `Status`.

use rustls::DistinguishedName;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::sync::Arc;

/// A certificate chain and its key, PEM.
#[derive(Clone)]
pub struct Identity {
    /// Leaf first.
    pub certificates: String,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: String,
}

/// What the listener needs.
#[derive(Clone)]
pub struct TlsSettings {
    /// The server's own certificate.
    pub identity: Identity,
    /// Authorities named to clients in the handshake, PEM.
    pub client_ca: Option<String>,
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text is unusable.
    #[error("the {what} is not usable PEM")]
    Pem {
        /// Which of them.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// Key and certificate do not fit, or rustls refuses them.
    #[error("the serving certificate is unusable")]
    Rustls(#[from] rustls::Error),
}

/// A configuration for TLS 1.2 and 1.3 with h2 and http/1.1.
///
/// # Errors
/// When a PEM text cannot be read or the key does not belong to the certificate.
pub fn server_config(settings: &TlsSettings) -> Result<rustls::ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = certificates(&settings.identity.certificates, "serving certificate")?;
    let key = PrivateKeyDer::from_pem_slice(settings.identity.key.as_bytes())
        .map_err(|source| TlsError::Pem { what: "serving key", source })?;
    let hints = match &settings.client_ca {
        Some(pem) => certificates(pem, "client CA")?
            .iter()
            .filter_map(|der| Some(DistinguishedName::in_sequence(subject(der)?.as_slice())))
            .collect(),
        None => Vec::new(),
    };
    let verifier = Arc::new(AskOnly { hints, provider: Arc::clone(&provider) });
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A configuration for connections to kubelets: our certificate, their authority.
///
/// # Errors
/// When a PEM text cannot be read or the key does not belong to the certificate.
pub fn client_config(identity: Option<&Identity>, authority: Option<&str>) -> Result<rustls::ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for der in certificates(authority.unwrap_or_default(), "kubelet certificate authority")? {
        roots.add(der)?;
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => {
            let chain = certificates(&identity.certificates, "kubelet client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
                .map_err(|source| TlsError::Pem { what: "kubelet client key", source })?;
            Ok(builder.with_client_auth_cert(chain, key)?)
        }
    }
}

/// For a backend that the client of `proxy` names: whatever certificate it shows, as upstream. The connection is
/// encrypted and its handshake proves the key, but nobody vouches for who answers; no credentials of ours go with it.
///
/// # Errors
/// When the library offers no protocol version.
pub fn unjudged_client_config() -> Result<rustls::ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(AnyServer { provider: provider.clone() });
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Takes any server certificate; see [`unjudged_client_config`].
#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { what, source })
}

/// The subject's DER content, without its outer SEQUENCE header.
fn subject(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let raw = certificate.tbs_certificate.subject.as_raw();
    let header = match raw.get(1)? {
        short if *short < 0x80 => 2,
        long => 2 + usize::from(long & 0x7f),
    };
    Some(raw.get(header..)?.to_vec())
}

/// Asks for a client certificate and proves that the client holds its key; who signed it is authentication's question.
#[derive(Debug)]
struct AskOnly {
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AskOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
