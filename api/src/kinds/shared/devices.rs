//! What claims, classes and slices of devices have in common: names, lists without repetitions, configuration, taints.
//!
//! Never holds a kind. Selectors are compiled as they are checked; nothing here evaluates them.

use super::labels::invalid;
use super::names::{self, Messages};
use super::volume_sources::csi_driver_name;
use crate::cel::{Env, environments};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;
use std::sync::LazyLock;

/// The most selectors of a request or class.
pub const MOST_SELECTORS: usize = 32;
/// The most configurations of a claim or class.
pub const MOST_CONFIGS: usize = 32;
/// The most bytes of an expression.
const LONGEST_EXPRESSION: usize = 10 * 1024;
/// The most bytes of a driver's parameters or data.
const LARGEST_DATA: usize = 10 * 1024;
/// The most bytes of the name of a pool.
const LONGEST_POOL: usize = 253;
/// The most bytes of an identifier.
const LONGEST_IDENTIFIER: usize = 32;
/// The most conditions for binding, and for its failure.
const MOST_BINDING_CONDITIONS: usize = 4;
/// What a taint does, and a toleration tolerates.
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// Judges each element, unless there are more than `most`; answers whether it did.
pub fn each(
    errors: &mut Errors,
    list: &[Value],
    most: Option<usize>,
    field: &Path,
    mut item: impl FnMut(&mut Errors, &Value, &Path),
) -> bool {
    if let Some(most) = most.filter(|most| list.len() > *most) {
        errors.push(FieldError::too_many(field, list.len(), most));
        return false;
    }
    for (i, element) in list.iter().enumerate() {
        item(errors, element, &field.index(i));
    }
    true
}

/// Judges each element, and that no two have the same key.
pub fn set(
    errors: &mut Errors,
    list: &[Value],
    most: Option<usize>,
    field: &Path,
    key: impl Fn(&Value) -> Value,
    item: impl FnMut(&mut Errors, &Value, &Path),
) {
    if !each(errors, list, most, field, item) {
        return;
    }
    let mut seen: Vec<Value> = Vec::new();
    for (i, element) in list.iter().enumerate() {
        let key = key(element);
        if seen.contains(&key) {
            errors.push(FieldError::duplicate(&field.index(i), key));
        } else {
            seen.push(key);
        }
    }
}

/// An element that is its own key.
#[must_use]
pub fn itself(element: &Value) -> Value {
    element.clone()
}

/// The name of an element as its key.
#[must_use]
pub fn name_of(element: &Value) -> Value {
    value::text(element, "name").into()
}

/// Names that are labels.
pub fn label(errors: &mut Errors, text: &str, field: &Path) {
    invalid(errors, field, text, names::dns_label(text));
}

/// An element that is a qualified name.
pub fn qualified(errors: &mut Errors, element: &Value, field: &Path) {
    let text = element.as_str().unwrap_or_default();
    invalid(errors, field, text, names::qualified_name(text));
}

/// A name that must be there.
pub fn required(errors: &mut Errors, text: &str, field: &Path, rule: fn(&str) -> Messages) {
    if text.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else {
        invalid(errors, field, text, rule(text));
    }
}

/// The name of a pool: subdomains between slashes.
pub fn pool(errors: &mut Errors, name: &str, field: &Path) {
    if name.is_empty() {
        errors.push(FieldError::required(field, ""));
        return;
    }
    if name.len() > LONGEST_POOL {
        errors.push(FieldError::too_long(field, LONGEST_POOL));
    }
    for part in name.split('/') {
        invalid(errors, field, part, names::dns_subdomain(part));
    }
}

/// The id of a share: a UUID in its usual form.
pub fn share_id(errors: &mut Errors, id: &str, field: &Path) {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let groups: Vec<&str> = id.split('-').collect();
    let dashed = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(|group| hex(group));
    if id.len() == 36 && !dashed || id.len() == 32 && !hex(id) {
        errors.push(FieldError::invalid(field, id, "error validating uid: invalid UUID format"));
    } else if !matches!(id.len(), 32 | 36 | 38 | 45) {
        let detail = format!("error validating uid: invalid UUID length: {}", id.len());
        errors.push(FieldError::invalid(field, id, detail));
    } else if !dashed || id != id.to_lowercase() {
        let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
                      hexadecimal characters";
        errors.push(FieldError::invalid(field, id, detail));
    }
}

/// `domain/identifier`, or an identifier.
pub fn key(errors: &mut Errors, name: &str, field: &Path) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [id] => identifier(errors, id, field),
        [domain, id] => {
            if domain.is_empty() {
                errors.push(FieldError::invalid(field, "", "the domain must not be empty"));
            } else {
                csi_driver_name(errors, domain, field);
            }
            if id.is_empty() {
                errors.push(FieldError::invalid(field, "", "the name must not be empty"));
            } else {
                identifier(errors, id, field);
            }
        }
        // Upstream lets names with more slashes pass.
        _ => {}
    }
}

