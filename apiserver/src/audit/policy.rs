//! The audit policy: how much of a request is recorded, by the first rule that it matches.
//!
//! Pure. Source: `audit.k8s.io/v1` Policy.

use crate::authn::User;
use crate::road::received::RequestInfo;
use api::codec::yaml;
use api::field_path::{Errors, FieldError, Path};
use api::json::Value;
use api::kinds::shared::names;
use api::value;
use serde::{Deserialize, Serialize};

/// How much is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Level {
    /// Nothing.
    None,
    /// Who asked what, and how it ended.
    Metadata,
    /// And the body of the request.
    Request,
    /// And that of the answer.
    RequestResponse,
}

impl Level {
    /// As policies write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// When in the life of a request an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Stage {
    /// It came, and its author is known.
    RequestReceived,
    /// The head of an answer that goes on was sent.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The server failed in the middle.
    Panic,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    level: Level,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    paths: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    rules: Vec<WrittenRule>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenRule {
    #[serde(default)]
    level: String,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

const FILE: [&str; 6] = ["apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"];
const RULE: [&str; 9] = [
    "level",
    "users",
    "userGroups",
    "verbs",
    "resources",
    "namespaces",
    "nonResourceURLs",
    "omitStages",
    "omitManagedFields",
];
const RESOURCES: [&str; 3] = ["group", "resources", "resourceNames"];

/// Fields of a file that mean nothing.
fn unknown(file: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let mut look = |at: &str, object: &Value, known: &[&str]| {
        let names = object.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        out.extend(names.filter(|name| !known.contains(name)).map(|name| format!("unknown field \"{at}{name}\"")));
    };
    look("", file, &FILE);
    for (index, rule) in value::items(file, "rules").iter().enumerate() {
        look(&format!("rules[{index}]."), rule, &RULE);
        for (inner, resources) in value::items(rule, "resources").iter().enumerate() {
            look(&format!("rules[{index}].resources[{inner}]."), resources, &RESOURCES);
        }
    }
    out
}

/// What a policy says of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How much.
    pub level: Level,
    /// When not.
    pub omit: Vec<Stage>,
    /// Leave `managedFields` out of bodies.
    pub omit_managed_fields: bool,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct PolicyError(String);

impl Policy {
    /// From the text of the file, with what it says and is not known: upstream warns of that and goes on.
    ///
    /// # Errors
    /// A text that cannot be read, another kind of file, and all that its rules cannot mean.
    pub fn read(text: &[u8]) -> Result<(Policy, Vec<String>), PolicyError> {
        let file = yaml::parse(text).map_err(|error| PolicyError(format!("failed decoding: {error}")))?;
        let unknown = unknown(&file);
        let written = Written::deserialize(&file).map_err(|error| PolicyError(format!("failed decoding: {error}")))?;
        if written.api_version != "audit.k8s.io/v1" || written.kind != "Policy" {
            let (version, kind) = (&written.api_version, &written.kind);
            return Err(PolicyError(format!("unknown group version field {version}, Kind={kind} in policy")));
        }
        let mut errors = Errors::new();
        let omit_stages = stages(&written.omit_stages, &Path::new("omitStages"), &mut errors);
        let at = Path::new("rules");
        let rules =
            written.rules.into_iter().enumerate().map(|(index, rule)| rule.judge(&at.index(index), &mut errors));
        let rules: Vec<Rule> = rules.collect();
        if !errors.is_empty() {
            return Err(PolicyError(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")));
        }
        if rules.is_empty() {
            return Err(PolicyError("loaded illegal policy with 0 rules".to_owned()));
        }
        Ok((Policy { rules, omit_stages, omit_managed_fields: written.omit_managed_fields }, unknown))
    }

    /// What is recorded of a request; of one whose author is not known, `user` is none.
    #[must_use]
    pub fn judge(&self, user: Option<&User>, info: &RequestInfo) -> Verdict {
        let rule = self.rules.iter().find(|rule| rule.matches(user, info));
        let Some(rule) = rule else {
            return Verdict { level: Level::None, omit: Vec::new(), omit_managed_fields: self.omit_managed_fields };
        };
        Verdict {
            level: rule.level,
            omit: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

fn lists(list: &[String], word: &str) -> bool {
    list.iter().any(|item| item == word)
}

fn stages(names: &[String], at: &Path, errors: &mut Errors) -> Vec<Stage> {
    const KNOWN: [(&str, Stage); 4] = [
        ("RequestReceived", Stage::RequestReceived),
        ("ResponseStarted", Stage::ResponseStarted),
        ("ResponseComplete", Stage::ResponseComplete),
        ("Panic", Stage::Panic),
    ];
    let mut out = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match KNOWN.iter().find(|(known, _)| known == name) {
            Some((_, stage)) => out.push(*stage),
            None => {
                let names = KNOWN.map(|(name, _)| name).join(",");
                errors.push(FieldError::invalid(
                    &at.index(index),
                    name.as_str(),
                    format!("allowed stages are {names}"),
                ));
            }
        }
    }
    out
}

impl WrittenRule {
    fn judge(self, at: &Path, errors: &mut Errors) -> Rule {
        const LEVELS: [Level; 4] = [Level::None, Level::Metadata, Level::Request, Level::RequestResponse];
        let level = LEVELS.into_iter().find(|level| level.name() == self.level);
        match (level, self.level.as_str()) {
            (Some(_), _) => {}
            (None, "") => errors.push(FieldError::required(&at.child("level"), "")),
            (None, other) => {
                let names = LEVELS.map(Level::name);
                errors.push(FieldError::not_supported(&at.child("level"), other, &names));
            }
        }
        let paths = at.child("nonResourceURLs");
        for (index, path) in self.paths.iter().enumerate().filter(|(_, path)| *path != "*") {
            let mut wrong = |why: &str| errors.push(FieldError::invalid(&paths.index(index), path.as_str(), why));
            if !path.starts_with('/') {
                wrong("non-resource URL rules must begin with a '/' character");
            }
            if path.char_indices().any(|(place, letter)| letter == '*' && place + 1 < path.len()) {
                wrong("non-resource URL wildcards '*' must be the final character of the rule");
            }
        }
        let resources = at.child("resources");
        for given in &self.resources {
            if !given.group.is_empty() && given.group != "*" {
                let wrong = names::dns_subdomain(&given.group);
                if !wrong.is_empty() {
                    let group = resources.child("group");
                    errors.push(FieldError::invalid(&group, given.group.as_str(), wrong.join(",")));
                }
            }
            if !given.resource_names.is_empty() && given.resources.is_empty() {
                let names: Vec<Value> = given.resource_names.iter().map(|name| Value::from(name.as_str())).collect();
                let why = "using resourceNames requires at least one resource";
                errors.push(FieldError::invalid(&resources.child("resourceNames"), names, why));
            }
        }
        let omit_stages = stages(&self.omit_stages, &at.child("omitStages"), errors);
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.paths.is_empty() {
            let given: Vec<Value> = self.paths.iter().map(|path| Value::from(path.as_str())).collect();
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(&paths, given, why));
        }
        Rule {
            level: level.unwrap_or(Level::None),
            users: self.users,
            user_groups: self.user_groups,
            verbs: self.verbs,
            resources: self.resources,
            namespaces: self.namespaces,
            paths: self.paths,
            omit_stages,
            omit_managed_fields: self.omit_managed_fields,
        }
    }
}

impl Rule {
    fn matches(&self, user: Option<&User>, info: &RequestInfo) -> bool {
        if !self.users.is_empty() && !user.is_some_and(|user| lists(&self.users, &user.name)) {
            return false;
        }
        let grouped = || user.is_some_and(|user| user.groups.iter().any(|group| lists(&self.user_groups, group)));
        if !self.user_groups.is_empty() && !grouped() {
            return false;
        }
        if !self.verbs.is_empty() && !lists(&self.verbs, &info.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource && self.about(info);
        }
        if !self.paths.is_empty() {
            let same = |spec: &String| match spec.strip_suffix('*') {
                Some(start) => info.path.starts_with(start),
                None => *spec == info.path,
            };
            return !info.is_resource && self.paths.iter().any(same);
        }
        true
    }

    fn about(&self, info: &RequestInfo) -> bool {
        if !self.namespaces.is_empty() && !lists(&self.namespaces, &info.namespace) {
            return false;
        }
        self.resources.is_empty() || self.resources.iter().any(|resources| resources.hold(info))
    }
}

impl Resources {
    fn hold(&self, info: &RequestInfo) -> bool {
        if self.group != info.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !lists(&self.resource_names, &info.name) {
            return false;
        }
        self.resources.iter().any(|spec| match spec.split_once('/') {
            None => spec == "*" || (info.subresource.is_empty() && *spec == info.resource),
            Some(("*", subresource)) => subresource == info.subresource && !subresource.is_empty(),
            Some((resource, "*")) => resource == info.resource,
            Some((resource, subresource)) => resource == info.resource && subresource == info.subresource,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::road::received::Query;
    use api::json::json;

    fn read(file: &Value) -> Result<(Policy, Vec<String>), PolicyError> {
        Policy::read(file.to_string().as_bytes())
    }

    fn policy(rules: &Value) -> Policy {
        read(&json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules})).unwrap().0
    }

    fn judge(policy: &Policy, user: &str, method: &str, path: &str) -> Level {
        let user = User::new(user, &["system:authenticated"]);
        policy.judge(Some(&user), &RequestInfo::parse(method, path, &Query::parse(""))).level
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = policy(&json!([
            {"level": "None", "users": ["system:kube-proxy"], "verbs": ["watch"]},
            {"level": "None", "nonResourceURLs": ["/healthz*", "/version"]},
            {"level": "RequestResponse", "resources": [{"resources": ["pods/*"]}]},
            {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "configmaps"]}], "namespaces": ["a"]},
            {"level": "Request", "resources": [{"group": "apps"}]},
            {"level": "Metadata", "resources": [{"group": "*", "resources": ["*/status"]}]},
            {"level": "Request", "userGroups": ["system:masters"]},
            {"level": "Metadata", "resources": [{"resources": ["pods"], "resourceNames": ["x"]}]},
        ]));
        for (user, method, path, level) in [
            ("system:kube-proxy", "GET", "/api/v1/watch/services", Level::None),
            ("u", "GET", "/healthz/etcd", Level::None),
            ("u", "GET", "/versions", Level::None),
            ("u", "GET", "/api/v1/namespaces/a/pods/p/log", Level::RequestResponse),
            ("u", "GET", "/api/v1/namespaces/a/pods/p", Level::RequestResponse),
            ("u", "GET", "/api/v1/namespaces/a/secrets/s", Level::Metadata),
            ("u", "GET", "/api/v1/namespaces/b/secrets/s", Level::None),
            ("u", "PUT", "/apis/apps/v1/namespaces/b/deployments/d/scale", Level::Request),
            ("u", "PUT", "/apis/batch/v1/namespaces/b/jobs/j/status", Level::Metadata),
            ("u", "PUT", "/apis/batch/v1/namespaces/b/jobs/j", Level::None),
        ] {
            assert_eq!(judge(&policy, user, method, path), level, "{user} {method} {path}");
        }
    }

    #[test]
    fn what_is_left_out_is_the_policys_and_the_rules() {
        let file = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "omitManagedFields": true, "rules": [
                {"level": "Metadata", "verbs": ["get"], "omitStages": ["ResponseStarted"], "omitManagedFields": false},
                {"level": "Metadata"}]});
        let (policy, unknown) = read(&file).unwrap();
        assert_eq!(unknown, [""; 0]);
        let verdict = |method| policy.judge(None, &RequestInfo::parse(method, "/x", &Query::parse("")));
        let get = verdict("GET");
        assert_eq!((get.omit, get.omit_managed_fields), (vec![Stage::RequestReceived, Stage::ResponseStarted], false));
        let post = verdict("POST");
        assert_eq!((post.omit, post.omit_managed_fields), (vec![Stage::RequestReceived], true));
    }

    #[test]
    fn a_policy_that_cannot_be_meant_is_refused() {
        let head = |rules: Value| json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules});
        for (file, words) in [
            (
                json!({"apiVersion": "v1", "kind": "Policy", "rules": [{"level": "None"}]}),
                "unknown group version field v1",
            ),
            (json!({"rules": [{"level": "None"}]}), "unknown group version field"),
            (head(json!([])), "loaded illegal policy with 0 rules"),
            (head(json!("all")), "failed decoding"),
            (
                head(json!([{"level": "Everything"}])),
                "rules[0].level: Unsupported value: \"Everything\": supported values: \"Metadata\", \"None\", \"Request\", \"RequestResponse\"",
            ),
            (head(json!([{}])), "rules[0].level: Required value"),
            (
                head(json!([{"level": "None", "nonResourceURLs": ["healthz"]}])),
                "rules[0].nonResourceURLs[0]: Invalid value: \"healthz\": non-resource URL rules must begin with a '/' character",
            ),
            (head(json!([{"level": "None", "nonResourceURLs": ["/a*b"]}])), "must be the final character of the rule"),
            (head(json!([{"level": "None", "nonResourceURLs": ["/a**"]}])), "must be the final character of the rule"),
            (
                head(json!([{"level": "None", "nonResourceURLs": ["/a"], "namespaces": ["x"]}])),
                "rules[0].nonResourceURLs: Invalid value: [\"/a\"]: rules cannot apply to both regular resources and non-resource URLs",
            ),
            (
                head(json!([{"level": "None", "resources": [{"group": "apps/v1"}]}])),
                "rules[0].resources.group: Invalid value",
            ),
            (
                head(json!([{"level": "None", "resources": [{"resourceNames": ["a"]}]}])),
                "rules[0].resources.resourceNames: Invalid value: [\"a\"]: using resourceNames requires at least one resource",
            ),
            (
                head(json!([{"level": "None", "omitStages": ["Never"]}])),
                "rules[0].omitStages[0]: Invalid value: \"Never\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
            ),
        ] {
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(words), "{file}: {error}");
        }
    }

    #[test]
    fn what_a_policy_says_and_nobody_knows_is_told() {
        let file = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "more": 1, "rules": [
            {"level": "None", "user": ["a"], "resources": [{"group": "", "resource": ["pods"]}]}]});
        let told = read(&file).unwrap().1;
        let want = ["more", "rules[0].user", "rules[0].resources[0].resource"];
        assert_eq!(told, want.map(|field| format!("unknown field \"{field}\"")));
    }
}
