//! What calls of functions can cost at most: cel-go's figures and those of Kubernetes' libraries.
//!
//! One rule for each function; whose arguments these are is `estimate`'s business.

use super::ast::{Kind, Literal};
use super::cost::{LIST, TRAVERSAL};
use super::estimate::{ASKING, Argument, Estimate, Estimator, OF_PATTERN, Range};
use super::types::Type;

/// The longest pattern behind a named format.
const LONGEST_FORMAT: f64 = 128.0;
/// Values of an attribute of a device.
const MOST_VALUES: u64 = 48;

fn only(cost: Range) -> Estimate {
    Estimate { cost, size: None }
}

/// What a call costs without its arguments.
pub(crate) fn call(
    all: &Estimator<'_>,
    function: &str,
    overload: &str,
    target: Option<&Argument<'_>>,
    args: &[Argument<'_>],
) -> Estimate {
    let of_overload = lists(all, overload, target, args);
    of_overload
        .or_else(|| library(all, function, overload, target, args))
        .unwrap_or_else(|| standard(overload, target, args))
}

/// An integer that is written out.
fn int(argument: &Argument<'_>, otherwise: u64) -> u64 {
    match &argument.expr.kind {
        Kind::Literal(Literal::Int(value)) => u64::try_from(*value).unwrap_or(0),
        _ => otherwise,
    }
}

fn allocating(factor: f64, size: Range) -> Estimate {
    let cost = size.scaled(factor).plus(Range::fixed(1)).plus(Range::fixed(LIST));
    Estimate { cost, size: Some(size) }
}

fn lists(
    all: &Estimator<'_>,
    overload: &str,
    target: Option<&Argument<'_>>,
    args: &[Argument<'_>],
) -> Option<Estimate> {
    let text = |name: &str| if name.contains("_string_") || name.contains("_bytes_") { TRAVERSAL } else { 0.0 };
    Some(match (overload, target, args) {
        ("list_slice", Some(list), [start, end]) => {
            let end = int(end, all.size_of(list).max);
            allocating(1.0, Range::fixed(end.wrapping_sub(int(start, 0))))
        }
        ("lists_range", None, [n]) => allocating(1.0, Range::fixed(int(n, u64::MAX))),
        ("list_reverse", Some(list), []) => allocating(1.0, all.size_of(list)),
        ("list_flatten", Some(list), []) => allocating(1.0, all.size_of(list)),
        #[expect(clippy::cast_precision_loss, reason = "a depth, or without bound")]
        ("list_flatten_int", Some(list), [depth]) => allocating(int(depth, u64::MAX) as f64, all.size_of(list)),
        ("list_distinct", Some(list), []) => {
            let size = all.size_of(list);
            allocating(2.0, size.times(size))
        }
        (name, Some(list), []) if name.starts_with("list_") && name.ends_with("_sort") => {
            let size = all.size_of(list);
            allocating(2.0 + text(name), size.times(size))
        }
        (name, Some(_), [keys]) if name.ends_with("_sortByAssociatedKeys") => {
            let size = all.size_of(keys);
            allocating(2.0 + text(name), size.times(size))
        }
        ("list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list", _, [a, b]) => {
            let factor = if overload == "list_sets_equivalent_list" { 2.0 } else { 1.0 };
            only(all.size_of(a).times(all.size_of(b)).scaled(factor).plus(Range::fixed(1)))
        }
        _ => return None,
    })
}

fn library(
    all: &Estimator<'_>,
    function: &str,
    overload: &str,
    target: Option<&Argument<'_>>,
    args: &[Argument<'_>],
) -> Option<Estimate> {
    let traversed = |argument: &Argument<'_>, factor: f64| only(all.size_of(argument).scaled(factor * TRAVERSAL));
    let one = || only(Range::fixed(1));
    Some(match (function, target, args) {
        ("check", ..) => only(ASKING),
        (
            "serviceAccount"
            | "path"
            | "group"
            | "resource"
            | "subresource"
            | "namespace"
            | "name"
            | "allowed"
            | "reason"
            | "error"
            | "errored"
            | "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery",
            ..,
        ) => one(),
        ("fieldSelector" | "labelSelector", _, [selector]) => {
            let size = all.size_of(selector);
            let requirements = size.scaled(0.5).scaled(50.0);
            only(Range::fixed(LIST).plus(size.scaled(TRAVERSAL)).plus(requirements))
        }
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(list), _) => match all.element(list) {
            Some((t, size)) => {
                let mut each = Range::fixed(1);
                if matches!(t, Type::String | Type::Bytes) {
                    each = each.plus(size.scaled(TRAVERSAL));
                }
                only(all.size_of(list).times(each))
            }
            None => traversed(list, 1.0),
        },
        ("url" | "jsonpatch.escapeKey", _, [text])
        | ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(text), _) => {
            Estimate { size: Some(all.size_of(text)), ..traversed(text, 1.0) }
        }
        ("replace", Some(text), [old, new, ..]) => {
            let size = replaced(all.size_of(text), all.size_of(old), all.size_of(new));
            Estimate { size: Some(size), ..traversed(text, 2.0) }
        }
        ("split", Some(text), _) => {
            let max = args.get(1).map_or(all.size_of(text).max, |n| match &n.expr.kind {
                #[expect(clippy::cast_sign_loss, reason = "as upstream: a negative number is no bound")]
                Kind::Literal(Literal::Int(n)) => *n as u64,
                _ => all.size_of(text).max,
            });
            Estimate { size: Some(Range { min: 0, max }), ..traversed(text, 2.0) }
        }
        ("join", Some(list), _) => {
            let count = all.size_of(list);
            let mut size = all.element(list).map_or(Range::fixed(0), |(_, element)| count.times(element));
            if let Some(separator) = args.first() {
                let between = Range { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
                size = size.plus(all.size_of(separator).times(between));
            }
            Estimate { cost: size.scaled(TRAVERSAL), size: Some(size) }
        }
        ("find" | "findAll", Some(text), [pattern, ..]) => {
            let size = all.size_of(text);
            Estimate { cost: matched(size, all.size_of(pattern)), size: Some(Range { min: 0, max: size.max }) }
        }
        ("ip", ..) if overload == "cidr_ip" => one(),
        ("cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver", _, [text, ..]) => {
            traversed(text, 1.0)
        }
        ("ip.isCanonical", _, [text]) => traversed(text, 2.0),
        ("containsIP" | "containsCIDR", _, [other]) => {
            let address = Range { min: 4, max: 16 };
            let mut cost = address.plus(address).scaled(TRAVERSAL);
            if function == "containsCIDR" {
                cost = cost.plus(address.scaled(TRAVERSAL)).plus(Range::fixed(1));
            }
            if matches!(overload, "cidr_contains_ip_string" | "cidr_contains_cidr_string") {
                cost = cost.plus(all.size_of(other).scaled(TRAVERSAL));
            }
            only(cost)
        }
        ("validate", _, [text]) => only(all.size_of(text).scaled(TRAVERSAL).scaled(LONGEST_FORMAT * OF_PATTERN)),
        ("includes", Some(_), _) if overload == "dra_includes_dyn_dyn" => only(Range { min: 0, max: MOST_VALUES }),
        ("_==_", _, [a, b]) if a.t == b.t => match a.t.name() {
            "kubernetes.NamedFormat" => only(Range { min: 1, max: 64 }.scaled(TRAVERSAL)),
            "kubernetes.URL" => only(Range { min: 1, max: b.size.map_or(1, |size| size.max) }.scaled(TRAVERSAL)),
            "net.IP" | "net.CIDR" | "kubernetes.Quantity" | "kubernetes.Semver" => one(),
            name if name.starts_with("kubernetes.authorization.") => one(),
            _ => return None,
        },
        _ => return None,
    })
}

fn matched(text: Range, pattern: Range) -> Range {
    text.plus(Range::fixed(1)).scaled(TRAVERSAL).times(pattern.scaled(OF_PATTERN))
}

/// The size of a text in which something is replaced.
fn replaced(text: Range, old: Range, new: Range) -> Range {
    let (mut count, mut kept) = (Range::fixed(0), Range::fixed(0));
    if old.min == 0 {
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if new.max <= old.min {
        kept.max = text.max;
    } else {
        count.max = text.max.div_ceil(old.min);
    }
    if old.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if old.max <= new.min {
        kept.min = text.min;
    } else {
        count.min = text.min.div_ceil(old.max);
    }
    count.times(new).plus(kept)
}

fn standard(overload: &str, target: Option<&Argument<'_>>, args: &[Argument<'_>]) -> Estimate {
    // cel-go takes computed sizes only here; declared ones are computed with the argument.
    let size = |argument: &Argument<'_>| argument.size.unwrap_or(Range::UNKNOWN);
    match (overload, target, args) {
        ("string_format", Some(text), _) => only(size(text).scaled(TRAVERSAL)),
        ("string_to_bytes", _, [text]) => {
            let of = size(text);
            let made = Range { min: of.min, max: of.max.wrapping_mul(4) };
            Estimate { cost: of.scaled(TRAVERSAL), size: Some(made) }
        }
        ("bytes_to_string", _, [bytes]) => {
            let of = size(bytes);
            Estimate { cost: of.scaled(TRAVERSAL), size: Some(Range { min: of.min / 4, max: of.max }) }
        }
        ("strings_quote", _, [text]) => {
            let of = size(text);
            let made = Range { min: of.min.wrapping_add(2), max: of.max.wrapping_mul(2).wrapping_add(2) };
            Estimate { cost: of.scaled(TRAVERSAL), size: Some(made) }
        }
        ("starts_with_string" | "ends_with_string", _, [part]) => only(size(part).scaled(TRAVERSAL)),
        ("in_list", _, [_, list]) => only(size(list).scaled(1.0)),
        ("matches_string", Some(text), [pattern]) => only(matched(size(text), size(pattern))),
        ("contains_string", Some(text), [part]) => {
            only(size(text).scaled(TRAVERSAL).times(size(part).scaled(TRAVERSAL)))
        }
        (
            "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes"
            | "equals"
            | "not_equals",
            _,
            [a, b],
        ) => {
            let max = size(a).max.min(size(b).max);
            only(Range { min: u64::from(max > 0), max }.scaled(TRAVERSAL))
        }
        _ => only(Range::fixed(1)),
    }
}
