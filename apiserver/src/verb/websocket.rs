//! A stream of bytes to a client over a WebSocket: the handshake and the frames that go out (RFC 6455).
//!
//! Never takes anything in but the client's end: what upstream streams one way has nothing to hear.

use crate::answer::Answer;
use crate::answer::stream;
use crate::road::received::Received;
use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What RFC 6455 appends to a key.
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
/// Status 1000: the stream ended as it should.
const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe8];

/// How bytes go into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// As they are; also when the client names none.
    Binary(&'static str),
    /// `base64.binary.k8s.io`.
    Base64,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Binary(name) => name,
            Protocol::Base64 => "base64.binary.k8s.io",
        }
    }

    fn message(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Protocol::Binary(_) => frame(BINARY, bytes),
            Protocol::Base64 => frame(TEXT, STANDARD.encode(bytes).as_bytes()),
        }
    }
}

/// Whether the request wants to become a WebSocket.
pub(super) fn wanted(received: &Received) -> bool {
    received.header("upgrade").is_some_and(|word| word.eq_ignore_ascii_case("websocket"))
}

/// The answer that makes the connection one, and how it is spoken.
///
/// # Errors
/// 400 without a key, or when only protocols are offered that are none of ours.
pub(super) fn accepted(received: &Received) -> Result<(Answer, Protocol), Status> {
    let Some(key) = received.header("sec-websocket-key") else {
        return Err(Status::bad_request("the request has no Sec-WebSocket-Key"));
    };
    let protocol = chosen(received.header("sec-websocket-protocol"))
        .ok_or_else(|| Status::bad_request("none of the protocols of the WebSocket is known"))?;
    let mut answer = stream("", futures::stream::empty());
    answer.code = 101;
    let answer = answer.with("upgrade", "websocket").with("connection", "Upgrade");
    let answer = answer.with("sec-websocket-accept", proof(key));
    let named = protocol.name();
    Ok((if named.is_empty() { answer } else { answer.with("sec-websocket-protocol", named) }, protocol))
}

fn chosen(offered: Option<&str>) -> Option<Protocol> {
    let Some(offered) = offered else { return Some(Protocol::Binary("")) };
    offered.split(',').find_map(|name| match name.trim() {
        "binary.k8s.io" => Some(Protocol::Binary("binary.k8s.io")),
        "base64.binary.k8s.io" => Some(Protocol::Base64),
        _ => None,
    })
}

fn proof(key: &str) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.trim().as_bytes());
    context.update(SUFFIX);
    STANDARD.encode(context.finish())
}

/// A whole message from the server: not masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    out.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend(medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

/// Sends the stream, a message for each piece, and closes. Ends early when the client does.
pub(super) async fn send<I, S, E>(io: I, protocol: Protocol, mut pieces: S) -> std::io::Result<()>
where
    I: AsyncRead + AsyncWrite,
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let (mut input, mut output) = tokio::io::split(io);
    let mut heard = [0_u8; 512];
    loop {
        tokio::select! {
            piece = pieces.next() => match piece {
                Some(Ok(bytes)) => output.write_all(&protocol.message(&bytes)).await?,
                Some(Err(_)) | None => break,
            },
            // Nothing that a client may say here is worth more than its end.
            count = input.read(&mut heard) => if count? == 0 { return Ok(()) },
        }
    }
    output.write_all(&CLOSE).await?;
    output.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_of_the_rfc() {
        assert_eq!(proof("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (offered, expected) in [
            (None, Some(Protocol::Binary(""))),
            (Some("binary.k8s.io"), Some(Protocol::Binary("binary.k8s.io"))),
            (Some("base64url.bearer.authorization.k8s.io.dA, base64.binary.k8s.io"), Some(Protocol::Base64)),
            (Some("v5.channel.k8s.io"), None),
        ] {
            assert_eq!(chosen(offered), expected, "{offered:?}");
        }
    }

    #[test]
    fn lengths_are_written_as_short_as_can_be() {
        for (length, head) in [
            (0, vec![BINARY, 0]),
            (125, vec![BINARY, 125]),
            (126, vec![BINARY, 126, 0, 126]),
            (65_535, vec![BINARY, 126, 255, 255]),
            (65_536, vec![BINARY, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let whole = frame(BINARY, &vec![7; length]);
            assert_eq!((whole.len(), &whole[..head.len()]), (head.len() + length, head.as_slice()));
        }
        assert_eq!(Protocol::Base64.message(b"hi"), [TEXT, 4, b'a', b'G', b'k', b'=']);
    }

    #[tokio::test]
    async fn a_stream_becomes_messages_and_an_end() {
        let (near, mut far) = tokio::io::duplex(1024);
        let pieces = futures::stream::iter([Ok::<_, ()>(Bytes::from("one")), Ok(Bytes::from("two"))]);
        send(near, Protocol::Binary(""), pieces).await.unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [&[BINARY, 3][..], b"one", &[BINARY, 3], b"two", &CLOSE].concat());
    }
}
