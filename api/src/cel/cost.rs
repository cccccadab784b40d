//! What operations cost: cel-go's figures and those of Kubernetes' libraries.
//!
//! A cost is known before the operation is carried out, so that one that cannot be paid is not begun.

use super::lib::Opaque;
use super::value::Value;

/// Of making a list.
pub(crate) const LIST: u64 = 10;
/// Of making a map.
pub(crate) const MAP: u64 = 30;
/// Of making an object.
pub(crate) const OBJECT: u64 = 40;
/// Of reading a character.
pub(crate) const TRAVERSAL: f64 = 0.1;
/// Of a character of a pattern.
pub(crate) const PATTERN: f64 = 0.25;
/// Of asking the authorizer.
pub(crate) const AUTHORIZATION: u64 = 350_000;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "costs are small against 2^53, and not negative"
)]
fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

/// Of `==` and `!=`.
pub(crate) fn equality(a: &Value<'_>, b: &Value<'_>, equal: bool) -> u64 {
    if equal && matches!(a, Value::Opaque(_)) { 1 } else { scaled(a.size().min(b.size()), TRAVERSAL) }
}

/// The size of an argument as the libraries of Kubernetes see it.
fn size(args: &[Value<'_>], at: usize) -> u64 {
    match args.get(at) {
        Some(Value::Optional(_)) | None => 1,
        Some(value) => value.size(),
    }
}

/// More than anybody can pay; the rest is not looked at.
const TOO_MUCH: u64 = 10_000_000;

fn traversal(value: &Value<'_>) -> u64 {
    let mut looked_at = 0;
    traversed(value, &mut looked_at)
}

fn traversed(value: &Value<'_>, looked_at: &mut u64) -> u64 {
    *looked_at += 1;
    if *looked_at > TOO_MUCH {
        return TOO_MUCH;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "costs are small against 2^53, and not negative"
    )]
    let floor = |length: usize| (length as f64 * TRAVERSAL) as u64;
    match value {
        Value::String(text) => floor(text.len()),
        Value::Bytes(bytes) => floor(bytes.len()),
        Value::List(list) => {
            let mut total: u64 = 0;
            for element in list.iter() {
                total = total.saturating_add(element.as_ref().map_or(1, |element| traversed(element, looked_at)));
                if *looked_at > TOO_MUCH {
                    break;
                }
            }
            total
        }
        Value::Map(map) => {
            let mut total: u64 = 0;
            for key in map.keys() {
                let value = map.get(&key).ok().flatten();
                let value = value.as_ref().map_or(1, |value| traversed(value, looked_at));
                total = total.saturating_add(traversed(&key, looked_at)).saturating_add(value);
            }
            total
        }
        Value::Object(object) => {
            let mut total: u64 = 0;
            for (name, value) in object.fields().unwrap_or_default() {
                total = total.saturating_add(floor(name.len())).saturating_add(traversed(&value, looked_at));
            }
            total
        }
        _ => 1,
    }
}

fn pattern(text: u64, pattern: u64) -> u64 {
    scaled(text.saturating_add(1), TRAVERSAL).saturating_mul(scaled(pattern, PATTERN))
}

/// Of a list that is made from `size` elements.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "saturates; not negative"
)]
fn allocating(factor: f64, size: u64) -> u64 {
    ((size as f64 * factor) as u64).saturating_add(1 + LIST)
}

fn self_comparison(list: Option<&Value<'_>>) -> u64 {
    let Some(Value::List(list)) = list else { return 1 };
    let text = matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_))));
    let length = list.len() as u64;
    allocating(if text { 2.0 + TRAVERSAL } else { 2.0 }, length.saturating_mul(length))
}

/// Of a call with these arguments, the receiver first.
pub(crate) fn call(function: &str, overload: Option<&str>, args: &[Value<'_>]) -> u64 {
    let int = |at: usize| match args.get(at) {
        Some(Value::Int(value)) => u64::try_from(*value).unwrap_or(0),
        _ => 0,
    };
    let overloaded = overload.unwrap_or_default();
    // Overloads with a counter of their own come first.
    match overloaded {
        "list_slice" => return allocating(1.0, int(2).saturating_sub(int(1))),
        "lists_range" => return allocating(1.0, int(0)),
        "list_reverse" => return allocating(1.0, size(args, 0)),
        "list_flatten" => return allocating(1.0, size(args, 0)),
        #[expect(clippy::cast_precision_loss, reason = "a depth")]
        "list_flatten_int" => return allocating(int(1) as f64, size(args, 0)),
        "list_distinct" => return self_comparison(args.first()),
        "list_sets_contains_list" | "list_sets_intersects_list" => {
            return size(args, 0).saturating_mul(size(args, 1)).saturating_add(1);
        }
        "list_sets_equivalent_list" => return size(args, 0).saturating_mul(size(args, 1)).saturating_mul(2) + 1,
        name if name.starts_with("list_") && name.ends_with("_sort") => return self_comparison(args.first()),
        name if name.ends_with("_sortByAssociatedKeys") => return self_comparison(args.get(1)),
        _ => {}
    }
    match function {
        "check" => AUTHORIZATION,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(0, traversal),
        "fieldSelector" | "labelSelector" => {
            let length = size(args, 1);
            LIST + scaled(length, TRAVERSAL) + scaled(scaled(length, 0.5), 50.0)
        }
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => scaled(size(args, 0), TRAVERSAL),
        "ip" if overloaded == "cidr_ip" => 1,
        "ip" => scaled(size(args, 0), TRAVERSAL),
        "replace" | "split" | "ip.isCanonical" => scaled(size(args, 0), 2.0 * TRAVERSAL),
        "join" => joined(args),
        "find" | "findAll" => pattern(size(args, 0), size(args, 1)),
        "containsIP" | "containsCIDR" => {
            let mut cost = scaled(size(args, 0) * 2, TRAVERSAL);
            if function == "containsCIDR" {
                cost += scaled(size(args, 0), TRAVERSAL) + 1;
            }
            if matches!(overloaded, "cidr_contains_ip_string" | "cidr_contains_cidr_string") {
                cost += scaled(size(args, 1), TRAVERSAL);
            }
            cost
        }
        "validate" => match args.first() {
            Some(Value::Opaque(Opaque::Format(format))) => pattern(size(args, 1), format.pattern_size),
            _ => 1,
        },
        _ => standard(overloaded, args),
    }
}

fn standard(overload: &str, args: &[Value<'_>]) -> u64 {
    let size = |at: usize| args.get(at).map_or(1, Value::size);
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string" | "strings_quote"
        | "string_format" => scaled(size(0), TRAVERSAL),
        "in_list" => size(1),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes" => scaled(size(0).min(size(1)), TRAVERSAL),
        "add_string" | "add_bytes" => scaled(size(0).saturating_add(size(1)), TRAVERSAL),
        "matches_string" => pattern(size(0), size(1)),
        "contains_string" => scaled(size(0), TRAVERSAL).saturating_mul(scaled(size(1), TRAVERSAL)),
        _ => 1,
    }
}

fn joined(args: &[Value<'_>]) -> u64 {
    let Some(Value::List(list)) = args.first() else { return 1 };
    let separator = args.get(1).map_or(0, Value::size);
    let length = list.len() as u64;
    let mut total = separator.saturating_mul(length.saturating_sub(1));
    if length <= TOO_MUCH {
        let elements = list.iter().map(|element| element.as_ref().map_or(0, Value::size));
        total = elements.fold(total, u64::saturating_add);
    }
    scaled(total, 2.0 * TRAVERSAL)
}
