//! What was measured, and its form on the disk. Never measures.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::client::{Encoding, Http};
use crate::usage::Used;

/// All that one server did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// What the server is called.
    pub(crate) server: String,
    /// Its `gitVersion`.
    pub(crate) version: String,
    /// The protocol of the connections.
    pub(crate) http: Http,
    /// The form of objects that were read.
    pub(crate) encoding: Encoding,
    /// Processors of the machine, and its load over one minute when it began.
    pub(crate) processors: usize,
    /// The load over one minute when it began.
    pub(crate) load: String,
    /// Scenario, then its cases in order.
    pub(crate) scenarios: BTreeMap<String, Vec<Case>>,
    /// Scenarios that could not be run, with the reason.
    pub(crate) failed: BTreeMap<String, String>,
}

/// One load of a scenario.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    /// What distinguishes it from the others of the scenario: `16 connections`.
    pub(crate) name: String,
    /// What is counted: `requests`, `events`, `objects`.
    pub(crate) unit: String,
    /// How many of them a second.
    pub(crate) rate: f64,
    /// How many there were.
    pub(crate) count: u64,
    /// Requests that failed, and the first reason.
    pub(crate) failures: u64,
    /// The first failure's sentence.
    pub(crate) failure: Option<String>,
    /// Bytes of bodies that came, per second.
    pub(crate) bytes_per_second: f64,
    /// How long one took.
    pub(crate) latency: Latency,
    /// What the server's processes used meanwhile.
    pub(crate) used: Option<Used>,
}

/// Quantiles of a histogram, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// The median.
    pub(crate) p50: f64,
    /// Nine of ten are faster.
    pub(crate) p90: f64,
    /// 99 of 100 are faster.
    pub(crate) p99: f64,
    /// 999 of 1,000 are faster.
    pub(crate) p999: f64,
    /// The slowest.
    pub(crate) max: f64,
}

/// Counts while a load runs; those of several workers are added up.
pub(crate) struct Tally {
    histogram: Histogram<u64>,
    bytes: u64,
    failures: u64,
    failure: Option<String>,
}

impl Default for Tally {
    fn default() -> Self {
        // Two digits, up to ten minutes in microseconds: the bounds are constants that the library takes.
        let histogram = Histogram::new_with_bounds(1, 600_000_000, 2).expect("the bounds are in order");
        Self { histogram, bytes: 0, failures: 0, failure: None }
    }
}

impl Tally {
    /// One that succeeded, after `took`, with `bytes` of a body.
    pub(crate) fn done(&mut self, took: Duration, bytes: u64) {
        self.histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
        self.bytes += bytes;
    }

    /// Bytes that came beside those of single ones.
    pub(crate) fn bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// One that did not.
    pub(crate) fn failed(&mut self, error: &anyhow::Error) {
        self.failures += 1;
        self.failure.get_or_insert_with(|| format!("{error:#}"));
    }

    /// All of `other` as well.
    pub(crate) fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.histogram.add(&other.histogram);
        self.bytes += other.bytes;
        self.failures += other.failures;
        self.failure = self.failure.take().or_else(|| other.failure.clone());
    }

    /// How many succeeded.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The case, after `time`.
    pub(crate) fn into_case(self, name: impl Into<String>, unit: &str, time: Duration, used: Option<Used>) -> Case {
        let at = |quantile: f64| self.histogram.value_at_quantile(quantile) as f64 / 1000.0;
        let seconds = time.as_secs_f64().max(f64::EPSILON);
        Case {
            name: name.into(),
            unit: unit.to_owned(),
            rate: self.histogram.len() as f64 / seconds,
            count: self.histogram.len(),
            failures: self.failures,
            bytes_per_second: self.bytes as f64 / seconds,
            latency: Latency {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: self.histogram.max() as f64 / 1000.0,
            },
            failure: self.failure,
            used,
        }
    }
}

impl Run {
    pub(crate) fn new(server: String, version: String, http: Http, encoding: Encoding) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            server,
            version,
            http,
            encoding,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            scenarios: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Keeps what a scenario measured, or why it could not.
    pub(crate) fn add(&mut self, scenario: &str, measured: Result<Vec<Case>>) {
        match measured {
            Ok(cases) => {
                self.scenarios.insert(scenario.to_owned(), cases);
            }
            Err(error) => {
                eprintln!("{}: {scenario} could not be run: {error:#}", self.server);
                self.failed.insert(scenario.to_owned(), format!("{error:#}"));
            }
        }
    }

    /// Reads what [`Run::write`] wrote.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let read = || format!("{} holds no run of this program", file.display());
        let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(read)
    }

    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        std::fs::write(file, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }
}
