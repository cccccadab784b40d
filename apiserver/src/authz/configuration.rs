//! The file of `--authorization-config` and the flags that say the same: which authorizers, in which order.
//!
//! Never decides. Source: KEP-3221; the sentences are upstream's.

use super::webhook::Conditions;
use crate::configuration;
use api::field_path::{Errors, FieldError, Path};
use serde::Deserialize;
use std::collections::HashSet;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    authorizers: Vec<Entry>,
}

/// One authorizer of the row.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Entry {
    /// `Node`, `RBAC`, `Webhook`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// Its own name; that of its type where flags made it.
    pub name: String,
    /// Of a webhook.
    pub webhook: Option<WebhookEntry>,
}

/// How a webhook is asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WebhookEntry {
    /// How long a yes is kept.
    #[serde(rename = "authorizedTTL", deserialize_with = "configuration::duration")]
    pub authorized_ttl: Option<Duration>,
    /// Whether a yes is kept at all; it is unless the file says no.
    pub cache_authorized_requests: Option<bool>,
    /// How long anything else is kept.
    #[serde(rename = "unauthorizedTTL", deserialize_with = "configuration::duration")]
    pub unauthorized_ttl: Option<Duration>,
    /// Whether that is kept at all.
    pub cache_unauthorized_requests: Option<bool>,
    /// Patience with one answer.
    #[serde(deserialize_with = "configuration::duration")]
    pub timeout: Option<Duration>,
    /// `v1` or `v1beta1`.
    pub subject_access_review_version: String,
    /// `v1`.
    pub match_condition_subject_access_review_version: String,
    /// `NoOpinion` or `Deny`.
    pub failure_policy: String,
    /// Where it is.
    pub connection_info: ConnectionInfo,
    /// It is asked only where all of them hold.
    pub match_conditions: Vec<MatchCondition>,
}

/// Where a webhook is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectionInfo {
    /// `KubeConfigFile`; `InClusterConfig` is refused.
    #[serde(rename = "type")]
    pub kind: String,
    /// The file.
    pub kube_config_file: Option<PathBuf>,
}

/// An expression.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MatchCondition {
    /// Over `request`, a SubjectAccessReview's `spec`.
    pub expression: String,
}

/// Upstream's names of authorizers, in the order in which it lists them.
const TYPES: [&str; 6] = ["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
/// The most conditions of one webhook.
const MOST_CONDITIONS: usize = 64;

/// Reads the file of `--authorization-config`.
///
/// # Errors
/// One sentence, all mistakes in it.
pub fn parse(text: &[u8]) -> Result<Vec<Entry>, String> {
    let mut file: File = configuration::parse(text, "AuthorizationConfiguration", &VERSIONS)?;
    for webhook in file.authorizers.iter_mut().filter_map(|entry| entry.webhook.as_mut()) {
        webhook.authorized_ttl.get_or_insert(Duration::from_secs(300));
        webhook.unauthorized_ttl.get_or_insert(Duration::from_secs(30));
    }
    let errors = validate(&file.authorizers);
    if errors.is_empty() {
        return Ok(file.authorizers);
    }
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Err(match errors.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    })
}

/// The `--authorization-webhook-*` flags as an entry.
#[must_use]
pub fn webhook_by_flags(
    file: &FilePath,
    version: &str,
    authorized_ttl: Duration,
    unauthorized_ttl: Duration,
) -> WebhookEntry {
    WebhookEntry {
        authorized_ttl: Some(authorized_ttl),
        unauthorized_ttl: Some(unauthorized_ttl),
        timeout: Some(Duration::from_secs(30)),
        subject_access_review_version: version.to_owned(),
        failure_policy: "NoOpinion".to_owned(),
        connection_info: ConnectionInfo { kind: "KubeConfigFile".to_owned(), kube_config_file: Some(file.to_owned()) },
        ..WebhookEntry::default()
    }
}

