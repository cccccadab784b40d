//! Autoscalers between autoscaling/v1, which knows CPU alone, and autoscaling/v2: what v1 has no fields for travels in
//! annotations, as JSON of types that v1 never served.
//!
//! Never loses what v2 says, but for a second target of CPU utilisation. An annotation that cannot be read is passed over.

use super::autoscaler::{self, BEHAVIOR, CONDITIONS, CURRENT_METRICS, METRICS};
use crate::codec::{Strictness, json as codec};
use crate::json::{Map, Value, json};
use crate::quantity::Quantity;
use crate::schema::{SchemaRef, native};
use crate::{meta, value};

const SPEC: &str = "io.k8s.api.autoscaling.v1.MetricSpec";
const STATUS: &str = "io.k8s.api.autoscaling.v1.MetricStatus";
const CONDITION: &str = "io.k8s.api.autoscaling.v1.HorizontalPodAutoscalerCondition";
const BEHAVIOR_TYPE: &str = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior";

/// Names in the annotation for behaviour are those of Go, which takes any case.
const BEHAVIOR_FIELDS: &[&str] = &[
    "scaleUp",
    "scaleDown",
    "stabilizationWindowSeconds",
    "selectPolicy",
    "policies",
    "tolerance",
    "type",
    "value",
    "periodSeconds",
];

/// From autoscaling/v1 to autoscaling/v2, in place.
pub fn to_v2(object: &mut Value) {
    let annotation = |key| meta::annotation(object, key).map(str::to_owned);
    let (metrics, behavior) = (annotation(METRICS), annotation(BEHAVIOR));
    let (current, conditions) = (annotation(CURRENT_METRICS), annotation(CONDITIONS));
    autoscaler::drop_annotations(object);

    let mut wanted =
        metrics.and_then(|text| list(&text, SPEC)).map_or_else(Vec::new, |list| list.iter().map(spec_to_v2).collect());
    if let Some(percent) =
        value::remove(object, "spec.targetCPUUtilizationPercentage").filter(|percent| !percent.is_null())
    {
        wanted.push(autoscaler::cpu(percent));
    }
    value::set(object, "spec.metrics", if wanted.is_empty() { autoscaler::default_metrics() } else { wanted.into() });
    if let Some(behavior) = behavior.and_then(|text| behavior_to_v2(&text)) {
        value::set(object, "spec.behavior", behavior);
    }

    let percent = value::remove(object, "status.currentCPUUtilizationPercentage").filter(|percent| !percent.is_null());
    let reported = match (current.and_then(|text| list(&text, STATUS)), percent) {
        (Some(list), _) => list.iter().map(status_to_v2).collect(),
        (None, Some(percent)) => {
            vec![json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}})]
        }
        (None, None) => Vec::new(),
    };
    if !reported.is_empty() {
        value::set(object, "status.currentMetrics", reported);
    }
    if let Some(list) = conditions.and_then(|text| list(&text, CONDITION)).filter(|list| !list.is_empty()) {
        value::set(object, "status.conditions", list);
    }
    version(object, "autoscaling/v2");
}

/// From autoscaling/v2 to autoscaling/v1, in place.
pub fn from_v2(object: &mut Value) {
    autoscaler::drop_annotations(object);
    let mut annotations: Vec<(&str, String)> = Vec::new();
    let take = |object: &mut Value, path: &str| match value::remove(object, path) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let percent = |metric: &Value, path: &str| {
        value::get(metric, path).filter(|percent| autoscaler::is_cpu(metric) && !percent.is_null()).cloned()
    };

    const AIM: &str = "resource.target.averageUtilization";
    let metrics = take(object, "spec.metrics");
    if let Some(percent) = metrics.iter().find_map(|metric| percent(metric, AIM)) {
        value::set(object, "spec.targetCPUUtilizationPercentage", percent);
    }
    let others: Vec<Value> = metrics.iter().filter(|metric| percent(metric, AIM).is_none()).map(spec_to_v1).collect();
    annotations.push((METRICS, text(&others, SPEC)));

    let current = take(object, "status.currentMetrics");
    let reported = |metric: &Value| percent(metric, "resource.current.averageUtilization");
    if let Some(percent) = current.iter().filter_map(reported).next_back() {
        value::set(object, "status.currentCPUUtilizationPercentage", percent);
    }
    annotations.push((CURRENT_METRICS, text(&current.iter().map(status_to_v1).collect::<Vec<_>>(), STATUS)));
    let behavior = value::remove(object, "spec.behavior").filter(|behavior| !behavior.is_null());
    annotations.push((BEHAVIOR, behavior.map(|behavior| behavior_to_v1(&behavior)).unwrap_or_default()));
    annotations.push((CONDITIONS, text(&take(object, "status.conditions"), CONDITION)));

    for (key, text) in annotations.into_iter().filter(|(_, text)| !text.is_empty()) {
        value::map_mut(object, "metadata.annotations").insert(key.to_owned(), text.into());
    }
    version(object, "autoscaling/v1");
}

