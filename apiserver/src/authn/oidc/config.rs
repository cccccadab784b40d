//! The file of `--authentication-config` and the `--oidc-*` flags: which issuers are believed and what their claims mean.
//!
//! Never asks an issuer. Source: KEP-3331; the sentences are upstream's.

use super::mapping::{Mapping, user_environment};
use crate::configuration;
use api::field_path::{Errors, FieldError, Path};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};

/// `AuthenticationConfiguration`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "upstream's fields")]
pub struct Configuration {
    pub jwt: Vec<Jwt>,
    pub anonymous: Option<Anonymous>,
}

/// Whether callers without credentials are let in, and on which paths (all when none is named).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "upstream's fields")]
pub struct Anonymous {
    pub enabled: bool,
    pub conditions: Vec<AnonymousCondition>,
}

/// A path, compared whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "upstream's fields")]
pub struct AnonymousCondition {
    pub path: String,
}

/// One issuer and what its tokens mean.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs, reason = "upstream's fields")]
pub struct Jwt {
    pub issuer: Issuer,
    pub claim_validation_rules: Vec<ClaimRule>,
    pub claim_mappings: ClaimMappings,
    pub user_validation_rules: Vec<UserRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs, reason = "upstream's fields")]
pub struct Issuer {
    pub url: String,
    #[serde(rename = "discoveryURL")]
    pub discovery_url: String,
    /// PEM.
    pub certificate_authority: String,
    pub audiences: Vec<String>,
    pub audience_match_policy: String,
    pub egress_selector_type: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs, reason = "upstream's fields")]
pub struct ClaimRule {
    pub claim: String,
    pub required_value: String,
    pub expression: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "upstream's fields")]
pub struct ClaimMappings {
    pub username: Claim,
    pub groups: Claim,
    pub uid: Claim,
    pub extra: Vec<ExtraMapping>,
}

/// A claim by name, or an expression over all of them. `prefix` is of user names and groups alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "upstream's fields")]
pub struct Claim {
    pub claim: String,
    pub prefix: Option<String>,
    pub expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs, reason = "upstream's fields")]
pub struct ExtraMapping {
    pub key: String,
    pub value_expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "upstream's fields")]
pub struct UserRule {
    pub expression: String,
    pub message: String,
}

/// Versions in which the file may be written.
const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
/// The most issuers.
const MOST: usize = 64;

impl Configuration {
    /// Reads the file of `--authentication-config` and judges it.
    ///
    /// # Errors
    /// One sentence, all mistakes in it.
    pub fn parse(text: &[u8], own_issuers: &[String]) -> Result<Configuration, String> {
        let configuration: Configuration = configuration::parse(text, "AuthenticationConfiguration", &VERSIONS)?;
        configuration.judge(own_issuers)?;
        Ok(configuration)
    }

    /// Judges it, as read from a file or made from flags. `own_issuers` are those of service accounts.
    ///
    /// # Errors
    /// One sentence, all mistakes in it.
    pub fn judge(&self, own_issuers: &[String]) -> Result<(), String> {
        let errors = validate(self, own_issuers);
        match errors.as_slice() {
            [] => Ok(()),
            [one] => Err(format!("invalid authentication configuration: {one}")),
            many => {
                let many: Vec<String> = many.iter().map(ToString::to_string).collect();
                Err(format!("invalid authentication configuration: [{}]", many.join(", ")))
            }
        }
    }
}

/// The `--oidc-*` flags: one issuer whose claims are named.
#[derive(Clone, Debug)]
pub struct Flags {
    /// `--oidc-issuer-url`.
    pub issuer_url: String,
    /// `--oidc-client-id`.
    pub client_id: String,
    /// Content of `--oidc-ca-file`, PEM.
    pub ca: String,
    /// `--oidc-username-claim`; upstream's default is `sub`.
    pub username_claim: String,
    /// `--oidc-username-prefix`.
    pub username_prefix: String,
    /// `--oidc-groups-claim`.
    pub groups_claim: String,
    /// `--oidc-groups-prefix`.
    pub groups_prefix: String,
    /// `--oidc-signing-algs`; upstream's default is `RS256`.
    pub signing_algs: Vec<String>,
    /// `--oidc-required-claim`, each `key=value`.
    pub required_claims: BTreeMap<String, String>,
}

