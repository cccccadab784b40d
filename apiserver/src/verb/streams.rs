//! Clients' WebSockets before a kubelet that speaks SPDY: `exec` and `attach` in `v5.channel.k8s.io` are translated stream by stream,
//! `portforward` in `SPDY/3.1+portforward.k8s.io` is SPDY within messages, which are unpacked and packed (KEP-4006).
//!
//! Never looks into what streams carry, but for the status that ends a command.

use super::Call;
use super::backend::Backend;
use super::connect::{client, send};
use super::spdy::{self, Opener};
use super::websocket::{self, say};
use crate::answer::{Answer, Failure};
use crate::road::received::Received;
use crate::server::Server;
use crate::transport::Session;
use api::status::Status;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, Notify};

/// The protocol that can close a stream, which those before it cannot.
const CHANNELS: &str = "v5.channel.k8s.io";
/// What the kubelet is spoken to in.
const REMOTE: &str = "v4.channel.k8s.io";
/// What stands before the protocol of a tunnel.
const TUNNEL: &str = "SPDY/3.1+";
/// The channels of a message, by its first byte.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// The longest status that is read.
const LONGEST: usize = 1 << 20;

/// Whether streams of a command are to be translated.
pub(super) fn translated(part: &str, received: &Received) -> bool {
    matches!(part, "exec" | "attach")
        && websocket::wanted(received)
        && websocket::offered(received).any(|name| name == CHANNELS)
}

/// The protocols of SPDY that a client offers within a WebSocket.
pub(super) fn tunnelled<'a>(part: &str, received: &'a Received) -> Vec<&'a str> {
    if part != "portforward" || !websocket::wanted(received) {
        return Vec::new();
    }
    websocket::offered(received)
        .filter(|name| name.ends_with(".k8s.io"))
        .filter_map(|name| name.strip_prefix(TUNNEL))
        .collect()
}

/// Answers `exec` or `attach`. What goes wrong beyond this server is said on the channel of errors, as upstream does.
///
/// # Errors
/// 400 for a request that cannot become a WebSocket.
pub(super) async fn answer(
    server: &Server,
    call: &Call,
    backend: &Backend,
    place: Option<Session>,
) -> Result<Answer, Failure> {
    let answer = websocket::agreed(call.received(), CHANNELS)?;
    let client = client(call.received())?;
    let given = &call.received().query;
    let tty = given.flag("tty");
    let wanted = Wanted { stdin: given.flag("stdin"), stdout: given.flag("stdout"), stderr: given.flag("stderr"), tty };
    let opened = open(server, backend).await;
    let records = call.received().records();
    tokio::task::spawn_local(async move {
        // Their end is that of the session.
        let _held = (records, place);
        let Ok(client) = client.await else { return };
        // Either side may hang up at any time; that is how sessions end.
        let _ = session(TokioIo::new(client), opened, wanted).await;
    });
    Ok(answer)
}

/// The answer to a client whose tunnel the backend has granted.
///
/// # Errors
/// 400 for a request that cannot become a WebSocket, 500 for a backend that grants something else.
pub(super) fn tunnel(
    received: &Received,
    mut response: http::Response<hyper::body::Incoming>,
    place: Option<Session>,
) -> Result<Answer, Failure> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !header("upgrade").eq_ignore_ascii_case(spdy::UPGRADE) {
        return Err(Status::internal("unable to upgrade: missing upgrade headers in response").into());
    }
    let protocol = match header("x-stream-protocol-version").trim() {
        "" => String::new(),
        protocol => format!("{TUNNEL}{protocol}"),
    };
    let answer = websocket::agreed(received, &protocol)?;
    let client = client(received)?;
    let backend = hyper::upgrade::on(&mut response);
    let records = received.records();
    tokio::task::spawn_local(async move {
        // Their end is that of the tunnel.
        let _held = (records, place);
        let (Ok(client), Ok(backend)) = (client.await, backend.await) else { return };
        // Either side may hang up at any time; that is how sessions end.
        let _ = packed(TokioIo::new(client), TokioIo::new(backend)).await;
    });
    Ok(answer)
}