fn version(object: &mut Value, version: &str) {
    if object.get("apiVersion").is_some() {
        value::set(object, "apiVersion", version);
    }
}

/// The schema of a type.
fn schema(name: &str) -> Option<SchemaRef<'static>> {
    native().schema(name)
}

/// Reads a list of a type; `None` when it is none.
fn list(text: &str, of: &str) -> Option<Vec<Value>> {
    let schema = schema(of)?;
    match codec::parse(text.as_bytes()).ok()? {
        Value::Null => Some(Vec::new()),
        Value::Array(list) => list
            .iter()
            .map(|element| {
                let bytes = codec::encode_any(element);
                codec::decode(&bytes, schema, Strictness::Ignore).ok().map(|decoded| decoded.value)
            })
            .collect(),
        _ => None,
    }
}

/// A list of a type as Go writes it; empty for an empty list.
fn text(list: &[Value], of: &str) -> String {
    let Some(schema) = schema(of).filter(|_| !list.is_empty()) else { return String::new() };
    let elements: Vec<String> =
        list.iter().map(|element| String::from_utf8_lossy(&codec::encode(element, schema)).into_owned()).collect();
    format!("[{}]", elements.join(","))
}

/// The fields that are there.
fn object(fields: &[(&str, Option<&Value>)]) -> Value {
    let present = fields.iter().filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?.clone())));
    present.filter(|(_, value)| !value.is_null()).collect::<Map>().into()
}

/// Each source of a metric that is there, turned by `turn`; the type stays.
fn sources(metric: &Value, turn: fn(&str, &Value) -> Value) -> Value {
    let mut out = object(&[("type", metric.get("type"))]);
    for name in ["object", "pods", "resource", "containerResource", "external"] {
        if let Some(source) = metric.get(name).filter(|source| !source.is_null()) {
            value::set(&mut out, name, turn(name, source));
        }
    }
    out
}

fn spec_to_v1(metric: &Value) -> Value {
    sources(metric, |name, source| {
        let get = |path| value::get(source, path);
        let (amount, average) = (get("target.value"), get("target.averageValue"));
        let (metric, selector) = (get("metric.name"), get("metric.selector"));
        match name {
            "object" => object(&[
                ("target", get("describedObject")),
                ("metricName", metric),
                ("targetValue", amount),
                ("selector", selector),
                ("averageValue", average),
            ]),
            "pods" => object(&[("metricName", metric), ("targetAverageValue", average), ("selector", selector)]),
            "external" => object(&[
                ("metricName", metric),
                ("metricSelector", selector),
                ("targetValue", amount),
                ("targetAverageValue", average),
            ]),
            _ => object(&[
                ("name", get("name")),
                ("targetAverageUtilization", get("target.averageUtilization")),
                ("targetAverageValue", average),
                ("container", get("container")),
            ]),
        }
    })
}

fn spec_to_v2(metric: &Value) -> Value {
    sources(metric, |name, source| {
        let zero = json!("0");
        let get = |name| source.get(name).filter(|value| !value.is_null());
        let metric = |selector| object(&[("name", get("metricName")), ("selector", get(selector))]);
        let target = |kind: &str, amount, average, utilization| {
            object(&[
                ("type", Some(&json!(kind))),
                ("value", amount),
                ("averageValue", average),
                ("averageUtilization", utilization),
            ])
        };
        let or = |has: Option<&Value>, yes, no| if has.is_some() { yes } else { no };
        match name {
            "object" => {
                let average = get("averageValue");
                // The old type always says a value; a zero beside an average says nothing.
                let amount = Some(get("targetValue").unwrap_or(&zero)).filter(|v| average.is_none() || !is_zero(v));
                let target = target(or(average, "AverageValue", "Value"), amount, average, None);
                json!({"describedObject": get("target").cloned().unwrap_or(json!({})), "metric": metric("selector"), "target": target})
            }
            "pods" => {
                let average = Some(get("targetAverageValue").unwrap_or(&zero));
                json!({"metric": metric("selector"), "target": target("AverageValue", None, average, None)})
            }
            "external" => {
                let (amount, average) = (get("targetValue"), get("targetAverageValue"));
                let target = target(or(amount, "Value", "AverageValue"), amount, average, None);
                json!({"metric": metric("metricSelector"), "target": target})
            }
            _ => {
                let utilization = get("targetAverageUtilization");
                let kind = or(utilization, "Utilization", "AverageValue");
                let target = target(kind, None, get("targetAverageValue"), utilization);
                object(&[("name", get("name")), ("container", get("container")), ("target", Some(&target))])
            }
        }
    })
}

