//! TLS of the kubelet: its serving side, with clients known by the cluster's CA, and probes that check no certificate.

use std::io;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

#[allow(clippy::needless_pass_by_value)] // the shape that `map_err` wants
fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

fn certificates(pem: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(invalid)
}

/// The certificate that the kubelet's API presents. It may be exchanged while the kubelet serves; clones share it.
#[derive(Debug, Clone)]
pub struct Serving(Arc<RwLock<Arc<CertifiedKey>>>);

impl Serving {
    /// A certificate chain and its key, PEM.
    ///
    /// # Errors
    /// When a text is malformed or the key does not fit.
    pub fn new(cert_pem: &str, key_pem: &str) -> io::Result<Self> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(certified(cert_pem, key_pem)?)))))
    }

    /// Presents another certificate to connections from now on.
    ///
    /// # Errors
    /// When a text is malformed or the key does not fit; then nothing changes.
    pub fn exchange(&self, cert_pem: &str, key_pem: &str) -> io::Result<()> {
        let new = Arc::new(certified(cert_pem, key_pem)?);
        *self.0.write() = new;
        Ok(())
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

fn certified(cert_pem: &str, key_pem: &str) -> io::Result<CertifiedKey> {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(invalid)?;
    CertifiedKey::from_der(certificates(cert_pem)?, key, &provider()).map_err(invalid)
}

/// Suites and versions that the kubelet's API speaks.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// With the suites.
    pub provider: Arc<CryptoProvider>,
    /// Of TLS.
    pub versions: &'static [&'static SupportedProtocolVersion],
}

impl Default for Spoken {
    fn default() -> Spoken {
        Spoken { provider: provider(), versions: rustls::DEFAULT_VERSIONS }
    }
}

/// Serving side: a client's certificate is optional and must be the CA's; without a CA none is asked for.
///
/// # Errors
/// When a PEM text is malformed, or no suite is left for a version.
pub(crate) fn server(serving: &Serving, client_ca_pem: &str, spoken: &Spoken) -> io::Result<Arc<ServerConfig>> {
    let config = ServerConfig::builder_with_provider(Arc::clone(&spoken.provider))
        .with_protocol_versions(spoken.versions)
        .map_err(invalid)?;
    let config = if client_ca_pem.is_empty() {
        config.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(client_ca_pem)? {
            roots.add(certificate).map_err(invalid)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        config.with_client_cert_verifier(verifier.allow_unauthenticated().build().map_err(invalid)?)
    };
    let mut config = config.with_cert_resolver(Arc::new(serving.clone()));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts any certificate: what HTTPS probes are defined to do.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS connection to a probed container, whose certificate is not checked.
///
/// # Errors
/// The handshake's.
pub(crate) async fn connect_unverified(
    stream: TcpStream,
    host: &str,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let provider = provider();
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(invalid)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConnection, HandshakeKind, ServerConnection};

    fn handshake(spoken: &Spoken, client: &Spoken) -> io::Result<Option<HandshakeKind>> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["n".to_owned()]).unwrap().self_signed(&key).unwrap();
        let serving = Serving::new(&certificate.pem(), &key.serialize_pem()).unwrap();
        let mut server = ServerConnection::new(server(&serving, "", spoken).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::clone(&client.provider))
            .with_protocol_versions(client.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from("n").unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire)?;
            server.read_tls(&mut wire.as_slice())?;
            server.process_new_packets().map_err(invalid)?;
            wire.clear();
            server.write_tls(&mut wire)?;
            client.read_tls(&mut wire.as_slice())?;
            client.process_new_packets().map_err(invalid)?;
        }
        Ok(client.handshake_kind())
    }

    #[test]
    fn what_is_spoken_is_what_was_asked_for() {
        const NEW: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        const OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
        let [new, old] = [NEW, OLD].map(|versions| Spoken { versions, ..Spoken::default() });
        assert!(handshake(&Spoken::default(), &old).is_ok());
        assert!(handshake(&new, &new).is_ok());
        assert!(handshake(&new, &old).is_err());
        let only = |wanted: &str| {
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).ends_with(wanted));
            Spoken { provider: Arc::new(provider), ..old.clone() }
        };
        assert!(handshake(&only("AES_128_GCM_SHA256"), &only("AES_128_GCM_SHA256")).is_ok());
        assert!(handshake(&only("AES_128_GCM_SHA256"), &only("AES_256_GCM_SHA384")).is_err());
    }
}
