//! Probes and hooks: runs one check of a container, and a task per probe that counts results against thresholds.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::cri::{Cri, CriError};

/// Most of an answer that is read.
const MAX_BODY: usize = 10 * 1024;

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Success,
    /// It failed, with what was seen.
    Failure(String),
    /// It could not be made; counts neither way.
    Unknown(String),
}

/// Which probe of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Until it passes the others wait.
    Startup,
    /// Failing takes the container out of service.
    Readiness,
    /// Failing restarts the container.
    Liveness,
}

impl Kind {
    /// As upstream's messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// A container to be checked.
#[derive(Clone)]
pub struct Target {
    /// The runtime.
    pub cri: Cri,
    /// Runtime id.
    pub container_id: String,
    /// Its definition: named ports.
    pub container: core::Container,
    /// The pod's address.
    pub pod_ip: String,
}

/// Counts results in a row against a probe's thresholds.
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    success_threshold: i32,
    failure_threshold: i32,
    last: Option<bool>,
    run: i32,
}

impl Counter {
    /// A counter for a probe.
    pub fn new(probe: &core::Probe) -> Self {
        Self {
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
            last: None,
            run: 0,
        }
    }

    /// Takes a result; returns the verdict once its threshold is reached.
    pub fn take(&mut self, passed: bool) -> Option<bool> {
        if self.last == Some(passed) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(passed);
            self.run = 1;
        }
        let threshold = if passed { self.success_threshold } else { self.failure_threshold };
        (self.run >= threshold).then_some(passed)
    }
}

/// The number of a port given as number or name.
///
/// # Errors
/// A sentence when the name is unknown or the number impossible.
pub fn port(port: &IntOrString, container: &core::Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok())
            .ok_or_else(|| format!("couldn't find port: {name:?}"))?,
    };
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

/// Runs a probe's check once.
pub async fn check(target: &Target, probe: &core::Probe) -> Outcome {
    let seconds = probe.timeout_seconds.unwrap_or(1).max(1);
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
    if let Some(action) = &probe.exec {
        return exec(target, action.command.as_deref().unwrap_or_default(), limit).await;
    }
    let future = async {
        if let Some(action) = &probe.http_get {
            http(target, action, "kube-probe/1.36").await
        } else if let Some(action) = &probe.tcp_socket {
            tcp(target, action).await
        } else if let Some(action) = &probe.grpc {
            grpc(target, action).await
        } else {
            Outcome::Unknown("missing probe handler".to_owned())
        }
    };
    match tokio::time::timeout(limit, future).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let what = if let Some(action) = &probe.http_get {
                format!(
                    "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                    url(target, action)
                )
            } else if probe.grpc.is_some() {
                format!("timeout: failed to connect service within {seconds}s: context deadline exceeded")
            } else {
                "dial tcp: i/o timeout".to_owned()
            };
            Outcome::Failure(what)
        }
    }
}

async fn exec(target: &Target, command: &[String], limit: Duration) -> Outcome {
    match target.cri.exec_sync(&target.container_id, command, limit).await {
        Ok(result) if result.exit_code == 0 => Outcome::Success,
        Ok(result) => {
            let end = result.output.len().min(MAX_BODY);
            Outcome::Failure(String::from_utf8_lossy(result.output.get(..end).unwrap_or_default()).into_owned())
        }
        Err(CriError::Timeout(_)) => {
            Outcome::Failure(format!("command timed out: {command:?} timed out after {}s", limit.as_secs()))
        }
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

fn url(target: &Target, action: &core::HTTPGetAction) -> String {
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let host = host(action.host.as_deref(), target);
    let port = port(&action.port, &target.container).unwrap_or(0);
    let path = action.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{}{slash}{path}", address(&host, port))
}

fn host(own: Option<&str>, target: &Target) -> String {
    own.filter(|host| !host.is_empty()).unwrap_or(&target.pod_ip).to_owned()
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let text = address(host, port);
    let result = match text.parse::<SocketAddr>() {
        Ok(address) => TcpStream::connect(address).await,
        Err(_) => TcpStream::connect((host, port)).await,
    };
    result.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("dial tcp {text}: connect: connection refused"),
        std::io::ErrorKind::HostUnreachable => format!("dial tcp {text}: connect: no route to host"),
        _ => format!("dial tcp {text}: {error}"),
    })
}

async fn tcp(target: &Target, action: &core::TCPSocketAction) -> Outcome {
    let port = match port(&action.port, &target.container) {
        Ok(port) => port,
        Err(error) => return Outcome::Unknown(error),
    };
    match connect(&host(action.host.as_deref(), target), port).await {
        Ok(_) => Outcome::Success,
        Err(error) => Outcome::Failure(error),
    }
}

