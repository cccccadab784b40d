//! What the proxy tells about itself, by upstream's names.
//!
//! Never decides anything. Source: upstream's `pkg/proxy/metrics`.

use crate::plan::{Family, ServicePort};
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When the endpoints of a slice changed, as its author says.
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// See the module. Clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: Registry,
    /// Of all, of those that made the table anew, of those that changed it.
    durations: [HistogramVec; 3],
    last: GaugeVec,
    failures: IntCounterVec,
    programming: HistogramVec,
    nowhere: IntGaugeVec,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let family = made.expect("a constant name is valid");
    registry.register(Box::new(family.clone())).expect("names are distinct");
    family
}

/// Seconds: every one of the first minute, then fewer.
fn programming_buckets() -> Vec<f64> {
    let first = [0.25, 0.5].into_iter().chain((1..60).map(f64::from));
    first.chain((60..120).step_by(5).map(f64::from)).chain((120..=300).step_by(30).map(f64::from)).collect()
}

impl Default for Metrics {
    fn default() -> Self {
        const FAMILY: &[&str] = &["ip_family"];
        let registry = Registry::new();
        let histograms = |name: &str, help: &str, buckets: Vec<f64>| {
            registered(&registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), FAMILY))
        };
        let doubling: Vec<f64> = (0..15).map(|power| 0.001 * 2_f64.powi(power)).collect();
        let durations = [
            (
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "How long it took to bring the rules up to date, in seconds.",
            ),
            (
                "kubeproxy_sync_full_proxy_rules_duration_seconds",
                "How long it took to make all rules anew, in seconds.",
            ),
            (
                "kubeproxy_sync_partial_proxy_rules_duration_seconds",
                "How long it took to change the rules, in seconds.",
            ),
        ]
        .map(|(name, help)| histograms(name, help, doubling.clone()));
        let families = Families {
            durations,
            last: registered(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                        "When the rules were last brought up to date, in seconds since 1970.",
                    ),
                    FAMILY,
                ),
            ),
            failures: registered(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
                        "Times that the kernel refused the rules.",
                    ),
                    FAMILY,
                ),
            ),
            programming: histograms(
                "kubeproxy_network_programming_duration_seconds",
                "From a change of endpoints to the rules about it, in seconds, where the slice says when it was.",
                programming_buckets(),
            ),
            nowhere: registered(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                        "Ports of Services whose traffic stays on this node, where nobody answers it.",
                    ),
                    &["ip_family", "traffic_policy"],
                ),
            ),
            registry,
        };
        Metrics(Arc::new(families))
    }
}

/// In the words of the API.
fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Metrics {
    /// The rules of a family were made anew (`whole`) or changed, or were not.
    pub(crate) fn synced(&self, family: Family, whole: bool, took: Duration, done: bool) {
        let (families, labels) = (&self.0, &[word(family)]);
        let [all, anew, changed] = &families.durations;
        for durations in [all, if whole { anew } else { changed }] {
            durations.with_label_values(labels).observe(took.as_secs_f64());
        }
        if done {
            families.last.with_label_values(labels).set(seconds_now());
        } else {
            families.failures.with_label_values(labels).inc();
        }
    }

    /// What is in place now.
    pub(crate) fn in_place(&self, ports: &[ServicePort], family: Family) {
        let own = || ports.iter().filter(|port| Family::of(&port.cluster_ip) == family);
        let lost = |port: &&ServicePort| port.anywhere && port.local.is_empty();
        let internal = own().filter(lost).filter(|port| port.internal_local).count();
        let external = own().filter(lost).filter(|port| port.external_local && port.is_external()).count();
        for (policy, count) in [("internal", internal), ("external", external)] {
            let gauge = self.0.nowhere.with_label_values(&[word(family), policy]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn programmed(&self, family: &str, seconds: f64) {
        self.0.programming.with_label_values(&[family]).observe(seconds);
    }

    /// Where others of the process show what they count.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }
}

/// Which changes of endpoints are in place already. What was before the proxy is not its doing.
pub(crate) struct Changes {
    since: Timestamp,
    known: HashMap<(String, String), Timestamp>,
}

impl Changes {
    pub(crate) fn new(since: Timestamp) -> Changes {
        Changes { since, known: HashMap::new() }
    }

    /// All that is in these slices is in place since `now`: tells how long each change of theirs took.
    pub(crate) fn done(&mut self, slices: &[Arc<EndpointSlice>], now: Timestamp, metrics: &Metrics) {
        let mut known = HashMap::with_capacity(self.known.len());
        for slice in slices {
            let said = slice.metadata.annotations.as_ref().and_then(|all| all.get(TRIGGER));
            let Some(at) = said.and_then(|text| text.parse::<Timestamp>().ok()) else { continue };
            let name = |text: &Option<String>| text.clone().unwrap_or_default();
            let key = (name(&slice.metadata.namespace), name(&slice.metadata.name));
            if at > self.since && self.known.get(&key) != Some(&at) {
                metrics.programmed(&slice.address_type, now.duration_since(at).as_secs_f64().max(0.0));
            }
            known.insert(key, at);
        }
        self.known = known;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    fn text(metrics: &Metrics) -> String {
        TextEncoder::new().encode_to_string(&metrics.registry().gather()).unwrap()
    }

    #[test]
    fn a_change_of_endpoints_is_told_once_it_is_in_place() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let slice = |name: &str, changed: &str| {
            let text = format!(
                "metadata: {{namespace: a, name: {name}, annotations: {{{TRIGGER}: \"{changed}\"}}}}\n\
                 addressType: IPv4\nendpoints: []"
            );
            Arc::new(serde_yaml_ng::from_str::<EndpointSlice>(&text).unwrap())
        };
        let (metrics, mut changes) = (Metrics::default(), Changes::new(at(100)));
        let told = |metrics: &Metrics| {
            let text = text(metrics);
            let of = |what: &str| {
                let start = format!("kubeproxy_network_programming_duration_seconds_{what}{{ip_family=\"IPv4\"}} ");
                text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or("0").to_owned()
            };
            (of("count"), of("sum"))
        };
        // One from before the start, one without a time that can be read, one that took two and a half seconds.
        let all =
            [slice("old", "1970-01-01T00:01:00Z"), slice("odd", "yesterday"), slice("b", "1970-01-01T00:02:00.5Z")];
        changes.done(&all, at(123), &metrics);
        assert_eq!(told(&metrics), ("1".to_owned(), "2.5".to_owned()));
        changes.done(&all, at(150), &metrics);
        assert_eq!(told(&metrics).0, "1");
        changes.done(&[slice("b", "1970-01-01T00:03:00Z")], at(181), &metrics);
        assert_eq!(told(&metrics), ("2".to_owned(), "3.5".to_owned()));
    }

    #[test]
    fn rules_that_were_refused_are_no_rules() {
        let metrics = Metrics::default();
        metrics.synced(Family::V4, true, Duration::from_millis(3), false);
        assert!(!text(&metrics).contains("last_timestamp_seconds{"));
        metrics.synced(Family::V4, true, Duration::from_millis(3), true);
        metrics.synced(Family::V4, false, Duration::from_millis(3), true);
        let text = text(&metrics);
        for line in [
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 3",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 2",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.004\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(text.contains("kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} "));
        let buckets = programming_buckets();
        assert_eq!((buckets.len(), buckets[2], buckets[60], buckets[61], buckets[79]), (80, 1.0, 59.0, 60.0, 300.0));
    }
}
