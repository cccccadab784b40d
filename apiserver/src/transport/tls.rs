//! TLS for the secure port: certificates from PEM, client certificates asked for but judged later.
//!
//! A client certificate from an unknown authority does not end the handshake, as upstream: the request goes on with the
//! other credentials, or is refused with a `Status`.

use rustls::DistinguishedName;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::collections::HashMap;
use std::sync::Arc;

/// A certificate chain and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Leaf first.
    pub certificates: String,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(REDACTED)")
    }
}

/// A certificate for clients that ask for these names (`--tls-sni-cert-key`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Certificate and key.
    pub identity: Identity,
    /// Names, `*.` for any first part; those that the certificate names where there are none.
    pub names: Vec<String>,
}

/// What the listener needs.
#[derive(Clone)]
pub struct TlsSettings {
    /// The server's own certificate.
    pub identity: Identity,
    /// Authorities named to clients in the handshake, PEM.
    pub client_ca: Option<String>,
    /// What is spoken.
    pub options: TlsOptions,
}

/// What is spoken on the secure port.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// `--tls-min-version`: `VersionTLS10` to `VersionTLS13`; empty for the default. Nothing below 1.2 is spoken, whatever it says.
    pub min_version: String,
    /// `--tls-cipher-suites`, by their names in Go; empty for the default. Suites of TLS 1.3 are always there.
    pub cipher_suites: Vec<String>,
    /// Certificates for names, where there are others than the server's own.
    pub named: Vec<Named>,
    /// `--disable-http2-serving`: HTTP/1.1 alone is spoken.
    pub without_http2: bool,
}

/// Names of suites that Go knows and nobody should speak any more: left out with a warning.
const OLD_SUITES: [&str; 15] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];

impl TlsOptions {
    /// What is spoken, for a listener that is made elsewhere: suites and versions.
    ///
    /// # Errors
    /// When a flag names what there is not.
    pub fn spoken(&self) -> Result<(CryptoProvider, &'static [&'static rustls::SupportedProtocolVersion]), TlsError> {
        Ok((self.provider()?, self.versions()?))
    }

    fn versions(&self) -> Result<&'static [&'static rustls::SupportedProtocolVersion], TlsError> {
        const BOTH: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];
        const NEW: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
        match self.min_version.as_str() {
            "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => Ok(BOTH),
            "VersionTLS13" => Ok(NEW),
            other => Err(TlsError::Option(format!(
                "unknown tls version {other:?}: --tls-min-version is VersionTLS10, VersionTLS11, VersionTLS12 or VersionTLS13"
            ))),
        }
    }

    /// The provider with the suites that are asked for.
    fn provider(&self) -> Result<CryptoProvider, TlsError> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if self.cipher_suites.is_empty() {
            return Ok(provider);
        }
        // Go's names of TLS 1.3 have no version in them, and one suite has two names.
        let named = |suite: &rustls::SupportedCipherSuite| -> Vec<String> {
            let name = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
            let short = name.strip_suffix("_POLY1305_SHA256").map(|name| format!("{name}_POLY1305"));
            std::iter::once(name).chain(short).collect()
        };
        for wanted in &self.cipher_suites {
            let known = provider.cipher_suites.iter().any(|suite| named(suite).contains(wanted));
            if OLD_SUITES.contains(&wanted.as_str()) {
                tracing::warn!(wanted, "this cipher suite of --tls-cipher-suites is not spoken");
            } else if !known {
                return Err(TlsError::Option(format!("Cipher suite {wanted} not supported or doesn't exist")));
            }
        }
        provider.cipher_suites.retain(|suite| {
            suite.tls13().is_some() || named(suite).iter().any(|name| self.cipher_suites.contains(name))
        });
        Ok(provider)
    }
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
    /// A flag cannot be honoured.
    #[error("{0}")]
    Option(String),
    /// Key and certificate do not fit, or rustls refuses them.
    #[error("the serving certificate is unusable")]
    Rustls(#[from] rustls::Error),
}