fn validate(entries: &[Entry]) -> Errors {
    let mut errors = Errors::new();
    let root = Path::new("authorizers");
    if entries.is_empty() {
        errors.push(FieldError::required(&root, "at least one authorization mode must be defined"));
    }
    let (mut types, mut names) = (HashSet::new(), HashSet::new());
    for (at, entry) in entries.iter().enumerate() {
        let path = root.index(at);
        let kind = entry.kind.as_str();
        if kind.is_empty() {
            errors.push(FieldError::required(&path.child("type"), ""));
            continue;
        }
        if !TYPES.contains(&kind) {
            errors.push(FieldError::not_supported(&path.child("type"), kind, &TYPES));
            continue;
        }
        if !types.insert(kind) && kind != "Webhook" {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
            continue;
        }
        let name = entry.name.as_str();
        let subdomain = |part: &str| {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            ends(part.chars().next())
                && ends(part.chars().next_back())
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else if !names.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        } else if name.len() > 253 || !name.split('.').all(subdomain) {
            let why = "authorizer name is invalid: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
            errors.push(FieldError::invalid(&path.child("name"), name, why));
        }
        match (kind, &entry.webhook) {
            ("Webhook", None) => {
                errors.push(FieldError::required(&path.child("webhook"), "required when type=Webhook"));
            }
            ("Webhook", Some(webhook)) => validate_webhook(webhook, &path, &mut errors),
            (_, Some(_)) => {
                let why = "may only be specified when type=Webhook";
                errors.push(FieldError::invalid(&path.child("webhook"), "non-null", why));
            }
            (_, None) => {}
        }
    }
    errors
}

fn validate_webhook(webhook: &WebhookEntry, path: &Path, errors: &mut Errors) {
    let shown = |duration: Duration| format!("{}s", duration.as_secs_f64());
    match webhook.timeout {
        None | Some(Duration::ZERO) => errors.push(FieldError::required(&path.child("timeout"), "")),
        Some(timeout) if timeout > Duration::from_secs(30) => {
            errors.push(FieldError::invalid(&path.child("timeout"), shown(timeout), "must be > 0s and <= 30s"));
        }
        Some(_) => {}
    }
    for (name, ttl) in [("authorizedTTL", webhook.authorized_ttl), ("unauthorizedTTL", webhook.unauthorized_ttl)] {
        if ttl.is_none_or(|ttl| ttl.is_zero()) {
            errors.push(FieldError::required(&path.child(name), ""));
        }
    }
    let mut one_of = |field: &str, given: &str, allowed: &[&str], needed: Option<&str>| match (given, needed) {
        ("", Some(why)) => errors.push(FieldError::required(&path.child(field), why)),
        ("", None) => {}
        (given, _) if !allowed.contains(&given) => {
            errors.push(FieldError::not_supported(&path.child(field), given, allowed));
        }
        _ => {}
    };
    one_of("subjectAccessReviewVersion", &webhook.subject_access_review_version, &["v1", "v1beta1"], Some(""));
    let conditions = (!webhook.match_conditions.is_empty()).then_some("required if match conditions are specified");
    let version = &webhook.match_condition_subject_access_review_version;
    one_of("matchConditionSubjectAccessReviewVersion", version, &["v1"], conditions);
    one_of("failurePolicy", &webhook.failure_policy, &["NoOpinion", "Deny"], Some(""));
    let at = path.child("connectionInfo");
    let file = webhook.connection_info.kube_config_file.as_deref();
    match webhook.connection_info.kind.as_str() {
        "" => errors.push(FieldError::required(&at.child("type"), "")),
        "KubeConfigFile" => validate_file(file, &at.child("kubeConfigFile"), errors),
        "InClusterConfig" => {
            let why = "this server is no pod of a cluster: name a kubeconfig file";
            errors.push(FieldError::invalid(&at.child("type"), "InClusterConfig", why));
        }
        other => {
            errors.push(FieldError::not_supported(&at.child("type"), other, &["InClusterConfig", "KubeConfigFile"]));
        }
    }
    validate_conditions(&webhook.match_conditions, &path.child("matchConditions"), errors);
}

fn validate_file(file: Option<&FilePath>, at: &Path, errors: &mut Errors) {
    let Some(file) = file.filter(|file| !file.as_os_str().is_empty()) else {
        errors.push(FieldError::required(at, ""));
        return;
    };
    let why = match std::fs::metadata(file) {
        _ if !file.is_absolute() => "must be an absolute path".to_owned(),
        Err(error) => format!("error loading file: {error}"),
        Ok(found) if !found.is_file() => "must be a regular file".to_owned(),
        Ok(_) => return,
    };
    errors.push(FieldError::invalid(at, file.display().to_string(), why));
}

