//! Questions about other domains go to the servers that this machine asks. Caches nothing and answers nothing itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rounds over all servers.
const ROUNDS: usize = 2;
/// The largest datagram asked for, in bytes: larger ones are lost on some ways.
const DATAGRAM: u16 = 1232;

/// The servers of a `resolv.conf`, except those at these addresses, which would ask back.
#[must_use]
pub fn servers(resolv_conf: &str, except: &[IpAddr]) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().map(str::split_whitespace);
    let named = lines.filter_map(|mut words| (words.next() == Some("nameserver")).then(|| words.next()).flatten());
    let addresses = named.filter_map(|text| text.parse::<IpAddr>().ok()).filter(|address| !except.contains(address));
    addresses.map(|address| SocketAddr::new(address, 53)).collect()
}

/// The first answer of a server that has one, `None` when no server answers.
pub async fn ask(servers: &[SocketAddr], query: &Query) -> Option<Message> {
    for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
        let mut question = Message::query();
        question.metadata.id = rand::random();
        question.metadata.recursion_desired = true;
        question.queries.push(query.clone());
        let mut edns = Edns::default();
        edns.set_max_payload(DATAGRAM);
        question.edns = Some(edns);
        let bytes = question.to_vec().ok()?;
        match timeout(PATIENCE, exchange(*server, &bytes)).await {
            Ok(Ok(answer)) if fits(&question, &answer) => return Some(answer),
            Ok(Ok(_)) => tracing::debug!(%server, "an answer to another question"),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a server of this machine does not answer"),
            Err(_) => tracing::debug!(%server, "a server of this machine takes too long"),
        }
    }
    None
}

fn fits(question: &Message, answer: &Message) -> bool {
    let asked =
        |message: &Message| message.queries.first().map(|query| (query.name().to_lowercase(), query.query_type()));
    question.metadata.id == answer.metadata.id && asked(question) == asked(answer)
}

/// By datagram, and by connection where the answer is too large for one.
async fn exchange(server: SocketAddr, question: &[u8]) -> std::io::Result<Message> {
    let own: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).await?;
    buffer.truncate(length);
    let answer = Message::from_vec(&buffer).map_err(std::io::Error::other)?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(u16::try_from(question.len()).map_err(std::io::Error::other)?).await?;
    stream.write_all(question).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    Message::from_vec(&buffer).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_those_of_the_machine() {
        let text = "# nameserver 1.1.1.1\nnameserver 9.9.9.9\nnameserver ::1\noptions edns0\nnameserver 10.96.0.10\nnameserver x\n";
        let found = servers(text, &["10.96.0.10".parse().unwrap()]);
        assert_eq!(found, ["9.9.9.9:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }
}