/// A configuration for TLS with http/1.1, and h2 unless options forbid it.
///
/// # Errors
/// When a PEM text cannot be read, the key does not belong to the certificate, or a flag names what there is not.
pub fn server_config(settings: &TlsSettings) -> Result<rustls::ServerConfig, TlsError> {
    let provider = Arc::new(settings.options.provider()?);
    let resolver = Arc::new(ByName::new(&settings.identity, &settings.options.named, &provider)?);
    let hints = match &settings.client_ca {
        Some(pem) => certificates(pem, "client CA")?
            .iter()
            .filter_map(|der| Some(DistinguishedName::in_sequence(subject(der)?.as_slice())))
            .collect(),
        None => Vec::new(),
    };
    let verifier = Arc::new(AskOnly { hints, provider: Arc::clone(&provider) });
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(settings.options.versions()?)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = match settings.options.without_http2 {
        true => vec![b"http/1.1".to_vec()],
        false => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}

fn certified(identity: &Identity, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(&identity.certificates, "serving certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
        .map_err(|source| TlsError::Pem { what: "serving key", source })?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, provider)?))
}

/// Chooses the certificate by the name that a client asks for. Names that were given stand over those of certificates, earlier
/// certificates over later ones, whole names over patterns.
#[derive(Debug)]
struct ByName {
    own: Arc<CertifiedKey>,
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    fn new(own: &Identity, others: &[Named], provider: &CryptoProvider) -> Result<ByName, TlsError> {
        let (mut given, mut found) = (HashMap::new(), HashMap::new());
        for other in others.iter().rev() {
            let key = certified(&other.identity, provider)?;
            let leaf = key.end_entity_cert()?;
            let names = if other.names.is_empty() { names_of(leaf) } else { other.names.clone() };
            let into = if other.names.is_empty() { &mut found } else { &mut given };
            into.extend(names.into_iter().map(|name| (name.to_ascii_lowercase(), Arc::clone(&key))));
        }
        found.extend(given);
        Ok(ByName { own: certified(own, provider)?, named: found })
    }

    fn of(&self, name: &str) -> &Arc<CertifiedKey> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let pattern = || self.named.get(&format!("*.{}", name.split_once('.')?.1));
        self.named.get(&name).or_else(pattern).unwrap_or(&self.own)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(hello.server_name().map_or(&self.own, |name| self.of(name))))
    }
}

/// The names of a certificate that clients can ask for: no addresses.
fn names_of(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else { return Vec::new() };
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-*".contains(&byte);
    let domain = |name: &&str| name.parse::<std::net::IpAddr>().is_err() && name.bytes().all(letter);
    let mut names: Vec<String> = common.filter(domain).map(str::to_owned).collect();
    let others = certificate.subject_alternative_name().ok().flatten();
    for name in others.iter().flat_map(|extension| &extension.value.general_names) {
        if let x509_parser::extensions::GeneralName::DNSName(name) = name {
            names.push((*name).to_owned());
        }
    }
    names
}