impl Default for Flags {
    fn default() -> Self {
        Flags {
            issuer_url: String::new(),
            client_id: String::new(),
            ca: String::new(),
            username_claim: "sub".to_owned(),
            username_prefix: String::new(),
            groups_claim: String::new(),
            groups_prefix: String::new(),
            signing_algs: vec!["RS256".to_owned()],
            required_claims: BTreeMap::new(),
        }
    }
}

impl From<&Flags> for Jwt {
    fn from(flags: &Flags) -> Jwt {
        // Without a prefix, names of an issuer are its own, but addresses are everybody's.
        let prefix = match flags.username_prefix.as_str() {
            "" if flags.username_claim != "email" => format!("{}#", flags.issuer_url),
            "-" => String::new(),
            given => given.to_owned(),
        };
        let claim = |claim: &str, prefix: &str| Claim {
            claim: claim.to_owned(),
            prefix: (!claim.is_empty()).then(|| prefix.to_owned()),
            expression: String::new(),
        };
        let rule = |(claim, value): (&String, &String)| ClaimRule {
            claim: claim.clone(),
            required_value: value.clone(),
            ..ClaimRule::default()
        };
        Jwt {
            issuer: Issuer {
                url: flags.issuer_url.clone(),
                certificate_authority: flags.ca.clone(),
                audiences: vec![flags.client_id.clone()],
                ..Issuer::default()
            },
            claim_validation_rules: flags.required_claims.iter().map(rule).collect(),
            claim_mappings: ClaimMappings {
                username: claim(&flags.username_claim, &prefix),
                groups: claim(&flags.groups_claim, &flags.groups_prefix),
                ..ClaimMappings::default()
            },
            user_validation_rules: Vec::new(),
        }
    }
}

fn validate(configuration: &Configuration, own_issuers: &[String]) -> Errors {
    let mut errors = Errors::new();
    let root = Path::new("jwt");
    if configuration.jwt.len() > MOST {
        errors.push(FieldError::too_many(&root, configuration.jwt.len(), MOST));
        return errors;
    }
    let (mut issuers, mut discoveries) = (HashSet::new(), HashSet::new());
    for (at, jwt) in configuration.jwt.iter().enumerate() {
        let path = root.index(at);
        validate_issuer(&jwt.issuer, own_issuers, &path.child("issuer"), &mut errors);
        validate_claim_rules(&jwt.claim_validation_rules, &path.child("claimValidationRules"), &mut errors);
        validate_mappings(jwt, &path.child("claimMappings"), &mut errors);
        validate_user_rules(&jwt.user_validation_rules, &path.child("userValidationRules"), &mut errors);
        let issuer = &jwt.issuer;
        if !issuers.insert(&issuer.url) {
            errors.push(FieldError::duplicate(&path.child("issuer").child("url"), issuer.url.clone()));
        }
        if !issuer.discovery_url.is_empty() && !discoveries.insert(&issuer.discovery_url) {
            let path = path.child("issuer").child("discoveryURL");
            errors.push(FieldError::duplicate(&path, issuer.discovery_url.clone()));
        }
    }
    if let Some(anonymous) = &configuration.anonymous
        && !anonymous.enabled
        && !anonymous.conditions.is_empty()
    {
        let paths: Vec<&str> = anonymous.conditions.iter().map(|condition| condition.path.as_str()).collect();
        let path = Path::new("anonymous").child("conditions");
        errors.push(FieldError::invalid(&path, paths, "enabled should be set to true when conditions are defined"));
    }
    errors
}

