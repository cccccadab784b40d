//! Which flow schema a request belongs to, and what tells its flows apart.
//!
//! Schemas are read once and matched many times. Never looks at levels' state. Source: KEP-1040, "Matching".

use super::Level;
use super::meters::Meters;
use crate::authn::User;
use crate::road::received::RequestInfo;
use k8s_openapi::api::flowcontrol::v1 as wire;
use std::sync::Arc;

/// A flow schema whose level is there.
pub(crate) struct Schema {
    pub(crate) name: String,
    /// Of the objects, for the headers; empty for one that is only imagined.
    pub(crate) uid: String,
    pub(crate) level_uid: String,
    pub(crate) level: Arc<Level>,
    /// Widest work that is guessed for the level; 0 without a bound of its own.
    pub(crate) widest: u32,
    /// Whether flows are told apart: there is more than one queue.
    pub(crate) sharded: bool,
    pub(crate) distinguisher: Distinguisher,
    pub(crate) rules: Vec<Rule>,
    pub(crate) meters: Meters,
}

/// What tells flows of one schema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distinguisher {
    /// Nothing: all are one flow.
    None,
    /// The user's name.
    ByUser,
    /// The namespace of the request.
    ByNamespace,
}

impl Distinguisher {
    pub(crate) fn of<'a>(self, user: &'a str, info: &'a RequestInfo) -> &'a str {
        match self {
            Distinguisher::None => "",
            Distinguisher::ByUser => user,
            Distinguisher::ByNamespace => &info.namespace,
        }
    }

    fn read(spec: &wire::FlowSchemaSpec) -> Distinguisher {
        match spec.distinguisher_method.as_ref().map(|method| method.type_.as_str()) {
            Some("ByUser") => Distinguisher::ByUser,
            Some("ByNamespace") => Distinguisher::ByNamespace,
            _ => Distinguisher::None,
        }
    }
}

/// The order in which schemas are tried.
pub(crate) fn order(schema: &wire::FlowSchema) -> (i32, &str) {
    let precedence = schema.spec.as_ref().and_then(|spec| spec.matching_precedence).unwrap_or(0);
    (precedence, schema.metadata.name.as_deref().unwrap_or_default())
}

/// Words of which one must be named, or any.
#[derive(Clone, Debug)]
enum Words {
    Any,
    These(Vec<String>),
}

impl Words {
    fn read(words: &[String]) -> Words {
        match words {
            [only] if only == "*" => Words::Any,
            words => Words::These(words.to_vec()),
        }
    }

    fn have(&self, word: &str) -> bool {
        match self {
            Words::Any => true,
            Words::These(words) => words.iter().any(|own| own == word),
        }
    }
}

#[derive(Clone, Debug)]
enum Subject {
    Anybody,
    User(String),
    Group(String),
    /// Namespace, and name unless it is any.
    ServiceAccount(String, Option<String>),
}

impl Subject {
    fn read(subject: &wire::Subject) -> Option<Subject> {
        match (subject.kind.as_str(), &subject.user, &subject.group, &subject.service_account) {
            ("User", Some(user), ..) if user.name == "*" => Some(Subject::Anybody),
            ("User", Some(user), ..) => Some(Subject::User(user.name.clone())),
            ("Group", _, Some(group), _) if group.name == "*" => Some(Subject::Anybody),
            ("Group", _, Some(group), _) => Some(Subject::Group(group.name.clone())),
            ("ServiceAccount", .., Some(account)) => {
                let name = Some(account.name.clone()).filter(|name| name != "*");
                Some(Subject::ServiceAccount(account.namespace.clone(), name))
            }
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Subject::Anybody => true,
            Subject::User(name) => user.name == *name,
            Subject::Group(group) => user.groups.iter().any(|own| own == group),
            Subject::ServiceAccount(namespace, name) => {
                let own = user.name.strip_prefix("system:serviceaccount:");
                let own = own.and_then(|own| own.strip_prefix(namespace.as_str())?.strip_prefix(':'));
                own.is_some_and(|own| name.as_ref().is_none_or(|name| own == name))
            }
        }
    }
}

/// Who, and what they ask for.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    /// Verbs and paths; a path that ends in `/` is all that begins with it.
    others: Vec<(Words, Words)>,
}

#[derive(Clone, Debug)]
struct ResourceRule {
    verbs: Words,
    groups: Words,
    resources: Words,
    namespaces: Words,
    cluster: bool,
}

impl Rule {
    pub(crate) fn read(spec: &wire::FlowSchemaSpec) -> (Distinguisher, Vec<Rule>) {
        let none: &[String] = &[];
        let rules = spec.rules.iter().flatten().map(|rule| Rule {
            subjects: rule.subjects.iter().filter_map(Subject::read).collect(),
            resources: rule
                .resource_rules
                .iter()
                .flatten()
                .map(|rule| ResourceRule {
                    verbs: Words::read(&rule.verbs),
                    groups: Words::read(&rule.api_groups),
                    resources: Words::read(&rule.resources),
                    namespaces: Words::read(rule.namespaces.as_deref().unwrap_or(none)),
                    cluster: rule.cluster_scope.unwrap_or(false),
                })
                .collect(),
            others: rule
                .non_resource_rules
                .iter()
                .flatten()
                .map(|rule| (Words::read(&rule.verbs), Words::read(&rule.non_resource_urls)))
                .collect(),
        });
        (Distinguisher::read(spec), rules.collect())
    }

