//! Compute resources of containers and pods: sums, comparisons, quality of service, rules.
//!
//! Never schedules.

use super::labels::map;
use super::resource_names;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Text, Value};
use crate::value;

/// Billionths, so that every unit is a whole number; `None` for what is no quantity.
#[must_use]
pub fn nanos(quantity: &Value) -> Option<i128> {
    let text = match quantity {
        Value::String(text) => text.as_str(),
        Value::Number(number) => return number.as_i64().map(|n| i128::from(n) * 1_000_000_000),
        _ => return None,
    };
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let scale: i128 = match unit {
        "" => 1_000_000_000,
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "k" => 1_000_000_000_000,
        "M" => 1_000_000_000_000_000,
        "G" => 1_000_000_000_000_000_000,
        "T" => 1_000_000_000_000_000_000_000,
        "P" => 1_000_000_000_000_000_000_000_000,
        "E" => 1_000_000_000_000_000_000_000_000_000,
        "Ki" => 1_000_000_000 << 10,
        "Mi" => 1_000_000_000 << 20,
        "Gi" => 1_000_000_000 << 30,
        "Ti" => 1_000_000_000 << 40,
        "Pi" => 1_000_000_000 << 50,
        "Ei" => 1_000_000_000 << 60,
        exponent => {
            let digits: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_i128.checked_pow(digits)?.checked_mul(1_000_000_000)?
        }
    };
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| match text.len() {
        0 => Some(0),
        // Numbers of 128 bits are slow, and few are that long.
        1..=18 => text.parse().ok().filter(|n: &i64| *n >= 0).map(i128::from),
        _ => text.parse().ok().filter(|n: &i128| *n >= 0),
    };
    let kept = fraction.get(..9.min(fraction.len()))?;
    let part = match kept {
        "" => 0,
        kept => digits(kept)?.checked_mul(scale)? / 10_i128.checked_pow(u32::try_from(kept.len()).ok()?)?,
    };
    Some(sign * digits(whole)?.checked_mul(scale)?.checked_add(part)?)
}

/// Resources that a pod as a whole may ask for.
#[must_use]
pub fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
#[must_use]
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let pod_level = spec.get("resources").filter(|resources| resources.is_object());
    let lists: Vec<&Value> = match pod_level {
        Some(resources) => vec![resources],
        None => ["containers", "initContainers"]
            .iter()
            .flat_map(|list| value::items(spec, list))
            .map(|container| container.get("resources").unwrap_or(&Value::Null))
            .collect(),
    };
    let mut any = false;
    let mut guaranteed = true;
    let mut sums = [[0_i128; 2]; 2];
    for resources in lists {
        let amount = |side: &str, name: &str| {
            let found = map(resources, side).and_then(|map| map.get(name)).and_then(nanos);
            found.filter(|amount| *amount > 0)
        };
        for (sums, name) in sums.iter_mut().zip(["cpu", "memory"]) {
            let (request, limit) = (amount("requests", name), amount("limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some();
            for (sum, amount) in sums.iter_mut().zip([request, limit]) {
                *sum += amount.unwrap_or_default();
            }
        }
    }
    let equal = sums.iter().all(|[request, limit]| request == limit);
    match (any, guaranteed && equal) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The amount of a resource: not negative, and whole where it counts things.
pub fn validate_amount(errors: &mut Errors, name: &str, quantity: &Value, field: &Path) {
    let Some(amount) = nanos(quantity) else { return };
    if amount < 0 {
        errors.push(FieldError::invalid(field, quantity.clone(), super::rules::NEGATIVE));
    }
    if resource_names::is_integer(name) && amount % 1_000_000_000 != 0 {
        errors.push(FieldError::invalid(field, quantity.clone(), "must be an integer"));
    }
}

/// The name of a resource that a container may have.
pub fn validate_container_name(errors: &mut Errors, name: &str, field: &Path) {
    resource_names::of_container(errors, name, field);
}

/// `resources` of a container.
#[must_use]
pub fn validate(resources: Option<&Value>, field: &Path) -> Errors {
    validate_named(resources, field, resource_names::of_container)
}

/// `resources` of what may have those that `named` knows.
#[must_use]
pub fn validate_named(resources: Option<&Value>, field: &Path, named: fn(&mut Errors, &str, &Path)) -> Errors {
    let mut errors = Errors::new();
    let Some(resources) = resources else { return errors };
    let empty = Map::new();
    let limits = map(resources, "limits").unwrap_or(&empty);
    let requests = map(resources, "requests").unwrap_or(&empty);
    for (side, amounts) in [("limits", limits), ("requests", requests)] {
        for (name, quantity) in amounts {
            let at = field.child(side).key(name);
            named(&mut errors, name, &at);
            validate_amount(&mut errors, name, quantity, &at);
            if side == "requests" {
                validate_request(&mut errors, name, quantity, limits.get(name), field);
            }
        }
    }
    let has = |test: fn(&Text) -> bool| limits.keys().chain(requests.keys()).any(test);
    if has(|name| name.starts_with("hugepages-")) && !has(|name| matches!(name.as_str(), "cpu" | "memory")) {
        errors.push(FieldError::forbidden(field, "HugePages require cpu or memory"));
    }
    errors
}

fn validate_request(errors: &mut Errors, name: &str, request: &Value, limit: Option<&Value>, field: &Path) {
    let at = field.child("requests");
    let Some(limit) = limit else {
        if !resource_names::overcommits(name) {
            let detail = "Limit must be set for non overcommitable resources";
            errors.push(FieldError::required(&field.child("limits"), detail));
        }
        return;
    };
    let shown = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
    let (asked, most) = (nanos(request), nanos(limit));
    if asked != most && !resource_names::overcommits(name) {
        let detail = format!("must be equal to {name} limit of {shown}");
        errors.push(FieldError::invalid(&at, request.clone(), detail));
    } else if asked > most {
        let detail = format!("must be less than or equal to {name} limit of {shown}");
        errors.push(FieldError::invalid(&at, request.clone(), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    #[test]
    fn quantities_compare() {
        for (a, b) in [("1", "1000m"), ("1Ki", "1024"), ("0.5", "500m"), ("1e3", "1k"), ("1.5Gi", "1536Mi")] {
            assert_eq!(nanos(&a.into()), nanos(&b.into()), "{a} {b}");
        }
        assert_eq!(nanos(&"x".into()), None);
        assert_eq!(nanos(&"1e99".into()), None);
    }

    #[test]
    fn quality_of_service() {
        let pod = |resources: Value| json!({"spec": {"containers": [{ "resources": resources }]}});
        for (resources, class) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"requests": {"cpu": "1", "memory": "1"}, "limits": {"cpu": "1", "memory": "1"}}), "Guaranteed"),
            (json!({"requests": {"cpu": "1", "memory": "1"}, "limits": {"cpu": "2", "memory": "1"}}), "Burstable"),
        ] {
            assert_eq!(qos_class(&pod(resources.clone())), class, "{resources}");
        }
    }

    #[test]
    fn requests_stay_within_limits() {
        let resources = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2", "example.com/gpu": "1", "odd": "1"}});
        assert_eq!(
            shown(&validate(Some(&resources), &Path::new("r"))),
            [
                "r.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                "r.limits: Required value: Limit must be set for non overcommitable resources",
                "r.requests[odd]: Invalid value: \"odd\": must be a standard resource type or fully qualified",
                "r.requests[odd]: Invalid value: \"odd\": must be a standard resource for containers",
            ]
        );
    }
}