/// `domain/identifier`.
pub fn full_key(errors: &mut Errors, name: &str, field: &Path) {
    key(errors, name, field);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(FieldError::invalid(field, name, detail));
    }
}

fn identifier(errors: &mut Errors, id: &str, field: &Path) {
    if id.len() > LONGEST_IDENTIFIER {
        errors.push(FieldError::too_long(field, LONGEST_IDENTIFIER));
    }
    invalid(errors, field, id, names::c_identifier(id));
}

/// Selectors at `selectors`.
pub fn selectors(errors: &mut Errors, object: &Value, field: &Path) {
    let list = value::items(object, "selectors");
    each(errors, list, Some(MOST_SELECTORS), &field.child("selectors"), |errors, selector, field| {
        match selector.get("cel").filter(|cel| !cel.is_null()) {
            None => errors.push(FieldError::required(&field.child("cel"), "")),
            Some(cel) if value::text(cel, "expression").len() > LONGEST_EXPRESSION => {
                errors.push(FieldError::too_long(&field.child("cel.expression"), LONGEST_EXPRESSION));
            }
            Some(cel) => expression(errors, value::text(cel, "expression"), &field.child("cel.expression")),
        }
    });
}

/// An expression over the variable `device`. The gates of fields of devices are taken as they are by default.
fn expression(errors: &mut Errors, source: &str, field: &Path) {
    static ENV: LazyLock<Env> = LazyLock::new(|| environments::device(true, false));
    match environments::device_selector(&ENV, source) {
        Ok(_) => {}
        Err(None) => errors.push(FieldError::forbidden(field, "too complex, exceeds cost limit")),
        Err(Some(refusal)) if refusal.is_internal() => errors.push(FieldError::internal(field, refusal.to_string())),
        Err(Some(refusal)) => errors.push(FieldError::invalid(field, source, refusal.to_string())),
    }
}

/// A configuration: parameters for one driver; those that were `stored` may be longer.
pub fn configuration(errors: &mut Errors, config: &Value, field: &Path, stored: bool) {
    let field = field.child("opaque");
    let Some(opaque) = config.get("opaque").filter(|opaque| !opaque.is_null()) else {
        errors.push(FieldError::required(&field, ""));
        return;
    };
    csi_driver_name(errors, value::text(opaque, "driver"), &field.child("driver"));
    data(errors, opaque.get("parameters"), &field.child("parameters"), stored);
}

/// An object that only a driver understands.
pub fn data(errors: &mut Errors, data: Option<&Value>, field: &Path, stored: bool) {
    match data.filter(|data| !data.is_null()) {
        None => errors.push(FieldError::required(field, "")),
        Some(data) if !stored && data.to_string().len() > LARGEST_DATA => {
            errors.push(FieldError::too_long(field, LARGEST_DATA));
        }
        Some(Value::Object(_)) => {}
        Some(_) => errors.push(FieldError::invalid(field, "<value omitted>", "must be a valid JSON object")),
    }
}

/// A taint.
pub fn taint(errors: &mut Errors, taint: &Value, field: &Path) {
    let key = value::text(taint, "key");
    invalid(errors, &field.child("key"), key, names::qualified_name(key));
    let text = value::text(taint, "value");
    invalid(errors, &field.child("value"), text, names::label_value(text));
    super::rules::required_one_of(errors, taint, "effect", field, EFFECTS);
}

/// Tolerations at `tolerations`.
pub fn tolerations(errors: &mut Errors, object: &Value, field: &Path) {
    const OPERATORS: &[&str] = &["Equal", "Exists"];
    let list = value::items(object, "tolerations");
    each(errors, list, None, &field.child("tolerations"), |errors, toleration, field| {
        let key = value::text(toleration, "key");
        if !key.is_empty() {
            invalid(errors, &field.child("key"), key, names::qualified_name(key));
        }
        let text = value::text(toleration, "value");
        match value::text(toleration, "operator") {
            "Exists" if !text.is_empty() => {
                let detail = "must be empty for operator `Exists`";
                errors.push(FieldError::invalid(&field.child("value"), text, detail));
            }
            "Exists" => {}
            "Equal" => invalid(errors, &field.child("value"), text, names::label_value(text)),
            _ => super::rules::required_one_of(errors, toleration, "operator", field, OPERATORS),
        }
        super::rules::one_of(errors, toleration, "effect", field, EFFECTS);
    });
}

