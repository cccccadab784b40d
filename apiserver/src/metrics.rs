//! `/metrics`: counters and histograms by upstream's names.
//!
//! Never decides anything. Source: upstream's list of stable metrics.

pub mod admission;
mod expressions;
pub(crate) mod lasting;
#[cfg(test)]
mod oracle;
pub(crate) mod policies;
pub(crate) mod reloads;
pub(crate) mod stored;

use crate::answer::{Answer, Body, Failure};
use crate::encryption;
use crate::road::received::{Query, RequestInfo, Trace};
use crate::serving;
use api::features::{self, Gates};
use api::json::Value;
use api::kind::Kind;
use api::served::Served;
use lasting::Lasting;
use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use reloads::Reloads;

/// The server's metrics.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    sizes: HistogramVec,
    deprecated: IntGaugeVec,
    checks: IntCounterVec,
    healthy: IntGaugeVec,
    pub(crate) lasting: Lasting,
    /// Of the file of `--authentication-config`.
    pub(crate) authentication: Reloads,
    /// Of that of `--authorization-config`.
    pub(crate) authorization: Reloads,
}

/// What stands for this server in labels of requests for resources.
const COMPONENT: &str = "apiserver";
/// The components whose requests are told apart, by the first word of their user agents.
const SYSTEM: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// `dry_run` of a request's query: a client makes no values of its own.
#[must_use]
pub fn dry_run(query: &Query) -> &'static str {
    match query.get("dryRun") {
        None => "",
        Some(_) if query.all("dryRun").all(|given| given == "All") => "All",
        Some(_) => "invalid",
    }
}

/// `system_client` of a user agent.
#[must_use]
pub fn system_client(agent: &str) -> &'static str {
    let first = agent.split_once('/').map(|(first, _)| first);
    SYSTEM.into_iter().find(|known| first == Some(known)).unwrap_or_default()
}

/// The labels by which all metrics of requests tell what was asked for: group, version, resource, subresource, scope and component. Only resources
/// and parts that are served are named, so that clients cannot make label values.
fn place<'a>(served: &Served, info: &'a RequestInfo) -> [&'a str; 6] {
    let kind = served.by_resource(&info.group, &info.version, &info.resource).filter(|_| info.is_resource);
    let known = kind.is_some_and(|kind| info.subresource.is_empty() || kind.subresource(&info.subresource).is_some());
    if !known {
        return [""; 6];
    }
    let collection = info.name.is_empty() || info.verb == "list";
    let scope = match (collection && info.verb != "create", info.namespace.is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    };
    [&info.group, &info.version, &info.resource, &info.subresource, scope, COMPONENT]
}