fn is_zero(amount: &Value) -> bool {
    amount.as_str().is_some_and(|text| Quantity::parse(text).is_ok_and(Quantity::is_zero))
}

fn status_to_v1(metric: &Value) -> Value {
    sources(metric, |name, source| {
        let get = |path| value::get(source, path);
        let (amount, average) = (get("current.value"), get("current.averageValue"));
        let (metric, selector) = (get("metric.name"), get("metric.selector"));
        match name {
            "object" => object(&[
                ("target", get("describedObject")),
                ("metricName", metric),
                ("currentValue", amount),
                ("selector", selector),
                ("averageValue", average),
            ]),
            "pods" => object(&[("metricName", metric), ("currentAverageValue", average), ("selector", selector)]),
            "external" => object(&[
                ("metricName", metric),
                ("metricSelector", selector),
                ("currentValue", amount),
                ("currentAverageValue", average),
            ]),
            _ => object(&[
                ("name", get("name")),
                ("currentAverageUtilization", get("current.averageUtilization")),
                ("currentAverageValue", average),
                ("container", get("container")),
            ]),
        }
    })
}

fn status_to_v2(metric: &Value) -> Value {
    sources(metric, |name, source| {
        let zero = json!("0");
        let get = |name| source.get(name).filter(|value| !value.is_null());
        let always = |name| Some(get(name).unwrap_or(&zero));
        let metric = |selector| object(&[("name", get("metricName")), ("selector", get(selector))]);
        let current = |amount, average, utilization| {
            object(&[("value", amount), ("averageValue", average), ("averageUtilization", utilization)])
        };
        match name {
            "object" => {
                json!({"describedObject": get("target").cloned().unwrap_or(json!({})), "metric": metric("selector"),
                "current": current(always("currentValue"), get("averageValue"), None)})
            }
            "pods" => {
                json!({"metric": metric("selector"), "current": current(None, always("currentAverageValue"), None)})
            }
            "external" => json!({"metric": metric("metricSelector"),
                "current": current(always("currentValue"), get("currentAverageValue"), None)}),
            _ => {
                let current = current(None, always("currentAverageValue"), get("currentAverageUtilization"));
                object(&[("name", get("name")), ("container", get("container")), ("current", Some(&current))])
            }
        }
    })
}

fn behavior_to_v1(behavior: &Value) -> String {
    let leaf = |value: &Value, name: &str| {
        String::from_utf8_lossy(&codec::encode_any(value.get(name).unwrap_or(&Value::Null))).into_owned()
    };
    let rules = |name: &str| {
        let Some(rules) = behavior.get(name).filter(|rules| !rules.is_null()) else { return "null".to_owned() };
        let policy = |policy: &Value| {
            let (kind, value, period) = (leaf(policy, "type"), leaf(policy, "value"), leaf(policy, "periodSeconds"));
            format!("{{\"Type\":{kind},\"Value\":{value},\"PeriodSeconds\":{period}}}")
        };
        let policies = rules.get("policies").and_then(Value::as_array).map_or_else(
            || "null".to_owned(),
            |list| format!("[{}]", list.iter().map(policy).collect::<Vec<_>>().join(",")),
        );
        let (window, select) = (leaf(rules, "stabilizationWindowSeconds"), leaf(rules, "selectPolicy"));
        let tolerance = leaf(rules, "tolerance");
        format!(
            "{{\"StabilizationWindowSeconds\":{window},\"SelectPolicy\":{select},\"Policies\":{policies},\"Tolerance\":{tolerance}}}"
        )
    };
    format!("{{\"ScaleUp\":{},\"ScaleDown\":{}}}", rules("scaleUp"), rules("scaleDown"))
}

/// `None` when it cannot be read or says nothing.
fn behavior_to_v2(text: &str) -> Option<Value> {
    let renamed = rename(codec::parse(text.as_bytes()).ok()?);
    let decoded = codec::decode(&codec::encode_any(&renamed), schema(BEHAVIOR_TYPE)?, Strictness::Ignore).ok()?;
    Some(decoded.value).filter(|behavior| behavior.as_object().is_some_and(|map| !map.is_empty()))
}

