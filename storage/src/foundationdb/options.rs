//! What a person may choose about the FoundationDB client: `--storage-option NAME=VALUE`.
//!
//! Never touches the client library.

use std::path::PathBuf;
use std::time::Duration;

use super::cluster_file::Coordinators;
use crate::kv::KvError;

/// Names and meanings of the options.
pub static OPTIONS: &[(&str, &str)] = &[
    ("timeout", "longest time of one transaction, in milliseconds, from 100 to 600000 [default: 10000]"),
    ("tls-cert-file", "certificate of this client"),
    ("tls-key-file", "key of tls-cert-file"),
    ("tls-ca-file", "authorities of the servers' certificates"),
    ("tls-password-file", "file with the password of tls-key-file"),
    (
        "tls-verify-peers",
        "what servers' certificates must say, in FoundationDB's notation, such as Check.Valid=1,S.O=Example",
    ),
    ("knob", "NAME=VALUE: a knob of the client library; may be given more than once"),
    ("trace-dir", "directory for the client's trace files"),
    ("external-client-dir", "directory with further client libraries, for an upgrade of the servers"),
];

/// How the engine runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest that a transaction may take. FoundationDB ends reads and commits after five seconds by itself; the rest is for the
    /// pause of a recovery, during which it answers nothing.
    pub timeout: Duration,
    pub(super) network: Network,
}

/// What holds for the whole process.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) tls_cert_file: Option<PathBuf>,
    pub(super) tls_key_file: Option<PathBuf>,
    pub(super) tls_ca_file: Option<PathBuf>,
    pub(super) tls_password: Option<String>,
    pub(super) tls_verify_peers: Option<String>,
    pub(super) knobs: Vec<String>,
    pub(super) trace_dir: Option<PathBuf>,
    pub(super) external_client_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), network: Network::default() }
    }
}

impl Options {
    /// Reads options as `OPTIONS` names them.
    ///
    /// # Errors
    /// `Unavailable` for a name that does not exist, a value that is not what the name asks for, and a password file that cannot be read.
    pub fn parse(given: &[(&str, &str)]) -> Result<Self, KvError> {
        let mut options = Self::default();
        let network = &mut options.network;
        for &(name, value) in given {
            let refuse = |why: &str| Err(KvError::Unavailable(format!("the storage option {name}={value}: {why}")));
            if value.is_empty() || value.contains('\0') {
                return refuse("it needs a value");
            }
            match name {
                "timeout" => match value.parse() {
                    Ok(millis @ 100..=600_000) => options.timeout = Duration::from_millis(millis),
                    _ => return refuse("a time is a number of milliseconds from 100 to 600000"),
                },
                "tls-cert-file" => network.tls_cert_file = Some(value.into()),
                "tls-key-file" => network.tls_key_file = Some(value.into()),
                "tls-ca-file" => network.tls_ca_file = Some(value.into()),
                "tls-password-file" => match std::fs::read_to_string(value) {
                    Ok(text) => network.tls_password = Some(text.trim_end_matches(['\r', '\n']).to_owned()),
                    Err(e) => return refuse(&e.to_string()),
                },
                "tls-verify-peers" => network.tls_verify_peers = Some(value.to_owned()),
                "knob" => match value.split_once('=') {
                    Some((knob, setting)) if !knob.is_empty() && !setting.is_empty() => {
                        network.knobs.push(value.to_owned());
                    }
                    _ => return refuse("a knob is NAME=VALUE"),
                },
                "trace-dir" => network.trace_dir = Some(value.into()),
                "external-client-dir" => network.external_client_dir = Some(value.into()),
                _ => {
                    let known = OPTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                    return Err(KvError::Unavailable(format!(
                        "{name} is no storage option of foundationdb; known are {known}"
                    )));
                }
            }
        }
        Ok(options)
    }

    /// Refuses what cannot work before the client library tries.
    pub(super) fn check(&self, coordinators: &Coordinators) -> Result<(), KvError> {
        let network = &self.network;
        let refuse = |text: String| Err(KvError::Unavailable(text));
        for (name, file) in [
            ("tls-cert-file", &network.tls_cert_file),
            ("tls-key-file", &network.tls_key_file),
            ("tls-ca-file", &network.tls_ca_file),
        ] {
            if let Some(file) = file
                && let Err(e) = std::fs::read(file)
            {
                return refuse(format!("the storage option {name}={}: {e}", file.display()));
            }
        }
        for (name, dir) in [("trace-dir", &network.trace_dir), ("external-client-dir", &network.external_client_dir)] {
            if let Some(dir) = dir
                && !dir.is_dir()
            {
                return refuse(format!("the storage option {name}={}: it is not a directory", dir.display()));
            }
        }
        if network.tls_cert_file.is_some() != network.tls_key_file.is_some() {
            return refuse("the storage options tls-cert-file and tls-key-file come together".to_owned());
        }
        if network.tls_cert_file.is_some() && !coordinators.tls {
            return refuse(
                "a TLS certificate is given, and the cluster file names no coordinator with TLS: their addresses end in :tls".to_owned(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_wrong_ones_named() {
        let options = Options::parse(&[("timeout", "2500"), ("knob", "a=1"), ("knob", "b=2")]).unwrap();
        assert_eq!(options.timeout, Duration::from_millis(2500));
        assert_eq!(options.network.knobs, ["a=1", "b=2"]);
        for (name, value, wanted) in [
            ("timeout", "soon", "milliseconds"),
            ("timeout", "1", "milliseconds"),
            ("knob", "a", "NAME=VALUE"),
            ("trace-dir", "", "needs a value"),
            ("tls-password-file", "/nowhere", "No such file"),
            ("cluster", "x", "known are timeout, tls-cert-file"),
        ] {
            let said = Options::parse(&[(name, value)]).unwrap_err().to_string();
            assert!(said.contains(wanted) && said.contains(name), "{said}");
        }
        let plain = Coordinators { tls: false };
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for (given, wanted) in [
            (vec![("tls-cert-file", "/nowhere")], "tls-cert-file=/nowhere"),
            (vec![("trace-dir", "/nowhere")], "not a directory"),
            (vec![("tls-cert-file", file)], "come together"),
            (vec![("tls-cert-file", file), ("tls-key-file", file)], "end in :tls"),
        ] {
            let said = Options::parse(&given).unwrap().check(&plain).unwrap_err().to_string();
            assert!(said.contains(wanted), "{said}");
        }
    }
}
