//! `servicecidrs` of networking.k8s.io: ranges that addresses of services come from.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{addresses, cells, parts, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    namespaced: false,
    subresources: &[parts::status_only("networking.k8s.io", "v1", "ServiceCIDR")],
    resets: parts::STATUS_ONLY,
    columns: &[Column::NAME, Column::text("CIDRs").of("spec.cidrs"), Column::AGE],
    describe: describe::<k8s_openapi::api::networking::v1::ServiceCIDR>,
    hooks: &ServiceCidr,
    ..Kind::BASE
};

struct ServiceCidr;

impl Hooks for ServiceCidr {
    fn validate(&self, object: &Value) -> Errors {
        validate(object)
    }

    fn revalidate(&self, _new: &Value, _old: &Value) -> Errors {
        // What is there already stays as it is; what comes in addition is validated with the change.
        Errors::new()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec.cidrs");
        let (after, before) = (value::items(new, "spec.cidrs"), value::items(old, "spec.cidrs"));
        let immutable = |field: &Path, shown: Value| FieldError::invalid(field, shown, rules::IMMUTABLE);
        match (before, after) {
            ([one], [first, _]) => {
                if one != first {
                    errors.push(immutable(&field.index(0), first.clone()));
                }
                errors.extend(validate(new));
            }
            _ if before.len() == after.len() => {
                let changed = after.iter().zip(before).enumerate().filter(|(_, (after, before))| after != before);
                errors.extend(changed.map(|(i, (after, _))| immutable(&field.index(i), after.clone())));
            }
            _ if after.is_empty() => errors.push(immutable(&field, Value::Null)),
            _ => errors.push(immutable(&field, after.to_vec().into())),
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let cidrs: Vec<&str> = value::items(object, "spec.cidrs").iter().filter_map(Value::as_str).collect();
        vec![cells::name(object), cidrs.join(",").into(), cells::age(object, now)]
    }
}

fn validate(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec.cidrs");
    let cidrs = value::items(object, "spec.cidrs");
    if cidrs.is_empty() {
        errors.push(FieldError::required(&field, "at least one CIDR required"));
        return errors;
    }
    if cidrs.len() > 2 {
        errors.push(FieldError::invalid(&field, json!({ "CIDRs": cidrs }), "may only hold up to 2 values"));
        return errors;
    }
    let texts: Vec<&str> = cidrs.iter().filter_map(Value::as_str).collect();
    for (i, cidr) in texts.iter().enumerate() {
        addresses::check(&mut errors, &field.index(i), cidr, addresses::canonical_cidr, &[]);
    }
    let families: Vec<bool> =
        texts.iter().filter_map(|cidr| addresses::sloppy_cidr(cidr)).map(|(address, _)| address.is_ipv4()).collect();
    if let [a, b] = families.as_slice()
        && a == b
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(&field, cidrs.to_vec(), detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    fn of(cidrs: &[&str]) -> Value {
        json!({"metadata": {"name": "c"}, "spec": {"cidrs": cidrs}})
    }

    #[test]
    fn validation() {
        const V4: &str = "10.0.0.0/16";
        const V6: &str = "fd00::/112";
        for (cidrs, sentences) in [
            (&[V4][..], &[][..]),
            (&[V4, V6], &[]),
            (&[], &["spec.cidrs: Required value: at least one CIDR required"]),
            (
                &[V4, V6, V4],
                &[
                    "spec.cidrs: Invalid value: {\"CIDRs\":[\"10.0.0.0/16\",\"fd00::/112\",\"10.0.0.0/16\"]}: may only hold up to 2 values",
                ],
            ),
            (
                &[V4, "10.1.0.0/16"],
                &[
                    "spec.cidrs: Invalid value: [\"10.0.0.0/16\",\"10.1.0.0/16\"]: may specify no more than one IP for each IP \
                     family, i.e 192.168.0.0/24 and 2001:db8::/64",
                ],
            ),
            (
                &["10.0.0.1/16", "FD00::/112"],
                &[
                    "spec.cidrs[0]: Invalid value: \"10.0.0.1/16\": must not have bits set beyond the prefix length",
                    "spec.cidrs[1]: Invalid value: \"FD00::/112\": must be in canonical form (\"fd00::/112\")",
                ],
            ),
        ] {
            testing::invalid(&KIND, &of(cidrs), sentences);
        }
        for (old, new, sentences) in [
            (&[V4][..], &[V4][..], &[][..]),
            (&[V4], &[V4, V6], &[]),
            (&[V4], &[V6], &["spec.cidrs[0]: Invalid value: \"fd00::/112\": field is immutable"]),
            (&[V4], &[V6, V4], &["spec.cidrs[0]: Invalid value: \"fd00::/112\": field is immutable"]),
            (&[V4, V6], &[V4], &["spec.cidrs: Invalid value: [\"10.0.0.0/16\"]: field is immutable"]),
            (
                &[V4],
                &[V4, "x"],
                &[
                    "spec.cidrs[1]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
        ] {
            testing::invalid_update(&KIND, &of(new), &of(old), sentences);
            assert!(KIND.hooks.revalidate(&of(new), &of(old)).is_empty());
        }
    }

    #[test]
    fn row() {
        testing::row(&KIND, &of(&["10.0.0.0/16", "fd00::/112"]), &json!(["c", "10.0.0.0/16,fd00::/112", "<unknown>"]));
    }
}