/// Which streams a command has.
#[derive(Clone, Copy)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// A kubelet's connection, or the status that says why there is none.
async fn open(server: &Server, backend: &Backend) -> Result<TokioIo<hyper::upgrade::Upgraded>, Ended> {
    let request = http::Request::builder()
        .method("POST")
        .uri(&backend.target)
        .header("host", format!("{}:{}", backend.host, backend.port))
        .header("connection", "Upgrade")
        .header("upgrade", spdy::UPGRADE)
        .header("x-stream-protocol-version", REMOTE)
        .header("content-length", "0")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Ended::failed(&error.to_string()))?;
    let mut response = match send(server, backend, request).await {
        Ok(response) => response,
        Err(Failure::Status(status)) => {
            let why = status.message.trim_start_matches("Internal error occurred: ");
            return Err(Ended::failed(&format!("error sending request: {why}")));
        }
        Err(Failure::Store { error, .. }) => return Err(Ended::failed(&error.to_string())),
    };
    if response.status().as_u16() != 101 {
        let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        return Err(Ended::failed(&format!("unable to upgrade connection: {}", text.trim())));
    }
    let upgraded = hyper::upgrade::on(&mut response).await;
    upgraded.map(TokioIo::new).map_err(|error| Ended::failed(&error.to_string()))
}

/// How a command ended, as the parts of a `Status` that its client is told.
#[derive(Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
struct Ended {
    #[serde(skip_deserializing)]
    metadata: Nothing,
    #[serde(default)]
    status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Debug, Default, Serialize, PartialEq, Eq)]
struct Nothing {}

#[derive(Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
struct Cause {
    #[serde(default, rename = "reason", skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(default)]
    message: String,
}

impl Ended {
    fn well() -> Ended {
        Ended { status: "Success".to_owned(), ..Ended::default() }
    }

    /// An internal error, as upstream wraps every failure but that of the command itself.
    fn failed(why: &str) -> Ended {
        Ended {
            status: "Failure".to_owned(),
            message: format!("Internal error occurred: {why}"),
            reason: "InternalError".to_owned(),
            details: Some(Details { causes: vec![Cause { kind: String::new(), message: why.to_owned() }] }),
            code: Some(500),
            metadata: Nothing {},
        }
    }

    /// From what the stream of errors held. One that held nothing is a good end.
    fn read(said: &[u8]) -> Ended {
        if said.is_empty() {
            return Ended::well();
        }
        let protocol = |what: String| Ended::failed(&format!("error stream protocol error: {what}"));
        let ended: Ended = match api::json::from_slice(said) {
            Ok(ended) => ended,
            Err(error) => return protocol(format!("{error} in {:?}", String::from_utf8_lossy(said))),
        };
        match (ended.status.as_str(), ended.reason.as_str()) {
            ("Success", _) => return Ended::well(),
            ("Failure", "NonZeroExitCode") => {}
            ("Failure", _) => return Ended::failed(&ended.message),
            _ => return protocol("unknown error".to_owned()),
        }
        let Some(details) = ended.details else { return protocol("details must be set".to_owned()) };
        let Some(cause) = details.causes.into_iter().find(|cause| cause.kind == "ExitCode") else {
            return protocol("no ExitCode cause given".to_owned());
        };
        let Ok(code) = cause.message.parse::<u8>() else {
            return protocol(format!("invalid exit code value {:?}", cause.message));
        };
        let said = format!("command terminated with non-zero exit code: command terminated with exit code {code}");
        Ended {
            status: "Failure".to_owned(),
            message: said,
            reason: "NonZeroExitCode".to_owned(),
            details: Some(Details { causes: vec![Cause { kind: "ExitCode".to_owned(), message: code.to_string() }] }),
            ..Ended::default()
        }
    }
}

/// The numbers of a command's streams.
#[derive(Clone, Copy, Default)]
struct Streams {
    error: u32,
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    resize: Option<u32>,
}

