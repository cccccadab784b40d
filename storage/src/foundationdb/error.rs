//! FoundationDB's error codes as [`KvError`], by what the caller can do.
//!
//! Codes are those of FoundationDB's error list ("Error codes", API reference). A commit is taken to be undone only where the code says
//! so; every other one leaves its outcome open.

use std::path::PathBuf;
use std::time::Duration;

use fdb::FdbError;

use crate::kv::{KvError, MAX_KEY, MAX_TRANSACTION, MAX_VALUE};

/// What sentences name.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) cluster_file: PathBuf,
    pub(super) timeout: Duration,
}

/// What a code means, wherever it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Run again from the start; nothing happened.
    Conflict,
    /// Run again from the start with a new read version.
    TooOld,
    /// Run again from the start, a little later: servers lag or throttle.
    Busy,
    /// The transaction's time was over.
    TimedOut,
    /// A commit may have happened.
    MaybeCommitted,
    /// Someone has locked the database.
    DatabaseLocked,
    TransactionTooLarge,
    KeyTooLarge,
    ValueTooLarge,
    /// A value that this transaction stamps was read.
    Unreadable,
    /// The client refused the call; nothing left the process.
    Refused,
    /// Anything else.
    Other,
}

fn class(code: i32) -> Class {
    match code {
        1020 => Class::Conflict,
        1007 => Class::TooOld,
        // future_version, process_behind, proxies out of memory, throttled by batch priority, tag or proxy.
        1009 | 1037 | 1042 | 1051 | 1078 | 1213 | 1223 => Class::Busy,
        1031 => Class::TimedOut,
        // commit_unknown_result, its fatal form, cluster_version_changed.
        1021 | 1022 | 1039 => Class::MaybeCommitted,
        1038 => Class::DatabaseLocked,
        2101 => Class::TransactionTooLarge,
        2102 => Class::KeyTooLarge,
        2103 => Class::ValueTooLarge,
        1036 => Class::Unreadable,
        2000..=2299 => Class::Refused,
        _ => Class::Other,
    }
}

/// Whether the caller should wait a little before it runs the transaction again.
pub(super) fn busy(error: FdbError) -> bool {
    class(error.code()) == Class::Busy
}

impl Place {
    fn silent(&self) -> String {
        format!(
            "FoundationDB did not answer within {:?}; check that its servers run (fdbcli -C {file} --exec status), that {file} is the \
             file of their cluster, and that they are of version 7.3 or 7.4",
            self.timeout,
            file = self.cluster_file.display()
        )
    }

    fn said(&self, error: FdbError) -> String {
        format!("FoundationDB of {}: {} ({})", self.cluster_file.display(), error.message(), error.code())
    }

    /// The error of a read, or of a commit that writes nothing.
    pub(super) fn read(&self, error: FdbError) -> KvError {
        match class(error.code()) {
            Class::Conflict => KvError::Conflict,
            // A read that asks for another run, whatever its commit would be: nothing was committed.
            Class::TooOld | Class::Busy | Class::MaybeCommitted => KvError::TooOld,
            Class::TimedOut => KvError::Unavailable(self.silent()),
            Class::DatabaseLocked => KvError::Unavailable(self.locked()),
            Class::TransactionTooLarge => {
                KvError::TooLarge { what: "a transaction", size: MAX_TRANSACTION + 1, limit: MAX_TRANSACTION }
            }
            Class::KeyTooLarge => KvError::TooLarge { what: "a key", size: MAX_KEY + 1, limit: MAX_KEY },
            Class::ValueTooLarge => KvError::TooLarge { what: "a value", size: MAX_VALUE + 1, limit: MAX_VALUE },
            Class::Unreadable => KvError::Misuse("a transaction cannot read a value that it stamps"),
            Class::Refused | Class::Other => KvError::Unavailable(self.said(error)),
        }
    }

    /// The error of a commit that writes. Only codes which say that nothing happened are taken for that.
    pub(super) fn commit(&self, error: FdbError) -> KvError {
        match class(error.code()) {
            Class::TimedOut | Class::MaybeCommitted | Class::Other => {
                KvError::Unknown(format!("the outcome of a commit is unknown: {}", self.said(error)))
            }
            Class::Conflict
            | Class::TooOld
            | Class::Busy
            | Class::DatabaseLocked
            | Class::TransactionTooLarge
            | Class::KeyTooLarge
            | Class::ValueTooLarge
            | Class::Unreadable
            | Class::Refused => self.read(error),
        }
    }

