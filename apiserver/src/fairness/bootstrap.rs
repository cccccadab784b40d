//! The flow schemas and priority levels that every cluster has: two of each that must be there, and those that are suggested.
//!
//! Says what they are and how an object that is there already is made to follow; never writes. The names and numbers are upstream's
//! (`apiserver/pkg/apis/flowcontrol/bootstrap`).

use api::kinds::shared::flow_control;
use k8s_openapi::api::flowcontrol::v1 as wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// Schema and level of administrators.
pub(crate) const EXEMPT: &str = "exempt";
/// Schema and level of what nothing else matches.
pub(crate) const CATCH_ALL: &str = "catch-all";
/// Whether the server may change the object's spec.
pub(crate) const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

pub(crate) fn is_mandatory(name: &str) -> bool {
    name == EXEMPT || name == CATCH_ALL
}

/// Name, shares, percent that is lent, queues, queues of one flow.
const LEVELS: &[(&str, i32, i32, i32, i32)] = &[
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
];
const QUEUE_LENGTH: i32 = 50;

/// One suggested schema, with one rule.
struct Suggested {
    name: &'static str,
    level: &'static str,
    precedence: i32,
    distinguisher: &'static str,
    subjects: &'static [Who],
    what: &'static [What],
}

enum Who {
    User(&'static str),
    Group(&'static str),
    /// All of `kube-system`.
    SystemAccounts,
}

enum What {
    /// Every request.
    All,
    /// Verbs, group, resources, and whether outside of namespaces as well.
    These(&'static [&'static str], &'static str, &'static [&'static str], bool),
    /// To be read.
    Paths(&'static [&'static str]),
}

const EVERYBODY: &[Who] = &[Who::Group("system:unauthenticated"), Who::Group("system:authenticated")];
const LEASES: &str = "coordination.k8s.io";
const CONTROLLERS: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
const NODES: &[Who] = &[Who::Group("system:nodes")];

const SCHEMAS: &[Suggested] = &[
    Suggested {
        name: "system-nodes",
        level: "system",
        precedence: 500,
        distinguisher: "ByUser",
        subjects: NODES,
        what: &[What::All],
    },
    Suggested {
        name: "system-node-high",
        level: "node-high",
        precedence: 400,
        distinguisher: "ByUser",
        subjects: NODES,
        what: &[
            What::These(&["*"], "", &["nodes", "nodes/status"], true),
            What::These(&["*"], LEASES, &["leases"], false),
        ],
    },
    Suggested {
        name: "probes",
        level: EXEMPT,
        precedence: 2,
        distinguisher: "",
        subjects: EVERYBODY,
        what: &[What::Paths(&["/healthz", "/readyz", "/livez"])],
    },
    Suggested {
        name: "system-leader-election",
        level: "leader-election",
        precedence: 100,
        distinguisher: "ByUser",
        subjects: &[Who::User(CONTROLLERS), Who::User(SCHEDULER), Who::SystemAccounts],
        what: &[What::These(&["get", "create", "update"], LEASES, &["leases"], false)],
    },
    Suggested {
        name: "kube-controller-manager",
        level: "workload-high",
        precedence: 800,
        distinguisher: "ByNamespace",
        subjects: &[Who::User(CONTROLLERS)],
        what: &[What::All],
    },
    Suggested {
        name: "kube-scheduler",
        level: "workload-high",
        precedence: 800,
        distinguisher: "ByNamespace",
        subjects: &[Who::User(SCHEDULER)],
        what: &[What::All],
    },
    Suggested {
        name: "kube-system-service-accounts",
        level: "workload-high",
        precedence: 900,
        distinguisher: "ByNamespace",
        subjects: &[Who::SystemAccounts],
        what: &[What::All],
    },
    Suggested {
        name: "service-accounts",
        level: "workload-low",
        precedence: 9000,
        distinguisher: "ByUser",
        subjects: &[Who::Group("system:serviceaccounts")],
        what: &[What::All],
    },
    Suggested {
        name: "global-default",
        level: "global-default",
        precedence: 9900,
        distinguisher: "ByUser",
        subjects: EVERYBODY,
        what: &[What::All],
    },
];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn metadata(name: &str) -> ObjectMeta {
    let annotations = BTreeMap::from([(AUTO_UPDATE.to_owned(), "true".to_owned())]);
    ObjectMeta { name: Some(name.to_owned()), annotations: Some(annotations), ..ObjectMeta::default() }
}

impl Who {
    fn subject(&self) -> wire::Subject {
        let none = wire::Subject::default();
        match self {
            Who::User(name) => wire::Subject {
                kind: "User".to_owned(),
                user: Some(wire::UserSubject { name: (*name).to_owned() }),
                ..none
            },
            Who::Group(name) => wire::Subject {
                kind: "Group".to_owned(),
                group: Some(wire::GroupSubject { name: (*name).to_owned() }),
                ..none
            },
            Who::SystemAccounts => wire::Subject {
                kind: "ServiceAccount".to_owned(),
                service_account: Some(wire::ServiceAccountSubject {
                    name: "*".to_owned(),
                    namespace: "kube-system".to_owned(),
                }),
                ..none
            },
        }
    }
}

impl What {
    fn add(&self, rule: &mut wire::PolicyRulesWithSubjects) {
        let (verbs, group, resources, cluster) = match self {
            What::All => (&["*"][..], "*", &["*"][..], true),
            What::These(verbs, group, resources, cluster) => (*verbs, *group, *resources, *cluster),
            What::Paths(paths) => {
                let paths = wire::NonResourcePolicyRule { verbs: words(&["get"]), non_resource_urls: words(paths) };
                rule.non_resource_rules.get_or_insert_default().push(paths);
                return;
            }
        };
        rule.resource_rules.get_or_insert_default().push(wire::ResourcePolicyRule {
            verbs: words(verbs),
            api_groups: words(&[group]),
            resources: words(resources),
            namespaces: Some(words(&["*"])),
            cluster_scope: cluster.then_some(true),
        });
        if let What::All = self {
            let paths = wire::NonResourcePolicyRule { verbs: words(&["*"]), non_resource_urls: words(&["*"]) };
            rule.non_resource_rules.get_or_insert_default().push(paths);
        }
    }
}

/// The levels that are suggested.
pub(crate) fn suggested_levels() -> Vec<wire::PriorityLevelConfiguration> {
    let level = |(name, shares, lendable, queues, hand): &(&str, i32, i32, i32, i32)| {
        let queuing = wire::QueuingConfiguration {
            queues: Some(*queues),
            hand_size: Some(*hand),
            queue_length_limit: Some(QUEUE_LENGTH),
        };
        let limited = wire::LimitedPriorityLevelConfiguration {
            nominal_concurrency_shares: Some(*shares),
            lendable_percent: Some(*lendable),
            borrowing_limit_percent: None,
            limit_response: Some(wire::LimitResponse { type_: "Queue".to_owned(), queuing: Some(queuing) }),
        };
        let spec = wire::PriorityLevelConfigurationSpec {
            type_: "Limited".to_owned(),
            limited: Some(limited),
            ..wire::PriorityLevelConfigurationSpec::default()
        };
        wire::PriorityLevelConfiguration { metadata: metadata(name), spec: Some(spec), status: None }
    };
    LEVELS.iter().map(level).collect()
}

/// The schemas that are suggested.
pub(crate) fn suggested_schemas() -> Vec<wire::FlowSchema> {
    let schema = |suggested: &Suggested| {
        let mut rule = wire::PolicyRulesWithSubjects {
            subjects: suggested.subjects.iter().map(Who::subject).collect(),
            ..wire::PolicyRulesWithSubjects::default()
        };
        suggested.what.iter().for_each(|what| what.add(&mut rule));
        let method = Some(suggested.distinguisher).filter(|method| !method.is_empty());
        let spec = wire::FlowSchemaSpec {
            priority_level_configuration: wire::PriorityLevelConfigurationReference {
                name: suggested.level.to_owned(),
            },
            matching_precedence: Some(suggested.precedence),
            distinguisher_method: method.map(|method| wire::FlowDistinguisherMethod { type_: method.to_owned() }),
            rules: Some(vec![rule]),
        };
        wire::FlowSchema { metadata: metadata(suggested.name), spec: Some(spec), status: None }
    };
    SCHEMAS.iter().map(schema).collect()
}

/// The levels that must be there.
pub(crate) fn mandatory_levels() -> Vec<wire::PriorityLevelConfiguration> {
    let level = |name: &&str| {
        let spec = api::json::from_value(flow_control::mandatory_level(name)?).ok()?;
        Some(wire::PriorityLevelConfiguration { metadata: metadata(name), spec: Some(spec), status: None })
    };
    [CATCH_ALL, EXEMPT].iter().filter_map(level).collect()
}

/// The schemas that must be there.
pub(crate) fn mandatory_schemas() -> Vec<wire::FlowSchema> {
    let schema = |name: &&str| {
        let spec = api::json::from_value(flow_control::mandatory_schema(name)?).ok()?;
        Some(wire::FlowSchema { metadata: metadata(name), spec: Some(spec), status: None })
    };
    [EXEMPT, CATCH_ALL].iter().filter_map(schema).collect()
}

/// What flow schemas and priority levels have in common here.
pub(crate) trait Object: Clone + serde::Serialize + serde::de::DeserializeOwned {
    /// Its plural.
    const RESOURCE: &'static str;
    fn metadata(&self) -> &ObjectMeta;
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    /// Gives it the spec that is wanted, where it says something else.
    fn follow(&mut self, wanted: &Self) -> bool;

    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// What the annotation says, if it says something.
    fn auto_update(&self) -> Option<bool> {
        let annotations = self.metadata().annotations.as_ref()?;
        match annotations.get(AUTO_UPDATE)?.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        }
    }
}

impl Object for wire::FlowSchema {
    const RESOURCE: &'static str = "flowschemas";

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn follow(&mut self, wanted: &Self) -> bool {
        let same = self.spec == wanted.spec;
        self.spec.clone_from(&wanted.spec);
        !same
    }
}

impl Object for wire::PriorityLevelConfiguration {
    const RESOURCE: &'static str = "prioritylevelconfigurations";

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn follow(&mut self, wanted: &Self) -> bool {
        let mut spec = wanted.spec.clone();
        // The part of the exempt level is the administrator's.
        if let (EXEMPT, Some(own), Some(spec)) = (self.name(), self.spec.as_ref(), spec.as_mut())
            && own.exempt.is_some()
        {
            spec.exempt.clone_from(&own.exempt);
        }
        let same = self.spec == spec;
        self.spec = spec;
        !same
    }
}

/// What an object that is there should become; `None` when it is right. One that is suggested is left alone once somebody has changed it.
pub(crate) fn revised<O: Object>(current: &O, wanted: &O, mandatory: bool) -> Option<O> {
    let follows = mandatory || current.auto_update().unwrap_or(current.metadata().generation == Some(1));
    let mut revised = current.clone();
    let changed = follows && revised.follow(wanted);
    let told = current.auto_update() == Some(follows);
    if !told {
        let annotations = revised.metadata_mut().annotations.get_or_insert_default();
        annotations.insert(AUTO_UPDATE.to_owned(), follows.to_string());
    }
    (changed || !told).then_some(revised)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_changed_stays() {
        let wanted = suggested_levels().remove(0);
        let changed = |generation: i64, annotation: Option<&str>, shares: i32| {
            let mut object = wanted.clone();
            object.metadata.generation = Some(generation);
            let annotations = annotation.map(|value| BTreeMap::from([(AUTO_UPDATE.to_owned(), value.to_owned())]));
            object.metadata.annotations = annotations;
            let limited = object.spec.as_mut().and_then(|spec| spec.limited.as_mut()).unwrap();
            limited.nominal_concurrency_shares = Some(shares);
            object
        };
        let check = |generation, annotation, shares, mandatory, want: Option<(&str, i32)>| {
            let revised = revised(&changed(generation, annotation, shares), &wanted, mandatory);
            let shown = revised.map(|object| {
                let shares = object.spec.unwrap().limited.unwrap().nominal_concurrency_shares.unwrap();
                (object.metadata.annotations.unwrap()[AUTO_UPDATE].clone(), shares)
            });
            assert_eq!(shown, want.map(|(told, shares)| (told.to_owned(), shares)), "{generation} {annotation:?}");
        };
        check(1, Some("true"), 30, false, None);
        check(2, Some("true"), 77, false, Some(("true", 30)));
        check(2, Some("false"), 77, false, None);
        check(2, None, 77, false, Some(("false", 77)));
        check(1, None, 77, false, Some(("true", 30)));
        check(2, Some("perhaps"), 77, false, Some(("false", 77)));
        check(2, Some("false"), 77, true, Some(("true", 30)));
    }

    #[test]
    fn the_part_of_the_exempt_level_is_the_administrators() {
        let wanted = mandatory_levels().into_iter().find(|level| level.name() == EXEMPT).unwrap();
        let mut object = wanted.clone();
        let exempt = object.spec.as_mut().and_then(|spec| spec.exempt.as_mut()).unwrap();
        exempt.nominal_concurrency_shares = Some(9);
        assert!(revised(&object, &wanted, true).is_none());
        object.spec.as_mut().unwrap().type_ = "Limited".to_owned();
        let spec = revised(&object, &wanted, true).unwrap().spec.unwrap();
        assert_eq!((spec.type_.as_str(), spec.exempt.unwrap().nominal_concurrency_shares), ("Exempt", Some(9)));
    }
}
