//! Of which families of addresses a service has some: what it says itself, what follows from its addresses, what the cluster offers.
//!
//! Never allocates. Source: `pkg/registry/core/service/storage/alloc.go` for what is refused and in which words.

use super::rules::is_zero;
use super::service_prepare::{addresses, is_headless, needs_address};
use super::service_validation;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;

const POLICY: &str = "spec.ipFamilyPolicy";
const SINGLE: &str = "SingleStack";

/// Fills in families and policy where the client named none, or says what is wrong with those it named: in a cluster whose services
/// have addresses of these families, by default of the first.
pub fn settle(service: &mut Value, old: Option<&Value>, cluster: &[&str]) -> Errors {
    if !needs_address(service) || old.is_some_and(|old| stays(service, old)) {
        return Errors::new();
    }
    if value::text(service, POLICY).is_empty() {
        let kept = old.map(|old| value::text(old, POLICY)).filter(|policy| !policy.is_empty());
        let policy = kept.unwrap_or(if is_open(service) { "RequireDualStack" } else { SINGLE }).to_owned();
        value::set(service, POLICY, policy);
    }
    let mut errors = service_validation::addresses_and_families(service, old);
    if !errors.is_empty() {
        return errors;
    }
    let policy = value::text(service, POLICY).to_owned();
    if let Some(old) = old {
        release(&mut errors, service, old, &policy);
    }
    counts(&mut errors, service, &policy);
    let mut families: Vec<String> = families(service).map(str::to_owned).collect();
    follow_addresses(&mut errors, &mut families, service, cluster);
    if !errors.is_empty() {
        return errors;
    }
    let first = || cluster.first().copied().unwrap_or("IPv4").to_owned();
    let open = is_open(service);
    if !open {
        if policy == "RequireDualStack" && cluster.len() < 2 {
            let detail = "this cluster is not configured for dual-stack services";
            errors.push(FieldError::invalid(&Path::new(POLICY), policy.as_str(), detail));
        }
        for (i, family) in families.iter().enumerate().filter(|(_, family)| !cluster.contains(&family.as_str())) {
            let at = Path::new("spec.ipFamilies").index(i);
            errors.push(FieldError::invalid(&at, family.as_str(), "not configured on this cluster"));
        }
        if !errors.is_empty() {
            return errors;
        }
    }
    if families.is_empty() {
        families.push(first());
    }
    if let ([only], true) = (families.as_slice(), policy != SINGLE && (open || cluster.len() == 2)) {
        let other = if only == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    value::set(service, "spec.ipFamilies", families);
    errors
}

fn families(service: &Value) -> impl Iterator<Item = &str> {
    value::items(service, "spec.ipFamilies").iter().filter_map(Value::as_str)
}

/// Neither address nor selector: whoever makes its endpoints may do so in any family.
fn is_open(service: &Value) -> bool {
    is_headless(service) && value::get(service, "spec.selector").is_none_or(is_zero)
}

/// Who prefers two families and names the addresses and families of before keeps what it has, whatever the cluster offers by now.
fn stays(service: &Value, old: &Value) -> bool {
    const PREFERS: &str = "PreferDualStack";
    let policy = value::text(old, POLICY);
    value::text(service, "spec.type") == value::text(old, "spec.type")
        && value::text(service, POLICY) == PREFERS
        && (policy.is_empty() || policy == PREFERS)
        && ["spec.clusterIPs", "spec.ipFamilies"]
            .iter()
            .all(|list| value::items(service, list) == value::items(old, list))
}

/// `SingleStack` alone releases the second of each.
fn release(errors: &mut Errors, service: &mut Value, old: &Value, policy: &str) {
    for (list, what) in [("spec.clusterIPs", "cluster IP"), ("spec.ipFamilies", "IP family")] {
        let (now, before) = (value::items(service, list), value::items(old, list));
        if policy == SINGLE {
            if let ([first, _, ..], true) = (now, now == before) {
                let first = first.clone();
                value::set(service, list, vec![first]);
            }
        } else if !now.is_empty() && now.len() < before.len() {
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(FieldError::invalid(&Path::new(POLICY), policy, detail));
        }
    }
}

fn counts(errors: &mut Errors, service: &Value, policy: &str) {
    for (list, what) in [("spec.clusterIPs", "cluster IPs"), ("spec.ipFamilies", "IP families")] {
        if policy == SINGLE && value::items(service, list).len() == 2 {
            let detail = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.push(FieldError::invalid(&Path::new(POLICY), policy, detail));
        }
    }
}

fn follow_addresses(errors: &mut Errors, families: &mut Vec<String>, service: &Value, cluster: &[&str]) {
    let all = addresses(service);
    for (i, ip) in all.iter().enumerate().take_while(|(_, ip)| **ip != "None") {
        if i < families.len() {
            continue;
        }
        let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
        if cluster.contains(&family) {
            families.push(family.to_owned());
        } else {
            let detail = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(&Path::new("spec.clusterIPs").index(i), all.clone(), detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::service_prepare;
    use crate::kinds::shared::testing::shown;

    const V4: &[&str] = &["IPv4"];
    const BOTH: &[&str] = &["IPv4", "IPv6"];
    const SIX_FIRST: &[&str] = &["IPv6", "IPv4"];

    fn created(spec: &Value, cluster: &[&str]) -> Result<Value, Vec<String>> {
        let mut service = json!({});
        service["spec"] = spec.clone();
        service_prepare::default(&mut service);
        service_prepare::create(&mut service);
        let errors = settle(&mut service, None, cluster);
        if errors.is_empty() { Ok(service) } else { Err(shown(&errors)) }
    }

    #[test]
    fn families_follow_policy_addresses_and_cluster() {
        for (spec, cluster, policy, families) in [
            (json!({}), V4, "SingleStack", V4),
            (json!({}), SIX_FIRST, "SingleStack", &["IPv6"]),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), V4, "PreferDualStack", V4),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), BOTH, "PreferDualStack", BOTH),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), SIX_FIRST, "PreferDualStack", SIX_FIRST),
            (
                json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
                BOTH,
                "RequireDualStack",
                SIX_FIRST,
            ),
            (json!({"clusterIP": "fd00::1"}), BOTH, "SingleStack", &["IPv6"]),
            (json!({"clusterIP": "None"}), V4, "RequireDualStack", BOTH),
            (json!({"clusterIP": "None"}), SIX_FIRST, "RequireDualStack", SIX_FIRST),
            (json!({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}), V4, "PreferDualStack", BOTH),
            (json!({"clusterIP": "None", "selector": {"a": "b"}}), V4, "SingleStack", V4),
        ] {
            let service = created(&spec, cluster).unwrap();
            assert_eq!(service["spec"]["ipFamilyPolicy"], policy, "{spec}");
            assert_eq!(service["spec"]["ipFamilies"], json!(families), "{spec}");
        }
    }

    #[test]
    fn what_the_cluster_has_not_is_refused() {
        const DUAL: &str = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services";
        for (spec, sentences) in [
            (json!({"ipFamilyPolicy": "RequireDualStack"}), &[DUAL][..]),
            (json!({"clusterIP": "None", "selector": {"a": "b"}, "ipFamilyPolicy": "RequireDualStack"}), &[DUAL]),
            (
                json!({"ipFamilies": ["IPv6"]}),
                &["spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"],
            ),
            (
                json!({"clusterIP": "fd00::1"}),
                &["spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster"],
            ),
            (
                json!({"ipFamilies": ["IPv4", "IPv6"]}),
                &[
                    "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when \
                     multiple IP families are specified",
                ],
            ),
            (
                json!({"ipFamilies": ["IPv5"], "ipFamilyPolicy": "Foo"}),
                &[
                    "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
                    "spec.ipFamilyPolicy: Unsupported value: \"Foo\": supported values: \"PreferDualStack\", \
                     \"RequireDualStack\", \"SingleStack\"",
                ],
            ),
        ] {
            assert_eq!(created(&spec, V4), Err(sentences.iter().map(|one| (*one).to_owned()).collect()), "{spec}");
        }
    }

    #[test]
    fn families_come_and_go_when_they_are_asked_to() {
        let of = |policy: &str, ips: &[&str], families: &[&str]| {
            json!({"spec": {"type": "ClusterIP", "ipFamilyPolicy": policy, "clusterIP": ips.first(), "clusterIPs": ips,
                "ipFamilies": families}})
        };
        let one = |policy: &str| of(policy, &["10.0.0.1"], V4);
        let two = |policy: &str| of(policy, &["10.0.0.1", "fd00::1"], BOTH);
        const RELEASED: &str = "Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary";
        for (old, new, wanted) in [
            // One that prefers two is left alone until it asks.
            (one("PreferDualStack"), one("PreferDualStack"), Ok(V4)),
            (one("SingleStack"), one("PreferDualStack"), Ok(BOTH)),
            (one("PreferDualStack"), of("PreferDualStack", &["10.0.0.1"], BOTH), Ok(BOTH)),
            (two("PreferDualStack"), two("SingleStack"), Ok(V4)),
            (
                two("PreferDualStack"),
                one("PreferDualStack"),
                Err(vec![
                    format!("spec.ipFamilyPolicy: {RELEASED} cluster IP"),
                    format!("spec.ipFamilyPolicy: {RELEASED} IP family"),
                ]),
            ),
        ] {
            let mut service = new.clone();
            let errors = settle(&mut service, Some(&old), BOTH);
            let got = if errors.is_empty() { Ok(service["spec"]["ipFamilies"].clone()) } else { Err(shown(&errors)) };
            assert_eq!(got, wanted.map(|families| json!(families)), "{old} {new}");
        }
        let mut service = two("SingleStack");
        assert_eq!(settle(&mut service, Some(&two("RequireDualStack")), BOTH), []);
        assert_eq!(service["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    }
}
