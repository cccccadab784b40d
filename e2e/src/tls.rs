//! TLS servers of a test's own: webhooks and aggregated API servers that the server under test calls.
//!
//! Never answers by itself: who makes one says how.

use crate::request::runtime;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a server answers.
pub type Reply = http::Response<Full<Bytes>>;

/// A server on this machine, with a certificate from an authority of its own.
pub struct TlsServer {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// The authority that has signed its certificate, PEM.
    pub authority: String,
    /// How many connections it has taken.
    pub connections: Arc<AtomicUsize>,
}

impl TlsServer {
    /// Serves under these names for as long as the test program runs.
    ///
    /// # Panics
    /// When there is no port, or no certificate can be made.
    pub fn serve<F, R>(names: &[&str], answer: F) -> TlsServer
    where
        F: Fn(http::Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Reply, hyper::Error>> + Send + 'static,
    {
        let (authority, config) = identity(names);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        runtime().spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (answer, acceptor, count) = (answer.clone(), acceptor.clone(), Arc::clone(&count));
                runtime().spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    count.fetch_add(1, Ordering::Relaxed);
                    let service = hyper::service::service_fn(answer);
                    let http1 = hyper::server::conn::http1::Builder::new();
                    let _ = http1.serve_connection(TokioIo::new(tls), service).with_upgrades().await;
                });
            }
        });
        TlsServer { port, authority, connections }
    }
}

/// An authority, and the settings of a server with a certificate that it has signed.
fn identity(names: &[&str]) -> (String, rustls::ServerConfig) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).expect("names").signed_by(&key, &issuer).expect("a certificate");
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate that fits its key");
    (authority, config)
}

/// Standard base64.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET.get((number >> (18 - 6 * place) & 63) as usize).copied().unwrap_or_default();
            out.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}