/// Carries the messages of a client and the frames of a kubelet to each other until the command has ended or the client is gone.
async fn session<C, B>(client: C, opened: Result<B, Ended>, wanted: Wanted) -> std::io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (heard, said) = tokio::io::split(client);
    let said = Mutex::new(said);
    // An empty message says that the connection stands.
    let first = if wanted.stdout {
        STDOUT
    } else if wanted.stderr {
        STDERR
    } else {
        ERROR
    };
    tell(&said, first, &[]).await?;
    let ended = match opened {
        Ok(backend) => command(heard, &said, backend, wanted).await?,
        Err(ended) => Some(ended),
    };
    if let Some(ended) = ended {
        let status = api::json::to_vec(&ended).map_err(std::io::Error::other)?;
        tell(&said, ERROR, &status).await?;
    }
    let mut said = said.lock().await;
    said.write_all(&websocket::CLOSE).await?;
    said.shutdown().await
}

async fn tell<W: AsyncWrite>(client: &Mutex<WriteHalf<W>>, channel: u8, bytes: &[u8]) -> std::io::Result<()> {
    say(&mut *client.lock().await, &websocket::framed(websocket::BINARY, &[channel], bytes)).await
}

/// Runs a command to its end; `None` when the client left first.
async fn command<C, B>(
    heard: ReadHalf<C>,
    said: &Mutex<WriteHalf<C>>,
    backend: B,
    wanted: Wanted,
) -> std::io::Result<Option<Ended>>
where
    C: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (from, mut to) = tokio::io::split(backend);
    let mut opener = Opener::default();
    let mut frames = Vec::new();
    let mut stream = |name: &str| {
        let (number, frame) = opener.open("streamtype", name);
        frames.extend(frame);
        number
    };
    let streams = Streams {
        error: stream("error"),
        stdin: wanted.stdin.then(|| stream("stdin")),
        stdout: wanted.stdout.then(|| stream("stdout")),
        stderr: (wanted.stderr && !wanted.tty).then(|| stream("stderr")),
        resize: wanted.tty.then(|| stream("resize")),
    };
    say(&mut to, &frames).await?;
    let to = Mutex::new(to);
    let ready = Notify::new();
    let input = RefCell::new(streams.stdin);
    tokio::select! {
        done = outward(from, &to, said, streams, &ready, &input) => done.map(Some),
        done = inward(heard, said, &to, streams.resize, &ready, &input) => done.map(|()| None),
    }
}

/// What the client says goes to the kubelet, until the client has gone. `input` holds the stream of standard input while it is open.
async fn inward<C, B>(
    heard: ReadHalf<C>,
    said: &Mutex<WriteHalf<C>>,
    to: &Mutex<WriteHalf<B>>,
    resize: Option<u32>,
    ready: &Notify,
    input: &RefCell<Option<u32>>,
) -> std::io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let mut reader = websocket::Reader::new(heard);
    let (mut channel, mut waited) = (None, false);
    loop {
        let (mut bytes, first, last) = match reader.next().await? {
            websocket::Heard::Data { bytes, first, last } => (bytes, first, last),
            websocket::Heard::Ping(bytes) => {
                say(&mut *said.lock().await, &websocket::frame(websocket::PONG, &bytes)).await?;
                continue;
            }
            websocket::Heard::End => break,
        };
        if !waited {
            ready.notified().await;
            waited = true;
        }
        if first {
            channel = None;
        }
        // The first byte of a message names its channel; the first piece may be empty.
        let channel = match channel {
            Some(channel) => channel,
            None if bytes.is_empty() => continue,
            None => *channel.insert(bytes.remove(0)),
        };
        let stream = match channel {
            STDIN => *input.borrow(),
            RESIZE => resize,
            CLOSE if first && last && bytes == [STDIN] => {
                let open = input.borrow_mut().take();
                if let Some(stream) = open {
                    say(&mut *to.lock().await, &spdy::data(stream, &[], true)).await?;
                }
                continue;
            }
            CLOSE if !(last && bytes.len() == 1) => break,
            _ => None,
        };
        if let Some(stream) = stream.filter(|_| !bytes.is_empty()) {
            say(&mut *to.lock().await, &spdy::data(stream, &bytes, false)).await?;
        }
    }
    Ok(())
}

