//! What a driver says of the devices of a pool: attributes, capacities, counters, where they can be used.
//!
//! Never judges claims of devices.

use super::devices::{self, each, set};
use super::labels::invalid;
use super::volume_sources::csi_driver_name;
use super::{names, pod_scheduling, quantities, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Value};
use crate::quantity::Quantity;
use crate::value;

const MOST_DEVICES: usize = 128;
/// With taints or counters, which cost more to look at.
const MOST_COSTLY_DEVICES: usize = 64;
const MOST_COUNTER_SETS: usize = 8;
const MOST_COUNTERS: usize = 32;
const MOST_CONSUMED_SETS: usize = 2;
const MOST_ATTRIBUTES_AND_CAPACITIES: usize = 32;
const MOST_TAINTS: usize = 16;
const MOST_VALUES: usize = 10;
const LONGEST_VALUE: usize = 64;
/// `domain/identifier` at its longest.
const LONGEST_KEY: usize = 63 + 1 + 32;
const LONGEST_LABEL: usize = 63;

/// Fields of features that are off: what no old slice has, a new one does not get.
pub fn drop_disabled(new: &mut Value, old: Option<&Value>) {
    const LISTS: &[&str] = &["ints", "bools", "strings", "versions"];
    let any = |test: &dyn Fn(&Value) -> bool| old.is_some_and(|old| value::items(old, "spec.devices").iter().any(test));
    let lists = |device: &Value| {
        let attributes = device.get("attributes").and_then(Value::as_object).into_iter().flatten();
        attributes
            .flat_map(|(_, attribute)| LISTS.iter().map(move |name| attribute.get(*name)))
            .any(|list| list.is_some())
    };
    let keep_lists = any(&lists);
    let keep_mappings = any(&|device| device.get("nodeAllocatableResourceMappings").is_some());
    for device in value::items_mut(new, "spec.devices") {
        if !keep_mappings {
            value::remove(device, "nodeAllocatableResourceMappings");
        }
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut).filter(|_| !keep_lists);
        for attribute in attributes.into_iter().flat_map(Map::values_mut) {
            LISTS.iter().for_each(|name| drop(value::remove(attribute, name)));
        }
    }
}

/// Taints without a time begin now.
pub fn stamp(object: &mut Value, now: &str) {
    for device in value::items_mut(object, "spec.devices") {
        for taint in value::items_mut(device, "taints").iter_mut().filter(|taint| taint.is_object()) {
            value::set_default(taint, "timeAdded", now);
        }
    }
}

/// What is wrong with the spec of a slice.
#[must_use]
pub fn validate(spec: &Value, old: Option<&Value>, field: &Path) -> Errors {
    let mut errors = Errors::new();
    csi_driver_name(&mut errors, value::text(spec, "driver"), &field.child("driver"));
    pool(&mut errors, spec.get("pool").unwrap_or(&Value::Null), &field.child("pool"));
    if let Some(old) = old {
        for name in ["pool.name", "driver", "nodeName"] {
            let get = |spec| value::get(spec, name);
            if rules::differ(get(spec), get(old)) {
                let shown = get(spec).cloned().unwrap_or_default();
                errors.push(FieldError::invalid(&field.child(name), shown, rules::IMMUTABLE));
            }
        }
    }
    place(&mut errors, spec, field);
    let list = |name: &str| value::items(spec, name);
    if !list("sharedCounters").is_empty() && !list("devices").is_empty() {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(FieldError::invalid(field, "", detail));
    }
    let costly =
        |device: &Value| ["taints", "consumesCounters"].iter().any(|name| !value::items(device, name).is_empty());
    let most = if list("devices").iter().any(costly) { MOST_COSTLY_DEVICES } else { MOST_DEVICES };
    let at = field.child("devices");
    set(&mut errors, list("devices"), Some(most), &at, devices::name_of, |errors, one, field| {
        let name = value::text(one, "name");
        let known = old.map_or(&[][..], |old| value::items(old, "devices"));
        device(errors, one, known.iter().find(|other| value::text(other, "name") == name), spec, field);
    });
    let at = field.child("sharedCounters");
    set(&mut errors, list("sharedCounters"), Some(MOST_COUNTER_SETS), &at, devices::name_of, |errors, one, field| {
        devices::required(errors, value::text(one, "name"), &field.child("name"), names::dns_label);
        counters(errors, one, field);
    });
    errors
}