fn rename(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let known = |key: &str| BEHAVIOR_FIELDS.iter().find(|name| name.eq_ignore_ascii_case(key));
            let named = map.into_iter().filter_map(|(key, value)| Some(((*known(&key)?).to_owned(), rename(value))));
            named.collect::<Map>().into()
        }
        Value::Array(list) => list.into_iter().map(rename).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_alone_means_cpu() {
        for (percent, expected) in [(json!(50), 50), (json!(null), 80)] {
            let mut object =
                json!({"apiVersion": "autoscaling/v1", "spec": {"targetCPUUtilizationPercentage": percent}});
            to_v2(&mut object);
            assert_eq!(
                object,
                json!({"apiVersion": "autoscaling/v2", "spec": {"metrics": [autoscaler::cpu(json!(expected))]}})
            );
            from_v2(&mut object);
            assert_eq!(
                object,
                json!({"apiVersion": "autoscaling/v1", "spec": {"targetCPUUtilizationPercentage": expected}})
            );
        }
    }

    /// All sources, as v2 says them so that v1 can carry them.
    fn rich() -> Value {
        let metric = json!({"name": "m", "selector": {"matchLabels": {"a": "b"}}});
        json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "h", "annotations": {"mine": "x"}}, "spec": {
            "metrics": [
                {"type": "Object", "object": {"describedObject": {"kind": "K", "name": "n", "apiVersion": "a/b"}, "metric": metric,
                    "target": {"type": "Value", "value": "3"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "K", "name": "n"}, "metric": {"name": "m"},
                    "target": {"type": "AverageValue", "averageValue": "3"}}},
                {"type": "Pods", "pods": {"metric": metric, "target": {"type": "AverageValue", "averageValue": "1500m"}}},
                {"type": "External", "external": {"metric": metric, "target": {"type": "AverageValue", "averageValue": "2"}}},
                {"type": "External", "external": {"metric": {"name": "<&>"}, "target": {"type": "Value", "value": "2"}}},
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                    "target": {"type": "Utilization", "averageUtilization": 5}}},
                autoscaler::cpu(json!(70)),
            ],
            "behavior": {"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "tolerance": "100m",
                "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}}},
            "status": {"currentReplicas": 1, "desiredReplicas": 2,
            "currentMetrics": [
                {"type": "Object", "object": {"describedObject": {"kind": "K", "name": "n"}, "metric": metric,
                    "current": {"value": "3", "averageValue": "1"}}},
                {"type": "Pods", "pods": {"metric": metric, "current": {"averageValue": "1"}}},
                {"type": "External", "external": {"metric": metric, "current": {"value": "9"}}},
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageValue": "10m", "averageUtilization": 7}}},
                {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                    "current": {"averageValue": "10m"}}},
            ],
            "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
                "reason": "R", "message": "m"}]}})
    }

    #[test]
    fn annotations_carry_the_rest() {
        let mut object = rich();
        from_v2(&mut object);
        assert_eq!(object["apiVersion"], "autoscaling/v1");
        assert_eq!(object["spec"], json!({"targetCPUUtilizationPercentage": 70}));
        assert_eq!(
            object["status"],
            json!({"currentReplicas": 1, "desiredReplicas": 2, "currentCPUUtilizationPercentage": 7})
        );
        let annotations = object["metadata"]["annotations"].clone();
        assert_eq!(annotations.as_object().map(Map::len), Some(5));
        let metrics = annotations[METRICS].as_str().unwrap();
        assert!(
            metrics.starts_with(
                "[{\"type\":\"Object\",\"object\":{\"target\":{\"kind\":\"K\",\"name\":\"n\",\"apiVersion\":\"a/b\"},\
                 \"metricName\":\"m\",\"targetValue\":\"3\",\"selector\":{\"matchLabels\":{\"a\":\"b\"}}}},"
            ),
            "{metrics}"
        );
        assert!(metrics.contains("\"metricName\":\"\\u003c\\u0026\\u003e\""), "{metrics}");
        assert_eq!(
            annotations[BEHAVIOR],
            "{\"ScaleUp\":{\"StabilizationWindowSeconds\":0,\"SelectPolicy\":\"Max\",\"Policies\":[{\"Type\":\"Pods\",\"Value\":4,\
             \"PeriodSeconds\":15}],\"Tolerance\":\"100m\"},\"ScaleDown\":null}"
        );
        assert_eq!(
            annotations[CONDITIONS],
            "[{\"type\":\"AbleToScale\",\"status\":\"True\",\"lastTransitionTime\":\"2026-01-01T00:00:00Z\",\"reason\":\"R\",\
             \"message\":\"m\"}]"
        );
        to_v2(&mut object);
        assert_eq!(object, rich());
    }

    #[test]
    fn what_cannot_be_read_is_passed_over_and_goes() {
        for text in ["x", "{}", "[1]", "[{\"type\":1}]"] {
            let mut object = json!({"metadata": {"annotations": {METRICS: text, CURRENT_METRICS: text, CONDITIONS: text,
                BEHAVIOR: "[]"}}, "spec": {}});
            to_v2(&mut object);
            assert_eq!(object, json!({"metadata": {}, "spec": {"metrics": autoscaler::default_metrics()}}), "{text}");
        }
    }
}