/// What the kubelet says goes to the client, until all that was wanted has ended; then how the command has.
async fn outward<C, B>(
    from: ReadHalf<B>,
    to: &Mutex<WriteHalf<B>>,
    said: &Mutex<WriteHalf<C>>,
    streams: Streams,
    ready: &Notify,
    input: &RefCell<Option<u32>>,
) -> std::io::Result<Ended>
where
    C: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let mut reader = spdy::Reader::new(from);
    let all = [Some(streams.error), streams.stdin, streams.stdout, streams.stderr, streams.resize];
    let mut unopened: Vec<u32> = all.into_iter().flatten().collect();
    let mut open: Vec<u32> = [Some(streams.error), streams.stdout, streams.stderr].into_iter().flatten().collect();
    let mut error = Vec::new();
    while !open.is_empty() {
        let ended = match reader.next().await? {
            spdy::Heard::Data { stream, bytes, last } => {
                let channel = match Some(stream) {
                    known if known == streams.stdout => Some(STDOUT),
                    known if known == streams.stderr => Some(STDERR),
                    _ => None,
                };
                match channel {
                    Some(channel) if !bytes.is_empty() => tell(said, channel, &bytes).await?,
                    None if stream == streams.error && error.len() + bytes.len() <= LONGEST => error.extend(bytes),
                    _ => {}
                }
                last.then_some(stream)
            }
            spdy::Heard::Open { stream, last } => {
                unopened.retain(|waiting| *waiting != stream);
                last.then_some(stream)
            }
            spdy::Heard::Reset { stream } => {
                unopened.retain(|waiting| *waiting != stream);
                Some(stream)
            }
            // Those with an even number are the server's own.
            spdy::Heard::Ping(id) if id % 2 == 0 => {
                say(&mut *to.lock().await, &spdy::pong(id)).await?;
                None
            }
            spdy::Heard::End => break,
            spdy::Heard::Ping(_) | spdy::Heard::Other => None,
        };
        if unopened.is_empty() {
            ready.notify_one();
        }
        if let Some(stream) = ended {
            open.retain(|waiting| *waiting != stream);
            // A command that hears no more lets go of its streams when we do.
            let own = input.borrow_mut().take_if(|own| *own == stream);
            if let Some(stream) = own {
                say(&mut *to.lock().await, &spdy::data(stream, &[], true)).await?;
            }
        }
    }
    Ok(Ended::read(&error))
}