/// A configuration for connections to kubelets: our certificate, their authority; none for whoever answers, as upstream.
///
/// # Errors
/// When a PEM text cannot be read or the key does not belong to the certificate.
pub fn client_config(identity: Option<&Identity>, authority: Option<&str>) -> Result<rustls::ClientConfig, TlsError> {
    let Some(authority) = authority else { return unjudged_client_config(identity) };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for der in certificates(authority, "kubelet certificate authority")? {
        roots.add(der)?;
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    with_identity(builder, identity)
}

/// Completes the settings of a client with its certificate, if it has one.
///
/// # Errors
/// When a PEM text cannot be read or the key does not belong to the certificate.
pub fn with_identity(
    builder: rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>,
    identity: Option<&Identity>,
) -> Result<rustls::ClientConfig, TlsError> {
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(&identity.certificates, "client certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
        .map_err(|source| TlsError::Pem { what: "client key", source })?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

/// For a backend that the client of `proxy` names, a kubelet where no authority is given, or a webhook whose kubeconfig says so: whatever certificate it shows, as
/// upstream. The connection is encrypted and its handshake proves the key, but nobody vouches for who answers.
///
/// # Errors
/// When the library offers no protocol version, or the identity cannot be used.
pub fn unjudged_client_config(identity: Option<&Identity>) -> Result<rustls::ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(AnyServer { provider: provider.clone() });
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    with_identity(builder, identity)
}

/// The part of a verifier that proves that the other side holds its key, by the algorithms of `self.provider`: the same for clients and servers,
/// for which the library has two traits.
macro_rules! proof_of_the_key {
    () => {
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
    };
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

    proof_of_the_key!();
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

    proof_of_the_key!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_and_versions_by_their_names_in_go() {
        let check = |min: &str, suites: &[&str], want: Result<(usize, usize), &str>| {
            let cipher_suites = suites.iter().map(|name| (*name).to_owned()).collect();
            let options = TlsOptions { min_version: min.to_owned(), cipher_suites, ..TlsOptions::default() };
            let got = options.versions().and_then(|versions| {
                let old = options.provider()?.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).count();
                Ok((versions.len(), old))
            });
            match (got, want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{min} {suites:?}"),
                (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{got}"),
                (got, want) => panic!("{got:?}, not {want:?}"),
            }
        };
        check("", &[], Ok((2, 6)));
        check("VersionTLS10", &[], Ok((2, 6)));
        check("VersionTLS13", &[], Ok((1, 6)));
        check("TLS1.3", &[], Err("unknown tls version"));
        check("", &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"], Ok((2, 1)));
        check("", &["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "TLS_RSA_WITH_AES_128_CBC_SHA"], Ok((2, 1)));
        check("", &["TLS_MAGIC"], Err("Cipher suite TLS_MAGIC not supported or doesn't exist"));
    }

    #[test]
    fn http2_is_spoken_unless_it_is_forbidden() {
        for (without_http2, want) in [(false, &[&b"h2"[..], b"http/1.1"][..]), (true, &[b"http/1.1"])] {
            let options = TlsOptions { without_http2, ..TlsOptions::default() };
            let settings = TlsSettings { identity: identity(&["a"]), client_ca: None, options };
            assert_eq!(server_config(&settings).unwrap().alpn_protocols, want);
        }
    }

    fn identity(names: &[&str]) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let certificate = params.unwrap().self_signed(&key).unwrap();
        Identity { certificates: certificate.pem(), key: key.serialize_pem() }
    }

    #[test]
    fn clients_get_the_certificate_of_the_name_they_ask_for() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let named = |of: &[&str], names: &[&str]| Named {
            identity: identity(of),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let others = [
            named(&["a.example", "*.b.example", "10.0.0.1"], &[]),
            named(&["a.example", "c.example"], &[]),
            named(&["x.example"], &["C.example", "*.c.example"]),
        ];
        let resolver = ByName::new(&identity(&["own"]), &others, &provider).unwrap();
        let leaf = |identity: &Identity| certificates(&identity.certificates, "x").unwrap().remove(0);
        for (name, want) in [
            ("a.example", Some(0)),
            ("A.Example.", Some(0)),
            ("x.b.example", Some(0)),
            ("x.y.b.example", None),
            ("b.example", None),
            ("10.0.0.1", None),
            ("c.example", Some(2)),
            ("d.c.example", Some(2)),
            ("x.example", None),
            ("own", None),
        ] {
            let got = resolver.of(name).end_entity_cert().unwrap().clone();
            let got = others.iter().position(|other| leaf(&other.identity) == got);
            assert_eq!(got, want, "{name}");
        }
        let foreign = Identity { key: identity(&["z"]).key, ..identity(&["y"]) };
        assert!(ByName::new(&foreign, &[], &provider).is_err());
    }
}