fn validate_issuer(issuer: &Issuer, own: &[String], path: &Path, errors: &mut Errors) {
    let at = path.child("url");
    if issuer.url.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        if own.contains(&issuer.url) {
            let why = format!("URL must not overlap with disallowed issuers: [{}]", own.join(" "));
            errors.push(FieldError::invalid(&at, issuer.url.clone(), why));
        }
        validate_url(&issuer.url, &at, errors);
    }
    if !issuer.discovery_url.is_empty() {
        let at = path.child("discoveryURL");
        if !issuer.url.is_empty() && issuer.url.trim_end_matches('/') == issuer.discovery_url.trim_end_matches('/') {
            let why = "discoveryURL must be different from URL";
            errors.push(FieldError::invalid(&at, issuer.discovery_url.clone(), why));
        }
        validate_url(&issuer.discovery_url, &at, errors);
    }
    validate_audiences(issuer, path, errors);
    let trust = crate::remote::Trust { authorities: issuer.certificate_authority.clone(), ..Default::default() };
    if !issuer.certificate_authority.is_empty()
        && let Err(why) = trust.config()
    {
        errors.push(FieldError::invalid(&path.child("certificateAuthority"), "<omitted>", why));
    }
    if !issuer.egress_selector_type.is_empty() {
        let why = "egress selectors are not supported: this server has no egress configuration";
        errors.push(FieldError::invalid(&path.child("egressSelectorType"), issuer.egress_selector_type.clone(), why));
    }
}

fn validate_audiences(issuer: &Issuer, path: &Path, errors: &mut Errors) {
    let at = path.child("audiences");
    if issuer.audiences.is_empty() {
        errors.push(FieldError::required(&at, format!("at least one {at} is required")));
        return;
    }
    let mut seen = HashSet::new();
    for (index, audience) in issuer.audiences.iter().enumerate() {
        if audience.is_empty() {
            errors.push(FieldError::required(&at.index(index), ""));
        }
        if !seen.insert(audience) {
            errors.push(FieldError::duplicate(&at.index(index), audience.clone()));
        }
    }
    let policy = issuer.audience_match_policy.as_str();
    let why = match issuer.audiences.len() {
        1 if policy.is_empty() || policy == "MatchAny" => return,
        1 => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ if policy == "MatchAny" => return,
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    errors.push(FieldError::invalid(&path.child("audienceMatchPolicy"), policy, why));
}

fn validate_url(url: &str, path: &Path, errors: &mut Errors) {
    let mut wrong = |why: &str| errors.push(FieldError::invalid(path, url, why));
    if !url.starts_with("https://") {
        wrong("URL scheme must be https");
    }
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        wrong("URL must not contain a username or password");
    }
    if url.split('#').next().unwrap_or_default().split_once('?').is_some_and(|(_, query)| !query.is_empty()) {
        wrong("URL must not contain a query");
    }
    if url.split_once('#').is_some_and(|(_, fragment)| !fragment.is_empty()) {
        wrong("URL must not contain a fragment");
    }
}

fn compile(source: &str, boolean: bool, path: &Path, errors: &mut Errors) {
    if let Err(why) = Mapping::claims(source, boolean) {
        errors.push(FieldError::invalid(path, source, why));
    }
}

fn validate_claim_rules(rules: &[ClaimRule], path: &Path, errors: &mut Errors) {
    let (mut claims, mut expressions) = (HashSet::new(), HashSet::new());
    for (at, rule) in rules.iter().enumerate() {
        let path = path.index(at);
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => errors.push(FieldError::required(&path, "claim or expression is required")),
            (claim, "") => {
                if !rule.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.push(FieldError::invalid(&path.child("message"), rule.message.clone(), why));
                }
                if !claims.insert(claim) {
                    errors.push(FieldError::duplicate(&path.child("claim"), claim));
                }
            }
            ("", expression) => {
                if !rule.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    errors.push(FieldError::invalid(&path.child("requiredValue"), rule.required_value.clone(), why));
                }
                if expressions.insert(expression) {
                    compile(expression, true, &path.child("expression"), errors);
                } else {
                    errors.push(FieldError::duplicate(&path.child("expression"), expression));
                }
            }
            (claim, _) => errors.push(FieldError::invalid(&path, claim, "claim and expression can't both be set")),
        }
    }
}

