//! What encryption at rest counts, by upstream's names (`apiserver/pkg/storage/value`, `envelope/metrics`,
//! `encryptionconfig/metrics` of v1.36; all of them alpha there).
//!
//! Keys are named by their hash, and of those only the latest hundred. Never logs.

use super::envelope;
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    exponential_buckets,
};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use storage::clock::{Clock as _, SystemClock};

/// Names of keys that are told apart at the same time.
const KEYS: usize = 100;
/// The status of what went well.
pub(crate) const OK: &str = "OK";
/// The status of an error that no key service said.
pub(crate) const LOCAL: &str = "unknown-non-grpc";

/// In which direction an object is transformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    FromStorage,
    ToStorage,
}

impl Direction {
    fn label(self) -> &'static str {
        match self {
            Direction::FromStorage => "from_storage",
            Direction::ToStorage => "to_storage",
        }
    }
}

/// Label values in the order of their last use; those that fall out are returned, so that their series can go.
#[derive(Default)]
struct Latest(Mutex<Vec<[String; 3]>>);

impl Latest {
    fn touch(&self, labels: [&str; 3]) -> Option<[String; 3]> {
        let mut known = self.0.lock();
        match known.iter().rposition(|one| *one == labels) {
            Some(last) if last + 1 == known.len() => None,
            Some(at) => {
                let one = known.remove(at);
                known.push(one);
                None
            }
            None => {
                known.push(labels.map(str::to_owned));
                (known.len() > KEYS).then(|| known.remove(0))
            }
        }
    }
}