/// Conditions that a device waits for before its pod is bound, and those that end the wait.
pub fn binding_conditions(errors: &mut Errors, device: &Value, field: &Path) {
    let most = Some(MOST_BINDING_CONDITIONS);
    let lists = ["bindingConditions", "bindingFailureConditions"];
    for name in lists {
        each(errors, value::items(device, name), most, &field.child(name), qualified);
    }
    let [wanted, failed] = lists.map(|name| value::items(device, name));
    for (list, name) in [wanted, failed].into_iter().zip(lists) {
        for (i, condition) in list.iter().enumerate() {
            let field = field.child(name).index(i);
            if list.iter().take(i).any(|other| other == condition) {
                errors.push(FieldError::duplicate(&field, condition.clone()));
            }
            if name == "bindingFailureConditions" && wanted.contains(condition) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                errors.push(FieldError::invalid(&field, condition.clone(), detail));
            }
        }
    }
    for (own, name, other, other_name) in [
        (wanted, "bindingConditions", failed, "bindingFailureConditions"),
        (failed, "bindingFailureConditions", wanted, "bindingConditions"),
    ] {
        if own.is_empty() && !other.is_empty() {
            let detail = format!("{name} are required to use {other_name}");
            errors.push(FieldError::invalid(&field.child(name), Value::Null, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    fn said(rule: fn(&mut Errors, &str, &Path), text: &str) -> String {
        let mut errors = Errors::new();
        rule(&mut errors, text, &Path::new("f"));
        shown(&errors).join("; ").chars().take(80).collect()
    }

    #[test]
    fn names_of_devices() {
        for (rule, text, start) in [
            (pool as fn(&mut Errors, &str, &Path), "a.b/c", ""),
            (pool, "", "f: Required value"),
            (pool, "a//b", "f: Invalid value: \"\": a lowercase RFC 1123 subdomain"),
            (key, "model", ""),
            (key, "gpu.example.com/model", ""),
            (key, "/model", "f: Invalid value: \"\": the domain must not be empty"),
            (key, "gpu.example.com/", "f: Invalid value: \"\": the name must not be empty"),
            (key, "1a", "f: Invalid value: \"1a\": a valid C identifier must start with"),
            (full_key, "model", "f: Invalid value: \"model\": a fully qualified name"),
            (share_id, "0b3f0c2e-1111-2222-3333-444455556666", ""),
            (
                share_id,
                "0B3F0C2E-1111-2222-3333-444455556666",
                "f: Invalid value: \"0B3F0C2E-1111-2222-3333-444455556666\": uid must",
            ),
            (share_id, "x", "f: Invalid value: \"x\": error validating uid: invalid UUID length: 1"),
            (
                share_id,
                "0b3f0c2e-1111-2222-3333-44445555666x",
                "f: Invalid value: \"0b3f0c2e-1111-2222-3333-44445555666x\": error",
            ),
        ] {
            let said = said(rule, text);
            assert!(said.starts_with(start) && said.is_empty() == start.is_empty(), "{text}: {said}");
        }
        let long = "a".repeat(33);
        assert_eq!(said(key, &long), "f: Too long: may not be more than 32 bytes");
    }

    #[test]
    fn expressions_of_selectors() {
        let deep = (0..5).fold("true".to_owned(), |inner, i| format!("device.attributes.all(x{i}, {inner})"));
        for (source, wanted) in [
            ("device.driver == 'gpu.example.com'", String::new()),
            ("device.attributes['gpu.example.com'].healthy", String::new()),
            ("cel.bind(a, device.attributes['x.y'], a.b > 1 && a.c == 'd')", String::new()),
            (
                "device.capacity['x.y'].memory.isGreaterThan(quantity('1Gi')) && device.allowMultipleAllocations",
                String::new(),
            ),
            (
                "device.name == 'x'",
                "f: Invalid value: \"device.name == 'x'\": compilation failed: ERROR: <input>:1:7: undefined field \
                 'name'\n | device.name == 'x'\n | ......^"
                    .to_owned(),
            ),
            (
                "device.driver",
                "f: Invalid value: \"device.driver\": must evaluate to bool or the unknown type, not string".to_owned(),
            ),
            (&deep, "f: Forbidden: too complex, exceeds cost limit".to_owned()),
        ] {
            let mut errors = Errors::new();
            expression(&mut errors, source, &Path::new("f"));
            assert_eq!(shown(&errors).join("; "), wanted, "{source}");
        }
    }

    #[test]
    fn conditions_come_in_pairs() {
        let check = |device: Value| {
            let mut errors = Errors::new();
            binding_conditions(&mut errors, &device, &Path::new("d"));
            shown(&errors)
        };
        assert_eq!(check(json!({"bindingConditions": ["a"], "bindingFailureConditions": ["b"]})), [""; 0]);
        assert_eq!(
            check(json!({"bindingConditions": ["a", "a"], "bindingFailureConditions": ["a"]})),
            [
                "d.bindingConditions[1]: Duplicate value: \"a\"",
                "d.bindingFailureConditions[0]: Invalid value: \"a\": bindingFailureConditions must not overlap with \
                 bindingConditions",
            ]
        );
        assert_eq!(
            check(json!({"bindingConditions": ["a"]})),
            ["d.bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use \
              bindingConditions"]
        );
        let five = json!({"bindingConditions": ["a", "b", "c", "d", "e"], "bindingFailureConditions": ["f"]});
        assert_eq!(check(five), ["d.bindingConditions: Too many: 5: must have at most 4 items"]);
    }
}