/// One HTTP GET; any status from 200 to 399 passes.
pub async fn http(target: &Target, action: &core::HTTPGetAction, agent: &str) -> Outcome {
    let port = match port(&action.port, &target.container) {
        Ok(port) => port,
        Err(error) => return Outcome::Unknown(error),
    };
    let host = host(action.host.as_deref(), target);
    let url = url(target, action);
    let failed = |error: String| Outcome::Failure(format!("Get {url:?}: {error}"));
    let stream = match connect(&host, port).await {
        Ok(stream) => stream,
        Err(error) => return failed(error),
    };
    let secure = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let status = if secure {
        match crate::tls::connect_unverified(stream, &host).await {
            Ok(stream) => get(stream, action, &address(&host, port), agent).await,
            Err(error) => Err(error.to_string()),
        }
    } else {
        get(stream, action, &address(&host, port), agent).await
    };
    match status {
        Ok(status) if (200..400).contains(&status) => Outcome::Success,
        Ok(status) => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        Err(error) => failed(error),
    }
}

async fn get<S>(stream: S, action: &core::HTTPGetAction, authority: &str, agent: &str) -> Result<u16, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = http::Request::get(path);
    let own = action.http_headers.as_deref().unwrap_or_default();
    let named = |name: &str| own.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    if !named("host") {
        request = request.header("host", authority);
    }
    if !named("user-agent") {
        request = request.header("user-agent", agent);
    }
    if !named("accept") {
        request = request.header("accept", "*/*");
    }
    for header in own {
        request = request.header(header.name.as_str(), header.value.as_str());
    }
    let request = request.header("connection", "close").body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let _ = Limited::new(response.into_body(), MAX_BODY).collect().await;
        Ok(status)
    };
    tokio::pin!(exchange);
    tokio::pin!(connection);
    tokio::select! {
        result = &mut exchange => result,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// The standard gRPC health check, spoken without generated code: one string in, one enum out.
async fn grpc(target: &Target, action: &core::GRPCAction) -> Outcome {
    #[derive(Clone, PartialEq, prost::Message)]
    struct HealthRequest {
        #[prost(string, tag = "1")]
        service: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct HealthResponse {
        #[prost(int32, tag = "1")]
        status: i32,
    }
    let Ok(port) = u16::try_from(action.port) else {
        return Outcome::Unknown(format!("invalid port number: {}", action.port));
    };
    let uri = format!("http://{}", address(&target.pod_ip, port));
    let channel = match tonic::transport::Endpoint::from_shared(uri) {
        Ok(endpoint) => endpoint.connect().await,
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let channel = match channel {
        Ok(channel) => channel,
        Err(error) => return Outcome::Failure(format!("error: health rpc probe failed: {error}")),
    };
    let mut client = tonic::client::Grpc::new(channel);
    if let Err(error) = client.ready().await {
        return Outcome::Failure(format!("error: health rpc probe failed: {error}"));
    }
    let request = HealthRequest { service: action.service.clone().unwrap_or_default() };
    let codec: tonic_prost::ProstCodec<HealthRequest, HealthResponse> = tonic_prost::ProstCodec::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    match client.unary(tonic::Request::new(request), path, codec).await {
        Ok(answer) => match answer.into_inner().status {
            1 => Outcome::Success,
            other => {
                let text = match other {
                    0 => "UNKNOWN",
                    2 => "NOT_SERVING",
                    _ => "SERVICE_UNKNOWN",
                };
                Outcome::Failure(format!("service unhealthy (responded with {text:?})"))
            }
        },
        Err(status) if status.code() == tonic::Code::Unimplemented => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Err(status) => Outcome::Failure(format!("error: health rpc probe failed: {status}")),
    }
}

/// Runs a lifecycle hook to its end.
///
/// # Errors
/// What the hook said when it failed.
pub async fn hook(target: &Target, handler: &core::LifecycleHandler) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        return match target.cri.exec_sync(&target.container_id, &command, Duration::ZERO).await {
            Ok(result) if result.exit_code == 0 => Ok(()),
            Ok(result) => Err(format!(
                "command '{}' exited with {}: {}",
                command.join(" "),
                result.exit_code,
                String::from_utf8_lossy(&result.output)
            )),
            Err(error) => Err(error.to_string()),
        };
    }
    if let Some(action) = &handler.http_get {
        return match http(target, action, "kube-lifecycle/1.36").await {
            Outcome::Success => Ok(()),
            Outcome::Failure(text) | Outcome::Unknown(text) => Err(text),
        };
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    if handler.tcp_socket.is_some() {
        return Ok(());
    }
    Err("invalid handler: the hook names no action".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn verdicts_need_their_threshold_in_a_row() {
        let probe: core::Probe = serde_json::from_value(json!({"successThreshold": 2, "failureThreshold": 3})).unwrap();
        let mut counter = Counter::new(&probe);
        let results = [true, true, false, false, true, false, false, false, false];
        let verdicts: Vec<Option<bool>> = results.into_iter().map(|result| counter.take(result)).collect();
        let expected = [None, Some(true), None, None, None, None, None, Some(false), Some(false)];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn ports_by_name_or_number() {
        let container: core::Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]})).unwrap();
        let cases = [
            (json!(80), Ok(80)),
            (json!("web"), Ok(8080)),
            (json!("81"), Ok(81)),
            (json!("x"), Err(())),
            (json!(70000), Err(())),
        ];
        for (value, expected) in cases {
            let value: IntOrString = serde_json::from_value(value).unwrap();
            assert_eq!(port(&value, &container).map_err(|_| ()), expected, "{value:?}");
        }
    }
}
