//! Which kinds are served under which flags.

use super::*;
use crate::json::Value;
use std::path::PathBuf;

fn served(flags: &[&str], gates: &[&str]) -> Result<Served, String> {
    let gates = Gates::parse(gates).unwrap();
    Served::by_flags(flags, &gates).map_err(|error| error.to_string())
}

/// `group/version/resource`, core as `/v1/pods`.
fn shown(kind: &Kind) -> String {
    format!("{}/{}/{}", kind.group, kind.version, kind.plural)
}

#[test]
fn the_stable_versions_are_the_default() {
    let default = Served::default();
    for kind in kinds::ALL {
        let stable = level(kind.version) == Some(Level::Stable) && kind.gate.is_none();
        let found = default.by_resource(kind.group, kind.version, kind.plural).is_some();
        assert_eq!(found, stable, "{kind:?}");
    }
    for flags in [&[][..], &[""], &["api/ga=true"], &["api/beta=false,api/alpha=false"]] {
        assert_eq!(served(flags, &[]).unwrap().kinds().len(), default.kinds().len(), "{flags:?}");
    }
}

#[test]
fn flags_and_gates_choose() {
    const GATES: &[&str] = &["AllAlpha=true,AllBeta=true"];
    let check = |flags: &[&str], gates: &[&str], yes: &[&str], no: &[&str]| {
        let served = served(flags, gates).unwrap();
        let names: Vec<String> = served.kinds().iter().map(|kind| shown(kind)).collect();
        for (list, wanted) in [(yes, true), (no, false)] {
            for name in list {
                assert!(kinds::ALL.iter().any(|kind| shown(kind) == *name), "no kind {name}");
                assert_eq!(names.iter().any(|found| found == name), wanted, "{flags:?} {gates:?} {name}");
            }
        }
    };
    const ADDRESS: &str = "networking.k8s.io/v1/ipaddresses";
    const BETA: &str = "networking.k8s.io/v1beta1/ipaddresses";
    const OTHER_BETA: &str = "networking.k8s.io/v1beta1/servicecidrs";
    const PODS: &str = "/v1/pods";
    for (flags, yes, no) in [
        (&["api/all=true"][..], &[ADDRESS, BETA, PODS][..], &[][..]),
        (&["api/beta=true"], &[ADDRESS, BETA, PODS], &[]),
        (&["api/alpha=true"], &[ADDRESS, PODS], &[BETA]),
        (&["api/all=false,api/beta=true"], &[BETA], &[ADDRESS, PODS]),
        (&["api/all=true", "api/beta=false"], &[ADDRESS, PODS], &[BETA]),
        (&["api/ga=false,/v1=true"], &[PODS], &[ADDRESS, BETA]),
        (&["networking.k8s.io/v1beta1=true"], &[ADDRESS, BETA, OTHER_BETA], &[]),
        (&["networking.k8s.io/v1beta1"], &[BETA], &[]),
        (&["networking.k8s.io/v1beta1/ipaddresses=true"], &[ADDRESS, BETA], &[OTHER_BETA]),
        (&["networking.k8s.io/v1beta1=true,networking.k8s.io/v1beta1/ipaddresses=false"], &[OTHER_BETA], &[BETA]),
        (&["networking.k8s.io/v1/ipaddresses=0,networking.k8s.io/v1beta1=1"], &[BETA], &[ADDRESS]),
        (&["networking.k8s.io/v1beta1=true", "networking.k8s.io/v1beta1=false"], &[ADDRESS], &[BETA]),
        // Registered, and nothing of it is served by anybody.
        (&["apps/v1beta1=true,apiextensions.k8s.io/v1=true,policy/v1beta1/none=true"], &[PODS], &[BETA]),
    ] {
        check(flags, &[], yes, no);
        check(flags, GATES, yes, no);
    }
    for kind in kinds::ALL.iter().filter(|kind| kind.gate.is_some()) {
        let (name, gate) = (shown(kind), format!("{}=true", kind.gate.unwrap()));
        check(&["api/all=true"], &[], &[], &[&name]);
        check(&["api/all=true"], &[&gate], &[&name], &[]);
        check(&[], &[&gate], &[], &[&name]);
    }
}

