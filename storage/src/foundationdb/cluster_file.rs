//! Reads a cluster file before the client library does, which would wait for ever or say a number.
//!
//! `description:id@address,address...`, an address being `ip:port` or `host:port`, with `:tls` behind it where the server speaks
//! TLS; `#` begins a comment (FoundationDB, Administration, "Cluster files"). Never writes: the client library does when
//! coordinators move.

use std::path::Path;

use crate::kv::KvError;

/// What a cluster file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Coordinators {
    /// Whether any of them speaks TLS.
    pub(super) tls: bool,
}

/// Reads `path`.
pub(super) fn read(path: &Path) -> Result<Coordinators, KvError> {
    let shown = path.display();
    let refuse = |text: String| Err(KvError::Unavailable(text));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return refuse(format!(
                "there is no cluster file {shown}; copy fdb.cluster from a machine of the FoundationDB cluster"
            ));
        }
        Err(e) => return refuse(format!("the cluster file {shown} cannot be read: {e}")),
    };
    parse(&text).or_else(|why| {
        refuse(format!(
            "{shown} is not a cluster file: {why}; it holds one line such as description:id@10.0.0.1:4500, as in fdb.cluster on a \
             machine of the FoundationDB cluster"
        ))
    })
}

fn parse(text: &str) -> Result<Coordinators, String> {
    let mut lines =
        text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
    let (line, None) = (lines.next().ok_or("it is empty")?, lines.next()) else {
        return Err("it has several lines".to_owned());
    };
    let (key, addresses) = line.split_once('@').ok_or("it names no coordinators")?;
    let (description, id) = key.split_once(':').ok_or("it has no description:id before the @")?;
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !word(description) || !word(id) {
        return Err("description and id are letters, digits and _".to_owned());
    }
    let mut tls = false;
    for address in addresses.split(',') {
        let plain = address.trim().strip_suffix(":tls");
        tls |= plain.is_some();
        let plain = plain.unwrap_or(address.trim());
        let port = plain.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(format!("{address:?} is not an address with a port"));
        }
    }
    Ok(Coordinators { tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cluster_files_are_taken() {
        let taken = [
            ("d:i@127.0.0.1:4500", false),
            ("# comment\n\nd_1:I2@10.0.0.1:4500,10.0.0.2:4500:tls\n", true),
            ("d:i@[::1]:4500 # here", false),
            ("d:i@fdb.example:4500:tls", true),
        ];
        for (text, tls) in taken {
            assert_eq!(parse(text), Ok(Coordinators { tls }), "{text}");
        }
        for text in [
            "",
            "#",
            "d:i",
            "d@1.1.1.1:1",
            "d:i@",
            "d:i@host",
            "d:i@:1",
            "d:i@h:0",
            "d:i@h:x",
            "d i:j@h:1",
            "d:i@h:1\nd:i@h:1",
        ] {
            parse(text).expect_err(text);
        }
        let missing = read(Path::new("/nowhere/fdb.cluster")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/fdb.cluster") && missing.contains("copy fdb.cluster"), "{missing}");
    }
}