/// See the file.
pub(crate) struct Metrics {
    /// The hash of this server's name.
    server: String,
    transformations: IntCounterVec,
    durations: HistogramVec,
    misses: IntCounter,
    generated: Histogram,
    not_generated: IntCounter,
    asked: HistogramVec,
    used: IntCounterVec,
    used_at: GaugeVec,
    known_used: Latest,
    named_at: GaugeVec,
    known_named: Latest,
    misnamed: IntCounterVec,
    seeds: IntGaugeVec,
    fill: Gauge,
    reloads: IntCounterVec,
    reloaded_at: GaugeVec,
    configuration: IntGaugeVec,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What upstream calls a server whose host has this name.
pub(crate) fn identity(host: &str) -> String {
    let mut hash = Sha256::new();
    for part in [host, "kube-apiserver"] {
        hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        hash.update(part);
    }
    let bits = hash.finalize().iter().take(16).fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    // Base 32 without padding: 16 bytes are 25 digits and three bits.
    let digit = |five: u128| char::from(if five < 26 { b'a' + five as u8 } else { b'2' + (five as u8 - 26) });
    let digits = (0..25).map(|at| digit(bits >> (123 - 5 * at) & 31));
    let last = digit((bits & 7) << 2);
    format!("apiserver-{}", digits.chain([last]).collect::<String>())
}

fn now() -> f64 {
    SystemClock.unix_millis() as f64 / 1000.0
}

impl Metrics {
    /// Nothing counted yet. `host` is the name of this machine.
    pub(crate) fn new(host: &str) -> Metrics {
        let expected = "constant names and buckets are valid";
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect(expected)
        };
        let times =
            |name: &str, help: &str, labels: &[&str]| GaugeVec::new(Opts::new(name, help), labels).expect(expected);
        let gauges =
            |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels).expect(expected);
        let options = |name: &str, help: &str, first: f64, count: usize| {
            HistogramOpts::new(name, help).buckets(exponential_buckets(first, 2.0, count).expect(expected))
        };
        Metrics {
            server: envelope::hash(&identity(host)),
            transformations: counters(
                "apiserver_storage_transformation_operations_total",
                "Objects that were encrypted or decrypted, by resource, direction, prefix and status.",
                &["resource", "transformation_type", "transformer_prefix", "status"],
            ),
            durations: HistogramVec::new(
                options(
                    "apiserver_storage_transformation_duration_seconds",
                    "Time to encrypt or decrypt an object, in seconds.",
                    5e-6,
                    25,
                ),
                &["transformation_type", "transformer_prefix"],
            )
            .expect(expected),
            misses: IntCounter::new(
                "apiserver_storage_envelope_transformation_cache_misses_total",
                "Data keys that had to be decrypted by a key service.",
            )
            .expect(expected),
            generated: Histogram::with_opts(options(
                "apiserver_storage_data_key_generation_duration_seconds",
                "Time to make a data key, in seconds.",
                5e-6,
                14,
            ))
            .expect(expected),
            not_generated: IntCounter::new(
                "apiserver_storage_data_key_generation_failures_total",
                "Data keys that could not be made.",
            )
            .expect(expected),
            asked: HistogramVec::new(
                options(
                    "apiserver_envelope_encryption_kms_operations_latency_seconds",
                    "Time of a key service to answer, in seconds, by its status.",
                    0.0001,
                    20,
                ),
                &["provider_name", "method_name", "grpc_status_code"],
            )
            .expect(expected),
            used: counters(
                "apiserver_envelope_encryption_key_id_hash_total",
                "How often a key of a key service was used, by direction, provider and API server.",
                &["transformation_type", "provider_name", "key_id_hash", "apiserver_id_hash"],
            ),
            used_at: times(
                "apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds",
                "When a key of a key service was last used, in Unix seconds.",
                &["transformation_type", "provider_name", "key_id_hash", "apiserver_id_hash"],
            ),
            known_used: Latest::default(),
            named_at: times(
                "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds",
                "When a key service last named a key as its current one, in Unix seconds.",
                &["provider_name", "key_id_hash", "apiserver_id_hash"],
            ),
            known_named: Latest::default(),
            misnamed: counters(
                "apiserver_envelope_encryption_invalid_key_id_from_status_total",
                "How often a key service named a key in a way that cannot be used, by error.",
                &["provider_name", "error"],
            ),
            seeds: gauges(
                "apiserver_envelope_encryption_dek_source_cache_size",
                "Data keys in memory: about as many as a restart would ask the key service for.",
                &["provider_name"],
            ),
            fill: Gauge::new(
                "apiserver_envelope_encryption_dek_cache_fill_percent",
                "Of KMS v1, which is not offered: always 0.",
            )
            .expect(expected),
            reloads: counters(
                "apiserver_encryption_config_controller_automatic_reloads_total",
                "Changed encryption configurations that were taken up or refused.",
                &["status", "apiserver_id_hash"],
            ),
            reloaded_at: times(
                "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds",
                "When an encryption configuration was last taken up or refused, in Unix seconds.",
                &["status", "apiserver_id_hash"],
            ),
            configuration: gauges(
                "apiserver_encryption_config_controller_last_config_info",
                "1 for the hash of the encryption configuration in force.",
                &["apiserver_id_hash", "hash"],
            ),
        }
    }

    /// Shows everything in a registry.
    ///
    /// # Panics
    /// When the registry has one of the names already: a mistake in this file.
    pub(crate) fn register(&self, registry: &Registry) {
        let all: [Box<dyn Collector>; 15] = [
            Box::new(self.transformations.clone()),
            Box::new(self.durations.clone()),
            Box::new(self.misses.clone()),
            Box::new(self.generated.clone()),
            Box::new(self.not_generated.clone()),
            Box::new(self.asked.clone()),
            Box::new(self.used.clone()),
            Box::new(self.used_at.clone()),
            Box::new(self.named_at.clone()),
            Box::new(self.misnamed.clone()),
            Box::new(self.seeds.clone()),
            Box::new(self.fill.clone()),
            Box::new(self.reloads.clone()),
            Box::new(self.reloaded_at.clone()),
            Box::new(self.configuration.clone()),
        ];
        for one in all {
            registry.register(one).expect("names are distinct");
        }
    }

    /// An object of `resource` was transformed under `prefix`; `status` is [`OK`], [`LOCAL`] or what a key service said.
    pub(crate) fn transformed(
        &self,
        resource: &str,
        direction: Direction,
        prefix: &str,
        elapsed: Duration,
        status: &str,
    ) {
        self.transformations.with_label_values(&[resource, direction.label(), prefix, status]).inc();
        if status == OK {
            self.durations.with_label_values(&[direction.label(), prefix]).observe(elapsed.as_secs_f64());
        }
    }

    /// A data key was not in memory.
    pub(crate) fn missed(&self) {
        self.misses.inc();
    }

    /// A data key was made, or not.
    pub(crate) fn made(&self, elapsed: Duration, well: bool) {
        if well {
            self.generated.observe(elapsed.as_secs_f64());
        } else {
            self.not_generated.inc();
        }
    }

    /// A key service answered, or did not.
    pub(crate) fn asked(&self, provider: &str, method: &str, elapsed: Duration, status: &str) {
        self.asked.with_label_values(&[provider, method, status]).observe(elapsed.as_secs_f64());
    }

    /// The key with this hash was used.
    pub(crate) fn used(&self, direction: Direction, provider: &str, key: &str) {
        if let Some([direction, provider, key]) = self.known_used.touch([direction.label(), provider, key]) {
            let gone = [direction.as_str(), &provider, &key, &self.server];
            // It may be gone already; both are the end that is wanted.
            drop((self.used.remove_label_values(&gone), self.used_at.remove_label_values(&gone)));
        }
        let labels = [direction.label(), provider, key, &self.server];
        self.used.with_label_values(&labels).inc();
        self.used_at.with_label_values(&labels).set(now());
    }

    /// A key service named the key with this hash.
    pub(crate) fn named(&self, provider: &str, key: &str) {
        if let Some([_, provider, key]) = self.known_named.touch(["", provider, key]) {
            drop(self.named_at.remove_label_values(&[provider.as_str(), &key, &self.server]));
        }
        self.named_at.with_label_values(&[provider, key, &self.server]).set(now());
    }

    /// A key service named a key that cannot be used.
    pub(crate) fn misnamed(&self, provider: &str, empty: bool) {
        self.misnamed.with_label_values(&[provider, if empty { "empty" } else { "too_long" }]).inc();
    }

    /// So many data keys of a key service are in memory.
    pub(crate) fn held(&self, provider: &str, seeds: usize) {
        self.seeds.with_label_values(&[provider]).set(i64::try_from(seeds).unwrap_or(i64::MAX));
    }

    /// A changed file was taken up, or not.
    pub(crate) fn reloaded(&self, well: bool) {
        let labels = [if well { "success" } else { "failure" }, &self.server];
        self.reloads.with_label_values(&labels).inc();
        self.reloaded_at.with_label_values(&labels).set(now());
    }

    /// The file with this SHA-256 is in force.
    pub(crate) fn in_force(&self, hash: &[u8; 32]) {
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        self.configuration.reset();
        self.configuration.with_label_values(&[self.server.as_str(), &format!("sha256:{hex}")]).set(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_keys_are_forgotten() {
        let metrics = Metrics::new("host");
        let registry = Registry::new();
        metrics.register(&registry);
        for key in 0..KEYS + 5 {
            metrics.used(Direction::ToStorage, "vault", &key.to_string());
            metrics.used(Direction::ToStorage, "vault", "steady");
            metrics.named("vault", &key.to_string());
        }
        let series = |name: &str| {
            let families = registry.gather();
            families.iter().find(|family| family.name() == name).map_or(0, |family| family.get_metric().len())
        };
        assert_eq!(series("apiserver_envelope_encryption_key_id_hash_total"), KEYS);
        assert_eq!(series("apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds"), KEYS);
        assert_eq!(series("apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds"), KEYS);
        let steady = ["to_storage", "vault", "steady", &metrics.server];
        assert_eq!(metrics.used.with_label_values(&steady).get(), 105, "what is in use stays");
    }

    #[test]
    fn servers_are_named_as_upstream_names_them() {
        // base32(sha256(0x0004 "host" 0x000e "kube-apiserver")[..16]), computed with coreutils.
        assert_eq!(identity("host"), "apiserver-dd6egxogzxmivwqge6rcnj6rwi");
    }
}