fn validate_conditions(conditions: &[MatchCondition], at: &Path, errors: &mut Errors) {
    if conditions.len() > MOST_CONDITIONS {
        errors.push(FieldError::too_many(at, conditions.len(), MOST_CONDITIONS));
        return;
    }
    let mut seen = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let at = at.index(index).child("expression");
        let expression = condition.expression.as_str();
        if expression.trim().is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if !seen.insert(expression) {
            errors.push(FieldError::duplicate(&at, expression));
        } else if let Err(why) = Conditions::compile(&[expression]) {
            errors.push(FieldError::invalid(&at, expression, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_judged() {
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kc");
        std::fs::write(&kubeconfig, "").unwrap();
        let read = |body: &str| {
            parse(
                format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n{body}").as_bytes(),
            )
        };
        let check = |body: &str, want: &str| {
            let why = read(body).err().unwrap_or_default();
            assert!(if want.is_empty() { why.is_empty() } else { why.contains(want) }, "{body}\n{why}\n{want}");
        };
        let hook = |name: &str, change: (&str, &str)| {
            let mut fields = vec![
                ("timeout", "3s".to_owned()),
                ("subjectAccessReviewVersion", "v1".to_owned()),
                ("failurePolicy", "NoOpinion".to_owned()),
                ("connectionInfo", format!("{{type: KubeConfigFile, kubeConfigFile: {}}}", kubeconfig.display())),
            ];
            fields.retain(|(field, _)| *field != change.0);
            if !change.1.is_empty() {
                fields.push((change.0, change.1.to_owned()));
            }
            let fields: Vec<String> = fields.iter().map(|(field, value)| format!("{field}: {value}")).collect();
            format!("- {{type: Webhook, name: {name}, webhook: {{{}}}}}\n", fields.join(", "))
        };
        let plain = hook("a", ("", ""));
        check("authorizers: []\n", "at least one authorization mode must be defined");
        check(&format!("authorizers:\n- {{type: Node, name: node}}\n- {{type: RBAC, name: rbac}}\n{plain}"), "");
        check(&format!("authorizers:\n{plain}{}", hook("b", ("", ""))), "");
        check(&format!("authorizers:\n{plain}{plain}"), "authorizers[1].name: Duplicate value: \"a\"");
        check(
            "authorizers:\n- {type: RBAC, name: a}\n- {type: RBAC, name: b}\n",
            "authorizers[1].type: Duplicate value: \"RBAC\"",
        );
        check("authorizers:\n- {type: Magic, name: a}\n", "authorizers[0].type: Unsupported value: \"Magic\"");
        check("authorizers:\n- {type: RBAC}\n", "authorizers[0].name: Required value");
        check("authorizers:\n- {type: RBAC, name: A}\n", "authorizer name is invalid");
        check("authorizers:\n- {type: Webhook, name: a}\n", "required when type=Webhook");
        check("authorizers:\n- {type: RBAC, name: a, webhook: {}}\n", "may only be specified when type=Webhook");
        for (change, want) in [
            (("timeout", ""), "authorizers[0].timeout: Required value"),
            (("timeout", "31s"), "must be > 0s and <= 30s"),
            (("authorizedTTL", "0s"), "authorizedTTL: Required value"),
            (("subjectAccessReviewVersion", "v2"), "Unsupported value: \"v2\": supported values: \"v1\", \"v1beta1\""),
            (("failurePolicy", "Allow"), "failurePolicy: Unsupported value"),
            (("connectionInfo", "{type: KubeConfigFile, kubeConfigFile: kc}"), "must be an absolute path"),
            (("connectionInfo", "{type: KubeConfigFile, kubeConfigFile: /}"), "must be a regular file"),
            (("connectionInfo", "{type: KubeConfigFile, kubeConfigFile: /no/such}"), "error loading file"),
            (("connectionInfo", "{type: InClusterConfig}"), "name a kubeconfig file"),
            (
                ("matchConditions", "[{expression: \"request.user == 'a'\"}]"),
                "required if match conditions are specified",
            ),
        ] {
            check(&format!("authorizers:\n{}", hook("a", change)), want);
        }
        let with = |conditions: &str| {
            let text = hook("a", ("matchConditions", conditions));
            format!(
                "authorizers:\n{}",
                text.replace("webhook: {", "webhook: {matchConditionSubjectAccessReviewVersion: v1, ")
            )
        };
        check(&with("[{expression: \"request.user == 'a'\"}]"), "");
        check(
            &with(
                "[{expression: \"has(request.resourceAttributes) && request.resourceAttributes.namespace == 'kube-system'\"}]",
            ),
            "",
        );
        check(&with("[{expression: request.user}]"), "must evaluate to bool");
        check(&with("[{expression: request.usr == 'a'}]"), "undefined field 'usr'");
        check(&with("[{expression: ''}]"), "matchConditions[0].expression: Required value");
    }
}
