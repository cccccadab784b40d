//! SPDY/3.1 as far as a client of a runtime's streaming server speaks it: streams opened, written, and heard.
//!
//! Never reads a header of the other side, and counts no windows: the servers it is meant for (moby/spdystream) send neither that
//! matters. Source: SPDY protocol, draft 3.1.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// `Upgrade` of such a connection.
pub(super) const UPGRADE: &str = "SPDY/3.1";

const CONTROL: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
/// Of data and control frames alike: nothing more comes on this stream.
const FIN: u8 = 1;
/// The largest piece of data that is handed on at once.
const PIECE: usize = 64 * 1024;
/// The largest control frame that is taken.
const LARGEST: usize = 64 * 1024;

/// What came from the other side.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A piece of a stream; `last` when it is the stream's end.
    Data { stream: u32, bytes: Bytes, last: bool },
    /// The stream is open.
    Open { stream: u32, last: bool },
    /// The stream is broken off.
    Reset { stream: u32 },
    /// To be sent back as it is.
    Ping(u32),
    /// The connection's end is near, or here.
    End,
    /// Nothing that matters.
    Other,
}

fn frame(first: [u8; 4], flags: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let [_, high, middle, low] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = Vec::with_capacity(8 + length);
    out.extend(first);
    out.extend([flags, high, middle, low]);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

fn control(kind: u16, flags: u8, parts: &[&[u8]]) -> Vec<u8> {
    let ([a, b], [c, d]) = (CONTROL.to_be_bytes(), kind.to_be_bytes());
    frame([a, b, c, d], flags, parts)
}

/// Data of a stream. A piece holds less than 16 MiB.
pub(super) fn data(stream: u32, bytes: &[u8], last: bool) -> Vec<u8> {
    frame(stream.to_be_bytes(), if last { FIN } else { 0 }, &[bytes])
}

/// The answer to a ping.
pub(super) fn pong(id: u32) -> Vec<u8> {
    control(PING, 0, &[&id.to_be_bytes()])
}

/// Opens streams. The blocks of headers of a connection are one zlib stream, each part of which ends flushed; ours are stored, not
/// compressed, and so need no dictionary.
#[derive(Default)]
pub(super) struct Opener {
    opened: u32,
}

impl Opener {
    /// A stream with one header, whose name is in lower case, and its number.
    pub(super) fn open(&mut self, name: &str, value: &str) -> (u32, Vec<u8>) {
        let stream = self.opened * 2 + 1;
        let mut headers = Vec::new();
        headers.extend(1_u32.to_be_bytes());
        for text in [name, value] {
            headers.extend(u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
            headers.extend_from_slice(text.as_bytes());
        }
        let zlib: &[u8] = if self.opened == 0 { &[0x78, 0x01] } else { &[] };
        let length = u16::try_from(headers.len()).unwrap_or_default();
        let (length, complement) = (length.to_le_bytes(), (!length).to_le_bytes());
        self.opened += 1;
        let associated_and_priority = [0; 6];
        let block: [&[u8]; 6] = [zlib, &[0], &length, &complement, &headers, &[0, 0, 0, 0xff, 0xff]];
        let mut parts: Vec<&[u8]> = vec![];
        let number = stream.to_be_bytes();
        parts.push(&number);
        parts.push(&associated_and_priority);
        parts.extend(block);
        (stream, control(SYN_STREAM, 0, &parts))
    }
}

/// Reads frames.
pub(super) struct Reader<R> {
    input: R,
    /// The stream of the data frame that is being read, how much of it is left, and whether it is the last.
    within: Option<(u32, usize, bool)>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(input: R) -> Reader<R> {
        Reader { input, within: None }
    }

    /// What comes next.
    ///
    /// # Errors
    /// Those of the connection, and of a frame that cannot be one. What was read of a frame is lost when it is dropped.
    pub(super) async fn next(&mut self) -> std::io::Result<Heard> {
        if let Some((stream, left, last)) = self.within.take() {
            return self.piece(stream, left, last).await;
        }
        let mut head = [0; 8];
        match self.input.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Heard::End),
            Err(error) => return Err(error),
        }
        let [a, b, c, d, flags, high, middle, low] = head;
        let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(usize::MAX);
        let last = flags & FIN != 0;
        if a & 0x80 == 0 {
            return self.piece(u32::from_be_bytes([a, b, c, d]), length, last).await;
        }
        if u16::from_be_bytes([a, b]) != CONTROL || length > LARGEST {
            return Err(std::io::Error::other("a frame that is none of SPDY/3.1"));
        }
        let mut body = vec![0; length];
        self.input.read_exact(&mut body).await?;
        let first = body.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        Ok(match u16::from_be_bytes([c, d]) {
            SYN_REPLY => Heard::Open { stream: first, last },
            RST_STREAM => Heard::Reset { stream: first },
            PING => Heard::Ping(first),
            GOAWAY => Heard::End,
            _ => Heard::Other,
        })
    }

    async fn piece(&mut self, stream: u32, left: usize, last: bool) -> std::io::Result<Heard> {
        let length = left.min(PIECE);
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes).await?;
        let rest = left - length;
        if rest > 0 {
            self.within = Some((stream, rest, last));
        }
        Ok(Heard::Data { stream, bytes: bytes.into(), last: last && rest == 0 })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

    use super::*;
    use std::io::Read as _;

    #[test]
    fn headers_are_one_zlib_stream() {
        let mut opener = Opener::default();
        let mut stored = Vec::new();
        for (number, name) in [(1, "error"), (3, "stdin"), (5, "resize")] {
            let (stream, frame) = opener.open("streamtype", name);
            assert_eq!(stream, number);
            assert_eq!(frame[..4], [0x80, 3, 0, 1]);
            assert_eq!(frame[5..8], u32::try_from(frame.len() - 8).unwrap().to_be_bytes()[1..]);
            assert_eq!(frame[8..18], [0, 0, 0, u8::try_from(number).unwrap(), 0, 0, 0, 0, 0, 0]);
            stored.extend_from_slice(&frame[18..]);
        }
        // A last, empty block makes it whole.
        stored.extend([1, 0, 0, 0xff, 0xff]);
        let mut read = Vec::new();
        flate2::read::DeflateDecoder::new(&stored[2..]).read_to_end(&mut read).unwrap();
        let block = |value: &str| {
            let length = u8::try_from(value.len()).unwrap();
            [&[0, 0, 0, 1, 0, 0, 0, 10][..], b"streamtype", &[0, 0, 0, length], value.as_bytes()].concat()
        };
        assert_eq!(read, [block("error"), block("stdin"), block("resize")].concat());
        assert_eq!(u16::from_be_bytes([stored[0], stored[1]]) % 31, 0, "zlib's check of its own head");
    }

    #[tokio::test]
    async fn frames_are_heard() {
        let large = vec![7; PIECE + 5];
        let sent = [
            control(SYN_REPLY, 0, &[&[0, 0, 0, 3], b"headers"]),
            data(3, b"hello", false),
            data(5, &large, true),
            control(4, 0, &[&[0; 12]]),
            pong(2),
            control(RST_STREAM, 0, &[&[0, 0, 0, 1], &[0, 0, 0, 5]]),
            data(1, b"", true),
        ]
        .concat();
        let mut reader = Reader::new(sent.as_slice());
        let piece = |stream, bytes: &[u8], last| Heard::Data { stream, bytes: Bytes::copy_from_slice(bytes), last };
        for expected in [
            Heard::Open { stream: 3, last: false },
            piece(3, b"hello", false),
            piece(5, &large[..PIECE], false),
            piece(5, &large[PIECE..], true),
            Heard::Other,
            Heard::Ping(2),
            Heard::Reset { stream: 1 },
            piece(1, b"", true),
            Heard::End,
        ] {
            assert_eq!(reader.next().await.unwrap(), expected);
        }
        for wrong in
            [&[0x80, 2, 0, 1, 0, 0, 0, 0][..], &[0x80, 3, 0, 2, 0, 0xff, 0xff, 0xff], &[0, 0, 0, 1, 0, 0, 0, 9, 1]]
        {
            assert!(Reader::new(wrong).next().await.is_err(), "{wrong:?}");
        }
    }
}