/// The verb as which a request is counted: one of few, whatever method the client makes up. `applies` of a patch that is an apply.
#[must_use]
pub fn verb(method: &str, info: &RequestInfo, applies: bool) -> &'static str {
    match method {
        _ if serving::is_connect(info) => "CONNECT",
        _ if info.verb == "watch" => "WATCH",
        "GET" | "HEAD" if info.verb == "list" => "LIST",
        "GET" | "HEAD" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" if applies => "APPLY",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

impl Metrics {
    /// Registers everything; which gates are on is told once.
    ///
    /// # Panics
    /// When two metrics share a name: a mistake in this file.
    #[must_use]
    pub fn new(gates: &Gates) -> Metrics {
        let registry = Registry::new();
        expressions::show(&registry);
        let counter = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let histogram = |name: &str, help: &str, buckets: &[f64], labels: &[&str]| {
            registered(&registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
        };
        let place = ["group", "version", "resource", "subresource", "scope", "component"];
        let with = |others: &[&'static str]| [others, &place].concat();
        let features = gauge(
            "kubernetes_feature_enabled",
            "1 for a feature gate that is on, 0 for one that is off.",
            &["name", "stage"],
        );
        for feature in features::known() {
            let labels = [feature.name, feature.stage.label()];
            features.with_label_values(&labels).set(i64::from(gates.enabled(feature.name)));
        }
        Metrics {
            requests: counter(
                "apiserver_request_total",
                "Requests by verb, resource and code.",
                &with(&["code", "system_client", "verb", "dry_run"]),
            ),
            durations: histogram(
                "apiserver_request_duration_seconds",
                "Time to answer, in seconds.",
                &[
                    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0,
                    15.0, 20.0, 30.0, 45.0, 60.0,
                ],
                &with(&["verb", "dry_run"]),
            ),
            sizes: histogram(
                "apiserver_response_sizes",
                "Bytes of answers to reads, where they are known before they are sent.",
                &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9],
                &with(&["verb"]),
            ),
            deprecated: gauge(
                "apiserver_requested_deprecated_apis",
                "1 for each deprecated resource that was asked for.",
                &["group", "version", "resource", "subresource", "removed_release"],
            ),
            checks: counter(
                "kubernetes_healthchecks_total",
                "How often each check of health was asked, by its outcome.",
                &["name", "type", "status"],
            ),
            healthy: gauge(
                "kubernetes_healthcheck",
                "1 for a check of health that held when it was asked last, 0 for one that did not.",
                &["name", "type"],
            ),
            lasting: Lasting::new(&registry),
            authentication: Reloads::new("authentication", encryption::server_hash(), &registry),
            authorization: Reloads::new("authorization", encryption::server_hash(), &registry),
            registry,
        }
    }

    /// Tells what the server was built from, as `/version` does.
    pub fn built(&self, version: &Value) {
        let fields = [
            ("major", "major"),
            ("minor", "minor"),
            ("git_version", "gitVersion"),
            ("git_commit", "gitCommit"),
            ("git_tree_state", "gitTreeState"),
            ("build_date", "buildDate"),
            ("go_version", "goVersion"),
            ("compiler", "compiler"),
            ("platform", "platform"),
        ];
        let options = Opts::new("kubernetes_build_info", "Always 1; its labels tell what the server was built from.");
        let info = registered(&self.registry, IntGaugeVec::new(options, &fields.map(|(label, _)| label)));
        let values = fields.map(|(_, field)| version.get(field).and_then(Value::as_str).unwrap_or_default());
        info.with_label_values(&values).set(1);
    }

    /// Notes how a check of health, `ping`, came out below `healthz`, `livez` or `readyz`.
    pub fn checked(&self, name: &str, root: &str, holds: bool) {
        self.checks.with_label_values(&[name, root, if holds { "success" } else { "error" }]).inc();
        self.healthy.with_label_values(&[name, root]).set(i64::from(holds));
    }

    /// Notes that a deprecated resource was asked for; `removed` is the release in which it goes.
    pub fn deprecated(&self, kind: &Kind, subresource: &str, removed: Option<&str>) {
        let labels = [kind.group, kind.version, kind.plural, subresource, removed.unwrap_or_default()];
        self.deprecated.with_label_values(&labels).set(1);
    }

    /// Counts a finished request.
    pub fn observe(&self, served: &Served, trace: &Trace, outcome: &Result<Answer, Failure>) {
        let mut digits = itoa::Buffer::new();
        let (code, [group, version, resource, part, scope, component]) =
            (digits.format(crate::answer::code(outcome)), place(served, &trace.info));
        let all = [code, trace.client, trace.counted, trace.dry_run, group, version, resource, part, scope, component];
        self.requests.with_label_values(&all).inc();
        let [_, _, timed @ ..] = all;
        if trace.info.verb != "watch" {
            self.durations.with_label_values(&timed).observe(trace.start.elapsed().as_secs_f64());
        }
        let length = match outcome {
            Ok(Answer { body: Body::Bytes(bytes), .. }) => bytes.len() as u64,
            Ok(Answer { body: Body::Pieces(_, length), .. }) => *length,
            _ => return,
        };
        if matches!(trace.counted, "GET" | "LIST") && !component.is_empty() {
            let sized = [trace.counted, group, version, resource, part, scope, component];
            self.sizes.with_label_values(&sized).observe(length as f64);
        }
    }

    /// Where other parts show what they count.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The exposition text.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.registry)
    }
}

/// A family of metrics, shown from now on.
fn registered<F: Collector + Clone + 'static>(registry: &Registry, family: Result<F, prometheus::Error>) -> F {
    let family = family.expect("a constant name is valid");
    registry.register(Box::new(family.clone())).expect("names are distinct");
    family
}