fn pool(errors: &mut Errors, pool: &Value, field: &Path) {
    devices::pool(errors, value::text(pool, "name"), &field.child("name"));
    let count = value::int(pool, "resourceSliceCount").unwrap_or_default();
    if count <= 0 {
        errors.push(FieldError::invalid(&field.child("resourceSliceCount"), count, quantities::NOT_POSITIVE));
    }
    if let Some(generation) = value::int(pool, "generation").filter(|generation| *generation < 0) {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&field.child("generation"), generation, detail));
    }
}

/// A flag that is true or absent; answers whether it is true.
fn only_true(errors: &mut Errors, object: &Value, name: &str, field: &Path) -> bool {
    let flag = object.get(name).and_then(Value::as_bool);
    if flag == Some(false) {
        errors.push(FieldError::invalid(&field.child(name), false, "must be either unset or set to true"));
    }
    flag == Some(true)
}

/// The name of a node, where it is given; `empty` says what is wrong with an empty one.
fn node_name(errors: &mut Errors, object: &Value, field: &Path, empty: &str) -> bool {
    let field = field.child("nodeName");
    match object.get("nodeName").and_then(Value::as_str) {
        None => return false,
        Some("") => {
            errors.push(FieldError::invalid(&field, "", empty));
            return false;
        }
        Some(name) => invalid(errors, &field, name, names::dns_subdomain(name)),
    }
    true
}