    fn locked(&self) -> String {
        format!(
            "the FoundationDB database of {file} is locked, as during a restore; wait for its end, or run fdbcli -C {file} and unlock it",
            file = self.cluster_file.display()
        )
    }

    /// The error of opening a database.
    pub(super) fn opening(&self, error: FdbError) -> KvError {
        let file = self.cluster_file.display();
        let advice = match error.code() {
            1513 | 1514 => "let this user read and write it, because the client rewrites it when coordinators move",
            1515 => "copy fdb.cluster from a machine of the FoundationDB cluster",
            2104 | 2049 => "it holds one line such as description:id@10.0.0.1:4500",
            2105 | 2106 => "the client could not use a local address",
            _ => return KvError::Unavailable(format!("the database of cluster file {file}: {}", text(error))),
        };
        KvError::Unavailable(format!("the cluster file {file}: {}; {advice}", text(error)))
    }
}

fn text(error: FdbError) -> String {
    format!("{} ({})", error.message(), error.code())
}

/// The error of starting the client library, at the step `what`.
pub(super) fn starting(what: &str, error: FdbError) -> KvError {
    KvError::Unavailable(match error.code() {
        2201..=2203 => format!(
            "the FoundationDB client library does not know API version {}, it ends at {}; install foundationdb-clients 7.3 or 7.4 \
             ({})",
            network_version(),
            fdb::api::get_max_api_version(),
            text(error)
        ),
        2006 | 2007 => format!("the FoundationDB client refuses {what}: {}", text(error)),
        2107 => format!(
            "the FoundationDB client cannot use the TLS files: {}; check certificate, key, CA and password",
            text(error)
        ),
        _ => format!("the FoundationDB client does not start, at {what}: {}", text(error)),
    })
}

fn network_version() -> i32 {
    super::network::API_VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_what_the_caller_can_do() {
        let place = Place { cluster_file: "/c".into(), timeout: Duration::from_secs(5) };
        let kind = |e: KvError| match e {
            KvError::Conflict => "conflict",
            KvError::TooOld => "again",
            KvError::Unknown(_) => "unknown",
            KvError::Unavailable(_) => "later",
            KvError::TooLarge { .. } => "large",
            KvError::Misuse(_) => "misuse",
            _ => "other",
        };
        let cases = [
            (1020, "conflict", "conflict"),
            (1007, "again", "again"),
            (1009, "again", "again"),
            (1037, "again", "again"),
            (1042, "again", "again"),
            (1078, "again", "again"),
            (1213, "again", "again"),
            (1021, "again", "unknown"),
            (1039, "again", "unknown"),
            (1031, "later", "unknown"),
            (1038, "later", "later"),
            (1025, "later", "unknown"),
            (4100, "later", "unknown"),
            (1036, "misuse", "misuse"),
            (2101, "large", "large"),
            (2102, "large", "large"),
            (2103, "large", "large"),
            (2004, "later", "later"),
        ];
        for (code, read, commit) in cases {
            let error = FdbError::from_code(code);
            assert_eq!((kind(place.read(error)), kind(place.commit(error))), (read, commit), "{code}");
        }
        for (code, wanted) in [(1515, "copy fdb.cluster"), (2104, "description:id@"), (1513, "read and write it")] {
            let said = place.opening(FdbError::from_code(code)).to_string();
            assert!(said.contains(wanted) && said.contains("/c"), "{said}");
        }
        let said = starting("x", FdbError::from_code(2203)).to_string();
        assert!(said.contains("install foundationdb-clients 7.3 or 7.4"), "{said}");
        let said = starting("the knob x", FdbError::from_code(2006)).to_string();
        assert!(said.contains("refuses the knob x"), "{said}");
        let said = place.read(FdbError::from_code(1031)).to_string();
        assert!(said.contains("fdbcli -C /c") && said.contains("5s"), "{said}");
    }
}
