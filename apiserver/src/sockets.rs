//! Where somebody who speaks gRPC to us listens: a host and a port, or a Unix socket, as gRPC's names have it.
//!
//! Never connects before something is asked. Source: gRPC Name Resolution.

use hyper_util::rt::TokioIo;
use std::os::linux::net::SocketAddrExt as _;
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// To `host:port`, `dns:///host:port`, `unix:PATH` or `unix-abstract:NAME`, in plain text. `patience` bounds the making of a connection.
///
/// # Errors
/// One sentence.
pub(crate) fn channel(endpoint: &str, patience: Duration) -> Result<Channel, String> {
    if endpoint.starts_with("unix:") {
        return Ok(unix(endpoint));
    }
    if let Some(name) = endpoint.strip_prefix("unix-abstract:") {
        return Ok(unix(&format!("@{}", name.trim_start_matches('/'))));
    }
    let host = endpoint.strip_prefix("dns:").map_or(endpoint, |rest| rest.trim_start_matches('/'));
    let whole = Endpoint::from_shared(format!("http://{host}")).map_err(|error| format!("{endpoint}: {error}"))?;
    Ok(whole.connect_timeout(patience).connect_lazy())
}

/// To a Unix socket.
pub(crate) fn unix(endpoint: &str) -> Channel {
    let socket = path(endpoint);
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { dial(&socket).await.map(TokioIo::new) }
    });
    // The address means nothing; the authority is the one that upstream sends.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

/// The path of a `unix:` endpoint; one that begins with `@` is an abstract name.
fn path(endpoint: &str) -> String {
    let rest = endpoint.strip_prefix("unix:").unwrap_or(endpoint);
    // Behind two slashes comes a host, which means nothing here.
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default(),
        None => rest,
    };
    path.strip_prefix("/@").map_or_else(|| path.to_owned(), |name| format!("@{name}"))
}

async fn dial(path: &str) -> std::io::Result<UnixStream> {
    match path.strip_prefix('@') {
        None => UnixStream::connect(path).await,
        Some(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            let stream = std::os::unix::net::UnixStream::connect_addr(&address)?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_name_sockets() {
        for (endpoint, socket) in [
            ("unix:///run/kms.sock", "/run/kms.sock"),
            ("unix:///@kms", "@kms"),
            ("unix://host/run/kms.sock", "/run/kms.sock"),
            ("unix:/run/kms.sock", "/run/kms.sock"),
            ("@otlp", "@otlp"),
        ] {
            assert_eq!(path(endpoint), socket, "{endpoint}");
        }
    }
}
