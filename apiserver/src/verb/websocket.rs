//! WebSockets of clients: the handshake, the frames that go out and those that come in, and a stream of bytes in one direction
//! (RFC 6455).
//!
//! Never says what messages mean.

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
pub(super) const BINARY: u8 = 0x82;
pub(super) const PONG: u8 = 0x8a;
/// Status 1000: the stream ended as it should.
pub(super) const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe8];
/// The largest piece of a message that is handed on at once.
const PIECE: usize = 64 * 1024;

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
    let protocol = chosen(received.header("sec-websocket-protocol"))
        .ok_or_else(|| Status::bad_request("none of the protocols of the WebSocket is known"))?;
    Ok((agreed(received, protocol.name())?, protocol))
}

/// The answer that makes the connection a WebSocket that speaks a protocol, or none where that is empty.
///
/// # Errors
/// 400 without a key.
pub(super) fn agreed(received: &Received, protocol: &str) -> Result<Answer, Status> {
    let Some(key) = received.header("sec-websocket-key") else {
        return Err(Status::bad_request("the request has no Sec-WebSocket-Key"));
    };
    let mut answer = stream("", futures::stream::empty());
    answer.code = 101;
    let answer = answer.with("upgrade", "websocket").with("connection", "Upgrade");
    let answer = answer.with("sec-websocket-accept", proof(key));
    Ok(if protocol.is_empty() { answer } else { answer.with("sec-websocket-protocol", protocol) })
}

/// The protocols that a client offers, in its order.
pub(super) fn offered(received: &Received) -> impl Iterator<Item = &str> {
    let offered = received.header("sec-websocket-protocol").unwrap_or_default();
    offered.split(',').map(str::trim).filter(|name| !name.is_empty())
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
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    framed(first, &[], payload)
}

/// The same of two parts.
pub(super) fn framed(first: u8, head: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = head.len() + payload.len();
    let mut out = Vec::with_capacity(length + 10);
    out.push(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend(medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(head);
    out.extend_from_slice(payload);
    out
}

/// What came from a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A piece of a message; `first` when it begins one, `last` when it is its end.
    Data { bytes: Vec<u8>, first: bool, last: bool },
    /// To be answered by a `PONG` of the same bytes.
    Ping(Vec<u8>),
    /// The client closes, or is gone.
    End,
}

/// A frame of data that is being read.
#[derive(Clone, Copy)]
struct Within {
    left: u64,
    mask: [u8; 4],
    first: bool,
    last: bool,
}

/// Reads frames of a client.
pub(super) struct Reader<R> {
    input: R,
    within: Option<Within>,
    /// A message has begun, and its last frame has not come.
    open: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(input: R) -> Reader<R> {
        Reader { input, within: None, open: false }
    }

    /// What comes next.
    ///
    /// # Errors
    /// Those of the connection, and of frames that no client may send. What was read of a frame is lost when it is dropped.
    pub(super) async fn next(&mut self) -> std::io::Result<Heard> {
        loop {
            if let Some(within) = self.within.take() {
                return self.piece(within).await;
            }
            let mut head = [0; 2];
            match self.input.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Heard::End),
                Err(error) => return Err(error),
            }
            let [first, second] = head;
            let (last, kind) = (first & 0x80 != 0, first & 0x0f);
            let left = match second & 0x7f {
                126 => u64::from(self.input.read_u16().await?),
                127 => self.input.read_u64().await?,
                short => u64::from(short),
            };
            let wrong = |what: &str| Err(std::io::Error::other(format!("WebSocket: {what}")));
            if second & 0x80 == 0 || first & 0x70 != 0 {
                return wrong("a client's frame is masked and has no extensions");
            }
            let mut mask = [0; 4];
            self.input.read_exact(&mut mask).await?;
            let begins = matches!(kind, 1 | 2);
            match kind {
                0..=2 if begins == self.open => return wrong("a message begins once"),
                0..=2 => {
                    self.open = !last;
                    return self.piece(Within { left, mask, first: begins, last }).await;
                }
                8..=10 if left > 125 || !last => return wrong("a control frame is short and whole"),
                8..=10 => {
                    let Heard::Data { bytes, .. } = self.piece(Within { left, mask, first: true, last }).await? else {
                        return Ok(Heard::End);
                    };
                    match kind {
                        8 => return Ok(Heard::End),
                        9 => return Ok(Heard::Ping(bytes)),
                        _ => {}
                    }
                }
                _ => return wrong("a frame of an unknown kind"),
            }
        }
    }

    async fn piece(&mut self, within: Within) -> std::io::Result<Heard> {
        let Within { left, mut mask, first, last } = within;
        let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes).await?;
        for (byte, key) in bytes.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= key;
        }
        let rest = left - length as u64;
        if rest > 0 {
            mask.rotate_left(length % 4);
            self.within = Some(Within { left: rest, mask, first: false, last });
        }
        Ok(Heard::Data { bytes, first, last: last && rest == 0 })
    }
}

/// Writes all of it, and sees it off: what TLS has taken over may lie there for as long as nobody asks for more.
///
/// # Errors
/// Those of the connection.
pub(super) async fn say<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
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
                Some(Ok(bytes)) => say(&mut output, &protocol.message(&bytes)).await?,
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
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

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

    /// A frame as a client sends it.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = frame(first, payload);
        let head = out.len() - payload.len();
        out[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        for (byte, key) in out[head..].iter_mut().zip(mask.iter().cycle()) {
            *byte ^= key;
        }
        out.splice(head..head, mask);
        out
    }

    #[tokio::test]
    async fn frames_of_clients_are_heard() {
        let large: Vec<u8> = (0..PIECE + 3).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let sent = [
            masked(BINARY, b"whole"),
            masked(0x02, b"be"),
            masked(0x89, b"ping"),
            masked(0x00, b"gi"),
            masked(0x80, b"n"),
            masked(PONG, b"pong"),
            masked(BINARY, &large),
            masked(TEXT, b""),
            masked(0x88, &[3, 0xe8]),
        ]
        .concat();
        let mut reader = Reader::new(sent.as_slice());
        let data = |bytes: &[u8], first, last| Heard::Data { bytes: bytes.to_vec(), first, last };
        for expected in [
            data(b"whole", true, true),
            data(b"be", true, false),
            Heard::Ping(b"ping".to_vec()),
            data(b"gi", false, false),
            data(b"n", false, true),
            data(&large[..PIECE], true, false),
            data(&large[PIECE..], false, true),
            data(b"", true, true),
            Heard::End,
            Heard::End,
        ] {
            assert_eq!(reader.next().await.unwrap(), expected);
        }
        for (wrong, why) in [
            (frame(BINARY, b"x"), "not masked"),
            (masked(0x80, b"x"), "goes on with nothing"),
            (masked(0x83, b"x"), "unknown"),
            (masked(0xc2, b"x"), "an extension"),
            (masked(0x09, b"x"), "a ping in parts"),
            ([masked(0x02, b"x"), masked(BINARY, b"x")].concat(), "begins twice"),
        ] {
            let mut reader = Reader::new(wrong.as_slice());
            let mut heard = reader.next().await;
            if why == "begins twice" {
                heard = reader.next().await;
            }
            assert!(heard.is_err(), "{why}: {heard:?}");
        }
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