/// The exposition text of a registry.
#[must_use]
pub fn text(registry: &Registry) -> String {
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_else(|error| {
        tracing::error!(%error, "metrics could not be written");
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::road::negotiated::Medium;
    use std::sync::Arc;
    use std::time::Instant;

    #[test]
    fn clients_make_no_labels() {
        let (metrics, served) = (Metrics::new(&Gates::default()), Served::default());
        let ask = |method: &str, target: &str| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let query = Query::parse(query);
            let info = Arc::new(RequestInfo::parse(method, path, &query));
            let counted = verb(method, &info, false);
            let (id, start, refused) = (String::new(), Instant::now(), Medium::JSON);
            let (dry_run, client) = (dry_run(&query), system_client("kube-scheduler/v1.36"));
            let trace = Trace { id, info, start, gzip: false, refused, counted, dry_run, client };
            metrics.observe(&served, &trace, &Ok(Answer::bytes(403, "", "")));
        };
        let pods = "/api/v1/namespaces/a/pods";
        let asked = [
            ("GET", pods.to_owned(), "LIST,pods,,namespace"),
            ("GET", format!("{pods}?watch=1"), "WATCH,pods,,namespace"),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dp".to_owned(), "LIST,pods,,cluster"),
            ("HEAD", format!("{pods}/p"), "GET,pods,,resource"),
            ("POST", pods.to_owned(), "POST,pods,,resource"),
            ("PUT", format!("{pods}/p/status"), "PUT,pods,status,resource"),
            ("DELETE", pods.to_owned(), "DELETE,pods,,namespace"),
            ("GET", format!("{pods}/p/log"), "CONNECT,pods,log,resource"),
            ("GET", "/version".to_owned(), "GET,,,"),
            ("DELETE", format!("{pods}/p?dryRun=All&dryRun=All"), "DELETE,pods,,resource,All"),
            ("DELETE", format!("{pods}/p?dryRun=Some"), "DELETE,pods,,resource,invalid"),
        ];
        for (method, target, _) in &asked {
            ask(method, target);
        }
        for number in 0..200 {
            ask(&format!("M{number}"), "/version");
            ask(&format!("M{number}"), pods);
            ask("GET", &format!("{pods}/p/part{number}"));
            ask("PATCH", &format!("/apis/group{number}/v1/things"));
            ask("GET", &format!("/nothing{number}"));
        }
        let families = metrics.registry().gather();
        let family = families.iter().find(|family| family.name() == "apiserver_request_total").unwrap();
        let mut told: Vec<String> = Vec::new();
        for metric in family.get_metric() {
            let of = |name: &str| metric.get_label().iter().find(|label| label.name() == name).unwrap().value();
            told.push(["verb", "resource", "subresource", "scope", "dry_run"].map(of).join(","));
            assert_eq!(of("system_client"), "kube-scheduler");
            assert_eq!(of("component"), if of("resource").is_empty() { "" } else { "apiserver" });
        }
        let mut want: Vec<String> = asked.iter().map(|(.., want)| (*want).to_owned()).collect();
        want.extend(["other,,,", "other,pods,,namespace", "PATCH,,,"].map(str::to_owned));
        // Most are no dry runs.
        want.iter_mut().filter(|want| want.matches(',').count() == 3).for_each(|want| want.push(','));
        told.sort();
        want.sort_unstable();
        assert_eq!(told, want);
        let applied = RequestInfo::parse("PATCH", "/api/v1/namespaces/a/pods/p", &Query::parse(""));
        for (agent, known) in [
            ("kube-controller-manager/v1.36.0 (linux/amd64)", "kube-controller-manager"),
            ("kubectl/v1.36.0", ""),
            ("kube-scheduler", ""),
            ("", ""),
        ] {
            assert_eq!(system_client(agent), known, "{agent}");
        }
        assert_eq!([true, false].map(|applies| verb("PATCH", &applied, applies)), ["APPLY", "PATCH"]);
    }

    #[test]
    fn gates_and_deprecated_kinds_are_told() {
        let metrics = Metrics::new(&Gates::parse(&["ClusterTrustBundle=true"]).unwrap());
        let kind = |group, version, name| api::kinds::by_gvk(group, version, name).unwrap();
        metrics.deprecated(kind("networking.k8s.io", "v1beta1", "ServiceCIDR"), "status", Some("1.37"));
        metrics.deprecated(kind("", "v1", "Endpoints"), "", None);
        let text = metrics.text();
        for line in [
            "kubernetes_feature_enabled{name=\"ClusterTrustBundle\",stage=\"BETA\"} 1",
            "kubernetes_feature_enabled{name=\"GenericWorkload\",stage=\"ALPHA\"} 0",
            "kubernetes_feature_enabled{name=\"MultiCIDRServiceAllocator\",stage=\"\"} 1",
            "apiserver_requested_deprecated_apis{group=\"networking.k8s.io\",removed_release=\"1.37\",\
             resource=\"servicecidrs\",subresource=\"status\",version=\"v1beta1\"} 1",
            "apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"endpoints\",\
             subresource=\"\",version=\"v1\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }
}
