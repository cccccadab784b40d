//! resource.k8s.io/v1beta1 as v1 and back: requests and devices had another nesting.
//!
//! Never changes anything else. Source: upstream's conversions of `DeviceRequest` and `Device`.

use crate::json::{Map, Value};
use crate::kind::{Kind, StoredAs};
use crate::kinds::shared::rules::is_zero;
use crate::value;

/// What a request for devices says below `exactly` since v1beta2.
const EXACTLY: &[&str] =
    &["deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity"];

/// A claim.
#[must_use]
pub const fn claim(kind: &'static Kind) -> StoredAs {
    StoredAs { kind, to: |object| to(object, "spec", nested), from: |object| to(object, "spec", flat) }
}

/// A template of claims.
#[must_use]
pub const fn template(kind: &'static Kind) -> StoredAs {
    StoredAs { kind, to: |object| to(object, "spec.spec", nested), from: |object| to(object, "spec.spec", flat) }
}

/// A slice of devices.
#[must_use]
pub const fn slice(kind: &'static Kind) -> StoredAs {
    StoredAs { kind, to: |slice| each(slice, "spec.devices", unwrap), from: |slice| each(slice, "spec.devices", wrap) }
}

fn to(object: &mut Value, spec: &str, change: fn(&mut Map)) {
    each(object, &format!("{spec}.devices.requests"), change);
}

fn each(object: &mut Value, list: &str, change: fn(&mut Map)) {
    value::items_mut(object, list).iter_mut().filter_map(Value::as_object_mut).for_each(change);
}

/// Takes some members out.
fn taken(from: &mut Map, wanted: impl Fn(&str) -> bool) -> Map {
    let (out, rest) = std::mem::take(from).into_iter().partition(|(name, _)| wanted(name));
    *from = rest;
    out
}

fn nested(request: &mut Map) {
    let mut exactly = taken(request, |name| EXACTLY.contains(&name));
    // Without a class the older version writes an empty one.
    exactly.retain(|name, value| name == "capacity" && value.is_object() || !is_zero(value));
    if !exactly.is_empty() {
        request.insert("exactly".to_owned(), exactly.into());
    }
}

fn flat(request: &mut Map) {
    if let Some(Value::Object(exactly)) = request.remove("exactly") {
        request.extend(exactly);
    }
}

fn unwrap(device: &mut Map) {
    if let Some(Value::Object(basic)) = device.remove("basic") {
        device.extend(basic);
    }
}

fn wrap(device: &mut Map) {
    let basic = taken(device, |name| name != "name");
    device.insert("basic".to_owned(), basic.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn there_and_back() {
        let requests = |list: Value| json!({"spec": {"devices": {"requests": list, "config": []}}});
        let old = requests(
            json!([{"name": "a", "deviceClassName": "c", "count": 2}, {"name": "b", "firstAvailable": [{"name": "x"}]}]),
        );
        let new = requests(
            json!([{"name": "a", "exactly": {"deviceClassName": "c", "count": 2}}, {"name": "b", "firstAvailable": [{"name": "x"}]}]),
        );
        let mut object = old.clone();
        to(&mut object, "spec", nested);
        assert_eq!(object, new);
        to(&mut object, "spec", flat);
        assert_eq!(object, old);

        let old = json!({"spec": {"devices": [{"name": "a", "basic": {"attributes": {"x": {"int": 1}}}}, {"name": "b", "basic": {}}]}});
        let new = json!({"spec": {"devices": [{"name": "a", "attributes": {"x": {"int": 1}}}, {"name": "b"}]}});
        let mut object = old.clone();
        each(&mut object, "spec.devices", unwrap);
        assert_eq!(object, new);
        each(&mut object, "spec.devices", wrap);
        assert_eq!(object, old);
        to(&mut json!({"spec": 1}), "spec.spec", nested);
    }
}