#[test]
fn errors_are_upstreams() {
    for (flags, sentence) in [
        (&["api/all=false"][..], "invalid runtime-config with only api/all=false"),
        (&["v1=true"], "runtime-config invalid key v1"),
        (&["a/b/c/d=true"], "runtime-config invalid key a/b/c/d"),
        (&["api/legacy=true"], "unknown api groups api/legacy"),
        (&["x/v1=true,b.c/v2/y=true"], "unknown api groups b.c/v2,x/v1"),
        (&["api/all=yes"], "invalid value api/all=yes"),
        (&["api/beta"], "invalid value api/beta="),
        (&["apps/v9=true"], "group version apps/v9 that has not been registered"),
        (
            &["apps/v1=maybe"],
            "invalid value of apps/v1: maybe, err: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        (
            &["apps/v1/Deployments=true"],
            "invalid key apps/v1/Deployments: group/version/resource and resource is always lowercase plural, not \
             \"Deployments\"",
        ),
    ] {
        assert_eq!(served(flags, &[]).map(|served| served.kinds().len()), Err(sentence.to_owned()), "{flags:?}");
    }
}

#[test]
fn levels_of_versions() {
    for (version, wanted) in [
        ("v1", Some(Level::Stable)),
        ("v12beta3", Some(Level::Beta)),
        ("v1alpha2", Some(Level::Alpha)),
        ("v1beta", None),
        ("vbeta1", None),
        ("1", None),
        ("v1rc1", None),
    ] {
        assert_eq!(level(version), wanted, "{version}");
    }
}

#[test]
fn objects_are_kept_where_some_version_is_served() {
    let kept = |flags: &[&str], group: &str| {
        let gates = Gates::parse(&["AllAlpha=true,AllBeta=true"]).unwrap();
        let served = Served::by_flags(flags, &gates).unwrap();
        served.kept().filter(|kind| kind.group == group).map(|kind| kind.plural).collect::<Vec<_>>()
    };
    assert_eq!(kept(&["api/ga=false,/v1=true"], "networking.k8s.io"), kept(&[], "networking.k8s.io"));
    let all = Served::all();
    for kind in kinds::ALL.iter().filter(|kind| kind.is_stored()) {
        assert!(all.kept().any(|kept| std::ptr::eq::<Kind>(kept, kind.stored())), "{kind:?}");
    }
}

/// Kinds of upstream that nobody serves here yet. May only shrink.
const MISSING: &[&str] = &[];

#[test]
fn with_everything_on_it_is_what_upstream_serves() {
    let root = std::env::var_os("IRONKEEL_ORACLE")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracle")), PathBuf::from);
    if !root.is_dir() {
        eprintln!("left out: no folder of upstream facts at {}", root.display());
        return;
    }
    let read = |name: &str| -> Value {
        crate::json::from_slice(&std::fs::read(root.join("discovery").join(name)).unwrap()).unwrap()
    };
    let mut theirs: BTreeSet<String> = MISSING.iter().map(|name| (*name).to_owned()).collect();
    assert!(theirs.iter().all(|name| kinds::ALL.iter().all(|kind| shown(kind) != *name)), "served, and still listed");
    let named = |value: &Value, name: &str| crate::value::text(value, name).to_owned();
    for group in crate::value::items(&read("aggregated_v2.json"), "items") {
        for version in crate::value::items(group, "versions") {
            for resource in crate::value::items(version, "resources") {
                let of =
                    [named(group, "metadata.name"), named(version, "version"), named(resource, "resource")].join("/");
                if !theirs.remove(&of) {
                    theirs.insert(of);
                }
            }
        }
    }
    for resource in crate::value::items(&read("api__v1.json"), "resources") {
        let name = named(resource, "name");
        if !name.contains('/') {
            theirs.insert(format!("/v1/{name}"));
        }
    }
    let all = served(&["api/all=true"], &["AllAlpha=true,AllBeta=true"]).unwrap();
    let ours: BTreeSet<String> = all.kinds().iter().map(|kind| shown(kind)).collect();
    assert_eq!(ours, theirs);
}
