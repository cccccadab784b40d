//! `/metrics`: counters and histograms by upstream's names.
//!
//! Never decides anything. Source: upstream's list of stable metrics.

pub mod admission;
pub(crate) mod stored;

use crate::answer::{Answer, Failure};
use crate::road::received::{RequestInfo, Trace};
use crate::serving;
use api::features::{self, Gates};
use api::kind::Kind;
use api::served::Served;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// The server's metrics.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    deprecated: IntGaugeVec,
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
        let labels = ["verb", "group", "version", "resource", "subresource", "scope", "code"];
        let requests =
            IntCounterVec::new(Opts::new("apiserver_request_total", "Requests by verb, resource and code."), &labels)
                .expect("a constant name is valid");
        let buckets = vec![
            0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
            20.0, 30.0, 45.0, 60.0,
        ];
        let durations = HistogramVec::new(
            HistogramOpts::new("apiserver_request_duration_seconds", "Time to answer, in seconds.").buckets(buckets),
            &["verb", "group", "version", "resource", "subresource", "scope"],
        )
        .expect("a constant name is valid");
        let deprecated = IntGaugeVec::new(
            Opts::new("apiserver_requested_deprecated_apis", "1 for each deprecated resource that was asked for."),
            &["group", "version", "resource", "subresource", "removed_release"],
        )
        .expect("a constant name is valid");
        let features = IntGaugeVec::new(
            Opts::new("kubernetes_feature_enabled", "1 for a feature gate that is on, 0 for one that is off."),
            &["name", "stage"],
        )
        .expect("a constant name is valid");
        for feature in features::known() {
            let labels = [feature.name, feature.stage.label()];
            features.with_label_values(&labels).set(i64::from(gates.enabled(feature.name)));
        }
        registry.register(Box::new(requests.clone())).expect("names are distinct");
        registry.register(Box::new(durations.clone())).expect("names are distinct");
        registry.register(Box::new(deprecated.clone())).expect("names are distinct");
        registry.register(Box::new(features)).expect("names are distinct");
        Metrics { registry, requests, durations, deprecated }
    }

    /// Notes that a deprecated resource was asked for; `removed` is the release in which it goes.
    pub fn deprecated(&self, kind: &Kind, subresource: &str, removed: Option<&str>) {
        let labels = [kind.group, kind.version, kind.plural, subresource, removed.unwrap_or_default()];
        self.deprecated.with_label_values(&labels).set(1);
    }

    /// Counts a finished request. Only resources and parts that are served are named, so that clients cannot make label values.
    pub fn observe(&self, served: &Served, trace: &Trace, outcome: &Result<Answer, Failure>) {
        let info = &trace.info;
        let code = crate::answer::code(outcome);
        let kind = served.by_resource(&info.group, &info.version, &info.resource).filter(|_| info.is_resource);
        let known =
            kind.is_some_and(|kind| info.subresource.is_empty() || kind.subresource(&info.subresource).is_some());
        let collection = info.name.is_empty() || info.verb == "list";
        let scope = match (collection && info.verb != "create", info.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        let mut digits = itoa::Buffer::new();
        let (group, version, resource, part) = (&*info.group, &*info.version, &*info.resource, &*info.subresource);
        let told = [group, version, resource, part, scope].map(|text| if known { text } else { "" });
        let [group, version, resource, part, scope] = told;
        let labels = [trace.counted, group, version, resource, part, scope, digits.format(code)];
        self.requests.with_label_values(&labels).inc();
        if let Some((_, labels)) = labels.split_last().filter(|_| info.verb != "watch") {
            self.durations.with_label_values(labels).observe(trace.start.elapsed().as_secs_f64());
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
    use crate::road::received::Query;
    use std::sync::Arc;
    use std::time::Instant;

    #[test]
    fn clients_make_no_labels() {
        let (metrics, served) = (Metrics::new(&Gates::default()), Served::default());
        let ask = |method: &str, target: &str| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let info = Arc::new(RequestInfo::parse(method, path, &Query::parse(query)));
            let counted = verb(method, &info, false);
            let (id, start, refused) = (String::new(), Instant::now(), Medium::JSON);
            let trace = Trace { id, info, start, gzip: false, refused, counted };
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
            told.push(["verb", "resource", "subresource", "scope"].map(of).join(","));
        }
        let mut want: Vec<&str> = asked.iter().map(|(.., want)| *want).collect();
        want.extend(["other,,,", "other,pods,,namespace", "PATCH,,,"]);
        told.sort();
        want.sort_unstable();
        assert_eq!(told, want);
        let applied = RequestInfo::parse("PATCH", "/api/v1/namespaces/a/pods/p", &Query::parse(""));
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