/// Carries bytes between a backend and the messages of a client, whatever they are.
async fn packed<C, B>(client: C, backend: B) -> std::io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (heard, said) = tokio::io::split(client);
    let said = Mutex::new(said);
    let (mut from, mut to) = tokio::io::split(backend);
    let inward = async {
        let mut reader = websocket::Reader::new(heard);
        loop {
            match reader.next().await? {
                websocket::Heard::Data { bytes, .. } => say(&mut to, &bytes).await?,
                websocket::Heard::Ping(bytes) => {
                    say(&mut *said.lock().await, &websocket::frame(websocket::PONG, &bytes)).await?;
                }
                websocket::Heard::End => return Ok::<(), std::io::Error>(()),
            }
        }
    };
    let outward = async {
        let mut piece = vec![0; 32 * 1024];
        loop {
            let count = from.read(&mut piece).await?;
            if count == 0 {
                return Ok::<(), std::io::Error>(());
            }
            let bytes = piece.get(..count).unwrap_or_default();
            say(&mut *said.lock().await, &websocket::frame(websocket::BINARY, bytes)).await?;
        }
    };
    tokio::select! {
        done = inward => done?,
        done = outward => done?,
    }
    let mut said = said.lock().await;
    said.write_all(&websocket::CLOSE).await?;
    said.shutdown().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

    use super::*;
    use std::time::Duration;
    use tokio::io::{BufStream, DuplexStream, duplex};
    use tokio::time::timeout;

    /// Longer than anything here takes; the clock goes on by itself once all wait.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn ends_are_told_as_upstream_tells_them() {
        let exit = |code: &str| {
            format!(
                r#"{{"metadata":{{}},"status":"Failure","reason":"NonZeroExitCode","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#
            )
        };
        let internal = |why: &str| {
            format!(
                r#"{{"metadata":{{}},"status":"Failure","message":"Internal error occurred: {why}","reason":"InternalError","details":{{"causes":[{{"message":"{why}"}}]}},"code":500}}"#
            )
        };
        let well = r#"{"metadata":{},"status":"Success"}"#.to_owned();
        for (said, told) in [
            (String::new(), well.clone()),
            (r#"{"metadata":{},"status":"Success"}"#.to_owned(), well),
            (exit("7"), r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: command terminated with exit code 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#.to_owned()),
            (exit("700"), internal(r#"error stream protocol error: invalid exit code value \"700\""#)),
            (r#"{"status":"Failure","message":"no shell"}"#.to_owned(), internal("no shell")),
            (r#"{"status":"Failure","reason":"NonZeroExitCode"}"#.to_owned(), internal("error stream protocol error: details must be set")),
            (r#"{"status":"Failure","reason":"NonZeroExitCode","details":{}}"#.to_owned(), internal("error stream protocol error: no ExitCode cause given")),
            ("{}".to_owned(), internal("error stream protocol error: unknown error")),
        ] {
            assert_eq!(api::json::to_string(&Ended::read(said.as_bytes())).unwrap(), told, "{said}");
        }
        assert!(Ended::read(b"oops").message.contains("error stream protocol error: "));
    }

    /// A message as a client sends it, masked with zeros.
    fn message(first: u8, bytes: &[u8]) -> Vec<u8> {
        [&[first, 0x80 | u8::try_from(bytes.len()).unwrap(), 0, 0, 0, 0], bytes].concat()
    }

    /// What a client hears, to its end.
    async fn heard(mut client: DuplexStream) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        let (mut rest, mut out) = (all.as_slice(), Vec::new());
        while let [first, length, tail @ ..] = rest {
            let (length, tail) = match (length, tail) {
                (126, [high, low, tail @ ..]) => (u16::from_be_bytes([*high, *low]), tail),
                _ => (u16::from(*length), tail),
            };
            let (payload, tail) = tail.split_at(usize::from(length));
            if *first == 0x88 {
                assert!(tail.is_empty(), "nothing after the end");
            } else {
                out.push(payload.to_vec());
            }
            rest = tail;
        }
        out
    }

    fn opened(stream: u32) -> Vec<u8> {
        [&[0x80, 3, 0, 2, 0, 0, 0, 4][..], &stream.to_be_bytes()].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_gets_its_input_and_its_end() {
        let ((near, mut client), (backend, mut kubelet)) = (duplex(1 << 16), duplex(1 << 16));
        let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
        client.write_all(&message(0x82, b"\0hello ")).await.unwrap();
        client.write_all(&message(0x02, b"\0wo")).await.unwrap();
        client.write_all(&message(0x89, b"beat")).await.unwrap();
        client.write_all(&message(0x80, b"rld")).await.unwrap();
        client.write_all(&message(0x82, &[255, 0])).await.unwrap();
        client.write_all(&message(0x82, b"\0late")).await.unwrap();
        let runs = async {
            let (from, mut to) = tokio::io::split(&mut kubelet);
            let mut frames = spdy::Reader::new(from);
            for stream in [1, 3, 5, 7] {
                assert_eq!(frames.next().await.unwrap(), spdy::Heard::Other, "stream {stream} is opened");
            }
            for stream in [1, 3, 5, 7] {
                to.write_all(&opened(stream)).await.unwrap();
            }
            let mut input = Vec::new();
            while let spdy::Heard::Data { stream: 3, bytes, last } = frames.next().await.unwrap() {
                input.extend(bytes);
                if last {
                    break;
                }
            }
            assert_eq!(input, b"hello world");
            for (stream, bytes) in
                [(5, &b"out"[..]), (7, b"err"), (5, b""), (7, b""), (1, br#"{"status":"Success"}"#), (1, b"")]
            {
                to.write_all(&spdy::data(stream, bytes, bytes.is_empty())).await.unwrap();
            }
        };
        // Like TLS, these keep what was written until they are told to send it.
        let (near, backend) = (BufStream::new(near), BufStream::new(backend));
        let all = async { tokio::join!(session(near, Ok(backend), wanted), runs, heard(client)) };
        let (done, (), said) = timeout(LONG, all).await.unwrap();
        done.unwrap();
        let expected: [&[u8]; 5] =
            [b"\x01", b"beat", b"\x01out", b"\x02err", b"\x03{\"metadata\":{},\"status\":\"Success\"}"];
        assert_eq!(said, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_has_a_size_and_lets_go_of_its_input() {
        let ((near, mut client), (backend, mut kubelet)) = (duplex(1 << 16), duplex(1 << 16));
        let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: true };
        client.write_all(&message(0x82, b"\x04{\"Width\":80,\"Height\":24}")).await.unwrap();
        let runs = async {
            let (from, mut to) = tokio::io::split(&mut kubelet);
            let mut frames = spdy::Reader::new(from);
            for stream in [1, 3, 5, 7] {
                assert_eq!(frames.next().await.unwrap(), spdy::Heard::Other, "stream {stream} is opened");
                to.write_all(&opened(stream)).await.unwrap();
            }
            let size = Bytes::from_static(b"{\"Width\":80,\"Height\":24}");
            assert_eq!(frames.next().await.unwrap(), spdy::Heard::Data { stream: 7, bytes: size, last: false });
            to.write_all(&spdy::data(3, &[], true)).await.unwrap();
            assert_eq!(frames.next().await.unwrap(), spdy::Heard::Data { stream: 3, bytes: Bytes::new(), last: true });
            to.write_all(&[spdy::pong(2), spdy::data(5, &[], true), spdy::data(1, &[], true)].concat()).await.unwrap();
            assert_eq!(frames.next().await.unwrap(), spdy::Heard::Ping(2));
        };
        // Like TLS, these keep what was written until they are told to send it.
        let (near, backend) = (BufStream::new(near), BufStream::new(backend));
        let all = async { tokio::join!(session(near, Ok(backend), wanted), runs, heard(client)) };
        let (done, (), said) = timeout(LONG, all).await.unwrap();
        done.unwrap();
        let expected: [&[u8]; 2] = [b"\x01", b"\x03{\"metadata\":{},\"status\":\"Success\"}"];
        assert_eq!(said, expected);
    }

    #[tokio::test]
    async fn what_cannot_be_reached_is_said_in_the_session() {
        let (near, client) = duplex(1 << 16);
        let wanted = Wanted { stdin: false, stdout: false, stderr: false, tty: false };
        let refused = Err::<DuplexStream, _>(Ended::failed("why"));
        let (done, said) = tokio::join!(session(near, refused, wanted), heard(client));
        done.unwrap();
        let told = api::json::to_vec(&Ended::failed("why")).unwrap();
        assert_eq!(said, [b"\x03".to_vec(), [b"\x03", told.as_slice()].concat()]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_is_unpacked_and_packed() {
        let ((near, mut client), (backend, mut kubelet)) = (duplex(1 << 16), duplex(1 << 16));
        client.write_all(&message(0x82, b"to ")).await.unwrap();
        client.write_all(&message(0x82, b"there")).await.unwrap();
        let runs = async {
            let mut got = [0; 8];
            kubelet.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"to there");
            kubelet.write_all(b"and back").await.unwrap();
            kubelet.shutdown().await.unwrap();
        };
        let (near, backend) = (BufStream::new(near), BufStream::new(backend));
        let all = async { tokio::join!(packed(near, backend), runs, heard(client)) };
        let (done, (), said) = timeout(LONG, all).await.unwrap();
        done.unwrap();
        assert_eq!(said.concat(), b"and back");
    }
}