/// Where the devices of a slice can be used: said in one way.
fn place(errors: &mut Errors, spec: &Value, field: &Path) {
    let mut said = Vec::new();
    if node_name(errors, spec, field, "must be either unset or set to a non-empty string") {
        said.push("`nodeName`");
    }
    if let Some(selector) = spec.get("nodeSelector").filter(|selector| !selector.is_null()) {
        said.push("`nodeSelector`");
        pod_scheduling::node_selector(errors, selector, &field.child("nodeSelector"));
        let terms = value::items(selector, "nodeSelectorTerms");
        if terms.len() != 1 {
            let at = field.child("nodeSelector.nodeSelectorTerms");
            let error = FieldError::invalid_whole(&at, "must have exactly one node selector term");
            errors.push(error.showing("[]NodeSelectorTerm", selector.get("nodeSelectorTerms").unwrap_or(&Value::Null)));
        }
    }
    for (name, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        if only_true(errors, spec, name, field) {
            said.push(shown);
        }
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match said.len() {
        0 => errors.push(FieldError::required(field, one)),
        1 => {}
        _ => {
            let detail = format!("{one}, but multiple fields are set");
            errors.push(FieldError::invalid(field, format!("{{{}}}", said.join(", ")), detail));
        }
    }
}

fn device(errors: &mut Errors, device: &Value, old: Option<&Value>, spec: &Value, field: &Path) {
    devices::label(errors, value::text(device, "name"), &field.child("name"));
    let map = |name: &str| device.get(name).and_then(Value::as_object);
    let count = ["attributes", "capacity"].iter().filter_map(|name| map(name)).map(Map::len).sum::<usize>();
    if count > MOST_ATTRIBUTES_AND_CAPACITIES {
        let detail =
            format!("the total number of attributes and capacities must not exceed {MOST_ATTRIBUTES_AND_CAPACITIES}");
        errors.push(FieldError::invalid(field, count, detail));
    }
    each_entry(errors, map("attributes"), None, &field.child("attributes"), (LONGEST_KEY, devices::key), attribute);
    let shared = value::flag(device, "allowMultipleAllocations");
    let at = field.child("capacity");
    each_entry(errors, map("capacity"), None, &at, (LONGEST_KEY, devices::key), |errors, capacity, field| {
        let Some(policy) = capacity.get("requestPolicy").filter(|policy| !policy.is_null()) else { return };
        let field = field.child("requestPolicy");
        if shared {
            let most = capacity.get("value").and_then(quantities::read).unwrap_or(Quantity::ZERO);
            request_policy(errors, policy, most, &field);
        } else {
            errors.push(FieldError::forbidden(&field, "allowMultipleAllocations must be true"));
        }
    });
    if old.is_none_or(|old| rules::differ(old.get("taints"), device.get("taints"))) {
        let list = value::items(device, "taints");
        each(errors, list, Some(MOST_TAINTS), &field.child("taints"), devices::taint);
    }
    let (list, at) = (value::items(device, "consumesCounters"), field.child("consumesCounters"));
    let key = |one: &Value| value::text(one, "counterSet").into();
    set(errors, list, Some(MOST_CONSUMED_SETS), &at, key, |errors, one, field| {
        devices::required(errors, value::text(one, "counterSet"), &field.child("counterSet"), names::dns_label);
        counters(errors, one, field);
    });
    place_of_device(errors, device, value::flag(spec, "perDeviceNodeSelection"), field);
    devices::binding_conditions(errors, device, field);
}

fn place_of_device(errors: &mut Errors, device: &Value, each_by_itself: bool, field: &Path) {
    let given = ["nodeName", "nodeSelector", "allNodes"].map(|name| device.get(name).is_some_and(|one| !one.is_null()));
    if !each_by_itself {
        if given.contains(&true) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                          true in the ResourceSlice spec";
            errors.push(FieldError::invalid(field, Value::Null, detail));
        }
        return;
    }
    let mut said = Vec::new();
    if node_name(errors, device, field, "must not be empty") {
        said.push("`nodeName`");
    }
    if let Some(selector) = device.get("nodeSelector").filter(|selector| !selector.is_null()) {
        said.push("`nodeSelector`");
        pod_scheduling::node_selector(errors, selector, &field.child("nodeSelector"));
    }
    if only_true(errors, device, "allNodes", field) {
        said.push("`allNodes`");
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to \
               true in the ResourceSlice spec";
    match said.len() {
        0 => errors.push(FieldError::required(field, one)),
        1 => {}
        _ => errors.push(FieldError::invalid(field, format!("{{{}}}", said.join(", ")), one)),
    }
}

/// Judges the keys and values of a map; `rule` has how much of a key is shown, and what holds for it.
fn each_entry(
    errors: &mut Errors,
    map: Option<&Map>,
    most: Option<usize>,
    field: &Path,
    (shown, rule): (usize, fn(&mut Errors, &str, &Path)),
    item: impl Fn(&mut Errors, &Value, &Path),
) {
    let length = map.map_or(0, Map::len);
    if let Some(most) = most.filter(|most| length > *most) {
        errors.push(FieldError::too_many(field, length, most));
        return;
    }
    for (key, value) in map.into_iter().flatten() {
        rule(errors, key, field);
        item(errors, value, &field.key(&shortened(key, shown)));
    }
}

/// A key without its middle, where it is too long.
fn shortened(key: &str, most: usize) -> String {
    if key.len() <= most {
        return key.to_owned();
    }
    let rest = most.saturating_sub(3);
    let head = key.get(..rest.div_ceil(2)).unwrap_or_default();
    let tail = key.get(key.len().saturating_sub(rest / 2)..).unwrap_or_default();
    format!("{head}...{tail}")
}

fn counters(errors: &mut Errors, object: &Value, field: &Path) {
    let field = field.child("counters");
    let map = object.get("counters").and_then(Value::as_object);
    if map.is_none_or(Map::is_empty) {
        errors.push(FieldError::required(&field, ""));
    } else {
        each_entry(errors, map, Some(MOST_COUNTERS), &field, (LONGEST_LABEL, devices::label), |_, _, _| ());
    }
}

fn attribute(errors: &mut Errors, attribute: &Value, field: &Path) {
    let text = |name: &str| attribute.get(name).and_then(Value::as_str);
    if let Some(version) = text("version").filter(|version| !is_version(version)) {
        let detail = "must be a string compatible with semver.org spec 2.0.0";
        errors.push(FieldError::invalid(&field.child("version"), version, detail));
    }
    for name in ["string", "version"] {
        if text(name).is_some_and(|text| text.len() > LONGEST_VALUE) {
            errors.push(FieldError::too_long(&field.child(name), LONGEST_VALUE));
        }
    }
    let given = attribute.as_object().map_or(0, |map| map.values().filter(|value| !value.is_null()).count());
    if given != 1 {
        let shown = if given == 0 { "".into() } else { attribute.clone() };
        errors.push(FieldError::invalid(field, shown, "exactly one value must be specified"));
    }
}

/// A version of semver.org 2.0.0.
fn is_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (numbers, early) = text.split_once('-').map_or((text, None), |(text, early)| (text, Some(early)));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let numbers: Vec<&str> = numbers.split('.').collect();
    numbers.len() == 3
        && numbers.into_iter().all(number)
        && early.is_none_or(|early| early.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

/// How much of a capacity one claim may take.
fn request_policy(errors: &mut Errors, policy: &Value, most: Quantity, field: &Path) {
    let values = value::items(policy, "validValues");
    let range = policy.get("validRange").filter(|range| !range.is_null());
    let default = policy.get("default").and_then(quantities::read);
    let missing = |errors: &mut Errors, name: &str| {
        let detail = format!("required when {name} is defined");
        errors.push(FieldError::required(&field.child("default"), detail));
    };
    match (values, range) {
        ([_, ..], Some(_)) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same \
                          time";
            errors.push(FieldError::forbidden(field, detail));
        }
        ([], None) => {}
        ([_, ..], None) => match default {
            None => missing(errors, "validValues"),
            Some(default) => valid_values(errors, values, default, most, &field.child("validValues")),
        },
        ([], Some(range)) => match default {
            None => missing(errors, "validRange"),
            Some(default) => valid_range(errors, range, default, most, &field.child("validRange")),
        },
    }
}

fn valid_values(errors: &mut Errors, values: &[Value], default: Quantity, most: Quantity, field: &Path) {
    let amounts: Vec<Quantity> = values.iter().map(|value| quantities::read(value).unwrap_or(Quantity::ZERO)).collect();
    for (i, (before, after)) in amounts.iter().zip(amounts.iter().skip(1)).enumerate() {
        if before > after {
            let detail = "values must be sorted in ascending order";
            errors.push(FieldError::invalid(&field.index(i + 1), after.to_string(), detail));
        }
    }
    let key = |value: &Value| quantities::read(value).map_or(0, Quantity::value).to_string().into();
    let mut found = false;
    set(errors, values, Some(MOST_VALUES), field, key, |errors, value, field| {
        let amount = quantities::read(value).unwrap_or(Quantity::ZERO);
        if amount > most {
            let detail = format!("option is larger than capacity value: {most}");
            errors.push(FieldError::invalid(field, amount.to_string(), detail));
        }
        found |= amount == default;
    });
    if !found {
        let detail = "default value is not valid according to the requestPolicy";
        errors.push(FieldError::invalid(field, default.to_string(), detail));
    }
}

fn valid_range(errors: &mut Errors, range: &Value, default: Quantity, most: Quantity, field: &Path) {
    let bound = |name: &str| range.get(name).and_then(quantities::read);
    let Some(min) = bound("min") else {
        errors.push(FieldError::required(&field.child("min"), "required when validRange is defined"));
        return;
    };
    let mut wrong = |holds: bool, name: &str, shown: Quantity, detail: String| {
        if holds {
            errors.push(FieldError::invalid(&field.child(name), shown.to_string(), detail));
        }
    };
    wrong(min > most, "min", min, format!("min is larger than capacity value: {most}"));
    wrong(default < min, "min", default, format!("default is less than min: {min}"));
    let max = bound("max");
    if let Some(max) = max {
        wrong(min > max, "max", min, format!("min is larger than max: {max}"));
        wrong(max > most, "max", max, format!("max is larger than capacity value: {most}"));
        wrong(default > max, "max", default, format!("default is more than max: {max}"));
    }
    if let Some(step) = bound("step") {
        let first = min + step;
        wrong(first > most, "step", step, format!("one step {first} is larger than capacity value: {most}"));
        for amount in [Some(default), max].into_iter().flatten() {
            let above = amount.value().saturating_sub(min.value());
            let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
            // A step of nothing divides nothing.
            wrong(above.checked_rem(step.value()) != Some(0), "step", amount, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semantic() {
        for (text, fine) in [
            ("1.2.3", true),
            ("0.0.0-alpha.1+build.5", true),
            ("1.2.3-0a", true),
            ("1.2.3--", true),
            ("1.2", false),
            ("1.2.03", false),
            ("1.2.3-01", false),
            ("1.2.3-", false),
            ("1.2.3+", false),
            ("v1.2.3", false),
        ] {
            assert_eq!(is_version(text), fine, "{text}");
        }
    }

    #[test]
    fn long_keys_lose_their_middle() {
        assert_eq!(shortened("abc", 16), "abc");
        assert_eq!(shortened("abcdefghijklmnopqrstuvwxyz", 16), "abcdefg...uvwxyz");
    }
}