    pub(crate) fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        if !self.subjects.iter().any(|subject| subject.is(user)) {
            return false;
        }
        if info.is_resource {
            return self.resources.iter().any(|rule| rule.matches(info));
        }
        self.others.iter().any(|(verbs, paths)| verbs.have(&info.verb) && reaches(paths, &info.path))
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let resource = match info.subresource.as_str() {
            "" => self.resources.have(&info.resource),
            part => match &self.resources {
                Words::Any => true,
                Words::These(words) => {
                    words.iter().any(|word| word.split_once('/') == Some((info.resource.as_str(), part)))
                }
            },
        };
        let place = if info.namespace.is_empty() { self.cluster } else { self.namespaces.have(&info.namespace) };
        resource && place && self.verbs.have(&info.verb) && self.groups.have(&info.group)
    }
}

/// Whether the path is one of these, or lies below one of them.
fn reaches(paths: &Words, path: &str) -> bool {
    let Words::These(paths) = paths else { return true };
    paths.iter().any(|own| {
        let root = own.strip_suffix('*').unwrap_or(own);
        let below = || path.strip_prefix(root.strip_suffix('/').unwrap_or(root));
        own == path || below().is_some_and(|rest| rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::road::received::Query;
    use api::json::json;

    /// `GET /api/v1/namespaces/a/pods` by `user group,group`, and whether the rule matches it.
    fn check(rule: &api::json::Value, request: &str, user: &str, want: bool) {
        let spec = json!({"priorityLevelConfiguration": {"name": "x"}, "rules": [rule]});
        let (_, rules) = Rule::read(&api::json::from_value(spec).unwrap());
        let (method, path) = request.split_once(' ').unwrap();
        let (name, groups) = user.split_once(' ').unwrap_or((user, ""));
        let user = User::new(name, &groups.split(',').collect::<Vec<_>>());
        let info = RequestInfo::parse(method, path, &Query::default());
        assert_eq!(rules[0].matches(&user, &info), want, "{rule} {request} {name}");
    }

    #[test]
    fn rules_match_as_upstreams_do() {
        let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]);
        let who = |subject: api::json::Value| json!({"subjects": [subject], "resourceRules": all});
        let pods = "GET /api/v1/namespaces/a/pods";
        for (subject, user, want) in [
            (json!({"kind": "User", "user": {"name": "jane"}}), "jane", true),
            (json!({"kind": "User", "user": {"name": "jane"}}), "janet", false),
            (json!({"kind": "User", "user": {"name": "*"}}), "anybody", true),
            (json!({"kind": "Group", "group": {"name": "dev"}}), "jane ops,dev", true),
            (json!({"kind": "Group", "group": {"name": "dev"}}), "dev ops", false),
            (json!({"kind": "Group", "group": {"name": "*"}}), "jane", true),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "b"}}),
                "system:serviceaccount:a:b",
                true,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "b"}}),
                "system:serviceaccount:a:bc",
                false,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "*"}}),
                "system:serviceaccount:a:c",
                true,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "*"}}),
                "system:serviceaccount:ab:c",
                false,
            ),
            (json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "*"}}), "jane", false),
        ] {
            check(&who(subject), pods, user, want);
        }

        let what = |rule: api::json::Value| json!({"subjects": [{"kind": "User", "user": {"name": "*"}}], "resourceRules": [rule]});
        let pods_of_a = json!({"verbs": ["list", "get"], "apiGroups": [""], "resources": ["pods", "pods/log"], "namespaces": ["a"]});
        for (request, want) in [
            (pods, true),
            ("GET /api/v1/namespaces/b/pods", false),
            ("GET /api/v1/pods", false),
            ("GET /api/v1/namespaces/a/pods/x", true),
            ("GET /api/v1/namespaces/a/pods/x/log", true),
            ("GET /api/v1/namespaces/a/pods/x/status", false),
            ("DELETE /api/v1/namespaces/a/pods/x", false),
            ("GET /apis/g/v1/namespaces/a/pods", false),
            ("GET /healthz", false),
        ] {
            check(&what(pods_of_a.clone()), request, "jane", want);
        }
        let nodes = json!({"verbs": ["*"], "apiGroups": [""], "resources": ["nodes"], "clusterScope": true});
        check(&what(nodes.clone()), "GET /api/v1/nodes/x", "jane", true);
        check(&what(nodes), "GET /api/v1/nodes/x/status", "jane", false);

        let paths = json!({"subjects": [{"kind": "User", "user": {"name": "*"}}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/logs/*"]}]});
        for (request, want) in [
            ("GET /healthz", true),
            ("GET /healthz/ping", true),
            ("GET /healthzz", false),
            ("GET /logs/a", true),
            ("GET /logs", false),
            ("POST /healthz", false),
            ("GET /api/v1/nodes", false),
        ] {
            check(&paths, request, "jane", want);
        }
    }
}