fn validate_claim(claim: &Claim, required: bool, path: &Path, errors: &mut Errors) {
    match (claim.claim.as_str(), claim.expression.as_str()) {
        ("", "") if required => errors.push(FieldError::required(path, "claim or expression is required")),
        ("", "") => {}
        ("", expression) => {
            if let Some(prefix) = &claim.prefix {
                let why = "may not be specified when expression is set";
                errors.push(FieldError::invalid(&path.child("prefix"), prefix.clone(), why));
            }
            compile(expression, false, &path.child("expression"), errors);
        }
        (_, "") => {
            if claim.prefix.is_none() {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                errors.push(FieldError::required(&path.child("prefix"), why));
            }
        }
        _ => errors.push(FieldError::invalid(path, "", "claim and expression can't both be set")),
    }
}

fn validate_mappings(jwt: &Jwt, path: &Path, errors: &mut Errors) {
    let mappings = &jwt.claim_mappings;
    validate_claim(&mappings.username, true, &path.child("username"), errors);
    validate_claim(&mappings.groups, false, &path.child("groups"), errors);
    let uid = Claim { prefix: (!mappings.uid.claim.is_empty()).then(String::new), ..mappings.uid.clone() };
    validate_claim(&uid, false, &path.child("uid"), errors);
    let mut seen = HashSet::new();
    for (at, extra) in mappings.extra.iter().enumerate() {
        let path = path.child("extra").index(at);
        validate_key(&extra.key, &path.child("key"), errors);
        if !seen.insert(&extra.key) {
            errors.push(FieldError::duplicate(&path.child("key"), extra.key.clone()));
        } else if extra.value_expression.is_empty() {
            errors.push(FieldError::required(&path.child("valueExpression"), ""));
        } else {
            compile(&extra.value_expression, false, &path.child("valueExpression"), errors);
        }
    }
    let username = mappings.username.expression.as_str();
    let rules = jwt.claim_validation_rules.iter().map(|rule| rule.expression.as_str());
    let mut all = mappings.extra.iter().map(|extra| extra.value_expression.as_str()).chain(rules).chain([username]);
    if selects(username, "email") && !all.any(|source| selects(source, "email_verified")) {
        let why = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";
        errors.push(FieldError::invalid(&path.child("username").child("expression"), username, why));
    }
}

/// The expression reads this field of the claims, by its name.
fn selects(source: &str, field: &str) -> bool {
    let text: String = source.chars().filter(|c| !c.is_whitespace()).collect();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    [format!("claims.{field}"), format!("claims.?{field}")].iter().any(|wanted| {
        text.match_indices(wanted.as_str()).any(|(at, _)| {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let after = text.get(at + wanted.len()..).and_then(|text| text.chars().next());
            !before.is_some_and(|c| word(c) || c == '.') && !after.is_some_and(word)
        })
    })
}

fn validate_key(key: &str, path: &Path, errors: &mut Errors) {
    if key.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let domain = match key.split_once('/') {
        Some((domain, name)) if !domain.is_empty() && !name.is_empty() => domain,
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(path, key, why));
            return;
        }
    };
    if key.chars().any(char::is_uppercase) {
        errors.push(FieldError::invalid(path, key, "must be lowercase"));
    }
    if ["kubernetes.io", "k8s.io"].iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}"))) {
        let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
        errors.push(FieldError::invalid(path, key, why));
    }
}

fn validate_user_rules(rules: &[UserRule], path: &Path, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (at, rule) in rules.iter().enumerate() {
        let path = path.index(at).child("expression");
        if rule.expression.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if !seen.insert(&rule.expression) {
            errors.push(FieldError::duplicate(&path, rule.expression.clone()));
        } else if let Err(why) = Mapping::compile(&user_environment(), &rule.expression, true) {
            errors.push(FieldError::invalid(&path, rule.expression.clone(), why));
        }
    }
}
