//! Tokens of issuers beyond the cluster (OpenID Connect, and every other that publishes its keys): signature, dates and audience,
//! then what the claims say about the user.
//!
//! An issuer is asked for its keys when its first token comes, and again when a token names a key that is not there. Source: KEP-3331,
//! OpenID Connect Core 1.0. Tokens signed with ES512 are refused: the crypto library at hand verifies none.

mod config;
mod keys;
mod mapping;

pub use config::{
    Anonymous, AnonymousCondition, Claim, ClaimMappings, ClaimRule, Configuration, ExtraMapping, Flags, Issuer, Jwt,
    UserRule,
};

use super::remembered::Remembered;
use super::signature::{self, Scheme};
use super::tokens::base64url_decode;
use super::{Accepted, Authenticator, CREDENTIAL_ID, Remarks, Settings, SettingsError, User};
use crate::remote::Trust;
use api::json::{Map, Value};
use async_trait::async_trait;
use keys::{Fetch, Keys, Network};
use mapping::Mapping;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Seconds by which `nbf` may lie ahead.
const LEEWAY: i64 = 300;
/// Seconds for which a judgement is kept, as upstream's token cache keeps it.
const REMEMBER: i64 = 10;

/// What is believed of whom: from the file, or from the flags.
#[derive(Clone, Debug, Default)]
pub struct Issuers {
    /// The issuers.
    pub jwt: Vec<Jwt>,
    /// `--oidc-signing-algs`; all that are known where a file names the issuers.
    pub signing_algs: Option<Vec<String>>,
}

struct Tokens(Vec<Provider>);

pub(super) fn build(settings: &Settings) -> Result<Option<Box<dyn Authenticator>>, SettingsError> {
    let issuers = &settings.issuers;
    if issuers.jwt.is_empty() {
        return Ok(None);
    }
    let algorithms = algorithms(issuers.signing_algs.as_deref()).map_err(SettingsError::Issuers)?;
    let provider = |jwt: &Jwt| {
        let trust = Trust { authorities: jwt.issuer.certificate_authority.clone(), ..Trust::default() };
        Provider::new(jwt, &algorithms, Arc::new(Network(trust.config()?)))
    };
    let providers = issuers.jwt.iter().map(provider).collect::<Result<_, String>>().map_err(SettingsError::Issuers)?;
    Ok(Some(Box::new(Tokens(providers))))
}

fn algorithms(named: Option<&[String]>) -> Result<Vec<(&'static str, Scheme)>, String> {
    let Some(named) = named else { return Ok(signature::ALL.to_vec()) };
    let find = |name: &String| {
        let found = signature::ALL.iter().find(|(known, _)| *known == *name);
        found.copied().ok_or_else(|| format!("oidc: unsupported signing alg: {name:?}"))
    };
    named.iter().map(find).collect()
}

/// Where a part of a user comes from.
enum Source {
    Nowhere,
    Claim(String, String),
    Expression(Mapping),
}

impl Source {
    fn of(claim: &Claim) -> Result<Source, String> {
        Ok(if !claim.expression.is_empty() {
            Source::Expression(Mapping::claims(&claim.expression, false)?)
        } else if claim.claim.is_empty() {
            Source::Nowhere
        } else {
            Source::Claim(claim.claim.clone(), claim.prefix.clone().unwrap_or_default())
        })
    }
}

struct Provider {
    issuer: String,
    audiences: Vec<String>,
    algorithms: Vec<(&'static str, Scheme)>,
    keys: Keys,
    fetch: Arc<dyn Fetch>,
    username: Source,
    groups: Source,
    uid: Source,
    extra: Vec<(String, Mapping)>,
    required: Vec<(String, String)>,
    rules: Vec<(Mapping, String)>,
    user_rules: Vec<(Mapping, String)>,
    known: Remembered<User>,
}

impl Provider {
    fn new(jwt: &Jwt, algorithms: &[(&'static str, Scheme)], fetch: Arc<dyn Fetch>) -> Result<Provider, String> {
        let mappings = &jwt.claim_mappings;
        let rules = &jwt.claim_validation_rules;
        let with_expression = rules.iter().filter(|rule| !rule.expression.is_empty());
        let with_claim = rules.iter().filter(|rule| !rule.claim.is_empty());
        let user_rule = |rule: &UserRule| {
            Ok((Mapping::compile(&mapping::user_environment(), &rule.expression, true)?, rule.message.clone()))
        };
        Ok(Provider {
            issuer: jwt.issuer.url.clone(),
            audiences: jwt.issuer.audiences.clone(),
            algorithms: algorithms.to_vec(),
            keys: Keys::new(&jwt.issuer.url, &jwt.issuer.discovery_url, Arc::clone(&fetch)),
            fetch,
            username: Source::of(&mappings.username)?,
            groups: Source::of(&mappings.groups)?,
            uid: Source::of(&mappings.uid)?,
            extra: mappings
                .extra
                .iter()
                .map(|extra| Ok((extra.key.clone(), Mapping::claims(&extra.value_expression, false)?)))
                .collect::<Result<_, String>>()?,
            required: with_claim.map(|rule| (rule.claim.clone(), rule.required_value.clone())).collect(),
            rules: with_expression
                .map(|rule| Ok((Mapping::claims(&rule.expression, true)?, rule.message.clone())))
                .collect::<Result<_, String>>()?,
            user_rules: jwt.user_validation_rules.iter().map(user_rule).collect::<Result<_, String>>()?,
            known: Remembered::new(16_384),
        })
    }

    /// The claims of a token that holds now.
    async fn verified(&self, token: &str, now: i64) -> Result<Map, String> {
        let (message, signature) = token.rsplit_once('.').ok_or("malformed token")?;
        let (header, body) = message.split_once('.').ok_or("malformed token")?;
        let read = |part: &str| -> Option<Value> { api::json::from_slice(&base64url_decode(part)?).ok() };
        let header = read(header).ok_or("malformed jwt: the header cannot be read")?;
        let Some(Value::Object(claims)) = read(body) else { return Err("failed to unmarshal claims".to_owned()) };
        let whole = Value::Object(claims);
        let audiences = strings(whole.get("aud"));
        if !audiences.iter().any(|audience| self.audiences.contains(audience)) {
            return Err(format!("expected audience in {:?} got {audiences:?}", self.audiences));
        }
        let date = |claim: &str| whole.get(claim).and_then(Value::as_f64);
        #[allow(clippy::cast_precision_loss, reason = "Unix seconds")]
        let at = now as f64;
        match date("exp") {
            Some(exp) if exp >= at => {}
            exp => return Err(format!("token is expired (Token Expiry: {})", exp.unwrap_or_default())),
        }
        #[allow(clippy::cast_precision_loss, reason = "seconds")]
        if date("nbf").is_some_and(|nbf| nbf > at + LEEWAY as f64) {
            return Err("current time is before the nbf (not before) time".to_owned());
        }
        let name = api::value::text(&header, "alg");
        let algorithm = self.algorithms.iter().find(|(known, _)| *known == name);
        let Some((_, algorithm)) = algorithm else {
            return Err(format!("id token signed with unsupported algorithm {name:?}"));
        };
        let id = Some(api::value::text(&header, "kid")).filter(|id| !id.is_empty());
        self.keys.verify(id, *algorithm, message, signature).await?;
        match whole {
            Value::Object(claims) => Ok(claims),
            _ => Err("failed to unmarshal claims".to_owned()),
        }
    }

    async fn judge(&self, token: &str, now: i64) -> Result<(User, i64), String> {
        let mut claims = self.verified(token, now).await.map_err(|why| format!("oidc: verify token: {why}"))?;
        self.expand(&mut claims, now)
            .await
            .map_err(|why| format!("oidc: could not expand distributed claims: {why}"))?;
        #[allow(clippy::cast_possible_truncation, reason = "saturates")]
        let until = claims.get("exp").and_then(Value::as_f64).unwrap_or_default() as i64;
        let user = self.user(&claims)?;
        Ok((user, until))
    }

    /// A claim of groups that lies elsewhere is fetched from there (OpenID Connect Core, 5.6.2). The token found there must be this
    /// issuer's.
    async fn expand(&self, claims: &mut Map, now: i64) -> Result<(), String> {
        let Source::Claim(wanted, _) = &self.groups else { return Ok(()) };
        if claims.contains_key(wanted) {
            return Ok(());
        }
        let Some(source) = claims.get("_claim_names").and_then(|names| names.get(wanted)).and_then(Value::as_str)
        else {
            return Ok(());
        };
        let Some(sources) = claims.get("_claim_sources") else { return Err("oidc: no claim sources".to_owned()) };
        let place = sources
            .get(source)
            .ok_or_else(|| format!("id token _claim_names contained a source {source} missing in _claims_sources"))?;
        let endpoint = api::value::text(place, "endpoint");
        if endpoint.is_empty() {
            return Ok(());
        }
        if !endpoint.starts_with("https://") {
            return Err(format!("the endpoint {endpoint:?} is not https"));
        }
        let bearer = Some(api::value::text(place, "access_token")).filter(|token| !token.is_empty());
        let said = |why: String| format!("while getting distributed claim {wanted:?}: {why}");
        let body = self.fetch.get(endpoint, bearer).await.map_err(said)?;
        let token = String::from_utf8(body).map_err(|error| error.to_string())?;
        let token = token.trim().trim_matches('"');
        if issuer(token).as_deref() != Some(&self.issuer) {
            return Err("the distributed claim comes from another issuer".to_owned());
        }
        let found = self.verified(token, now).await.map_err(|why| format!("verify distributed claim token: {why}"))?;
        let value = found.get(wanted).ok_or_else(|| {
            format!("jwt returned by distributed claim endpoint {endpoint:?} did not contain claim: {wanted}")
        })?;
        claims.insert(wanted.clone(), value.clone());
        Ok(())
    }

    fn user(&self, claims: &Map) -> Result<User, String> {
        let whole = Value::Object(claims.clone());
        let shown = mapping::shown(&whole);
        let mut user = User { name: self.name(claims, &shown)?, ..User::default() };
        user.groups = match &self.groups {
            Source::Nowhere => Vec::new(),
            Source::Claim(claim, prefix) => match claims.get(claim) {
                None => Vec::new(),
                Some(value) => {
                    let groups = text_or_texts(value).ok_or_else(|| {
                        format!("oidc: parse groups claim {claim:?}: json: cannot unmarshal into a list of strings")
                    })?;
                    groups.into_iter().map(|group| format!("{prefix}{group}")).collect()
                }
            },
            Source::Expression(mapping) => {
                mapping.texts(&shown).map_err(|why| format!("oidc: error evaluating group claim expression: {why}"))?
            }
        };
        user.uid = match &self.uid {
            Source::Nowhere => String::new(),
            Source::Claim(claim, _) => {
                text(claims, claim).map_err(|why| format!("oidc: parse uid claim {claim:?}: {why}"))?
            }
            Source::Expression(mapping) => mapping
                .text(&shown, "uid")
                .map_err(|why| format!("oidc: error evaluating uid claim expression: {why}"))?,
        };
        if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()) {
            user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
        }
        for (key, mapping) in &self.extra {
            let values = mapping
                .texts(&shown)
                .map_err(|why| format!("oidc: error evaluating extra claim expression: {}: {why}", mapping.source))?;
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        for (claim, wanted) in &self.required {
            if !claims.contains_key(claim) {
                return Err(format!("oidc: required claim {claim} not present in ID token"));
            }
            let got = text(claims, claim).map_err(|why| format!("oidc: parse claim {claim}: {why}"))?;
            if got != *wanted {
                return Err(format!("oidc: required claim {claim} value does not match. Got = {got}, want = {wanted}"));
            }
        }
        for (rule, message) in &self.rules {
            rule.holds_for_claims(&shown, message)
                .map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))?;
        }
        for (rule, message) in &self.user_rules {
            rule.holds_for_user(&user, message)
                .map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))?;
        }
        Ok(user)
    }

    fn name(&self, claims: &Map, shown: &Value) -> Result<String, String> {
        match &self.username {
            Source::Nowhere => Err("oidc: no claim names the user".to_owned()),
            Source::Claim(claim, prefix) => {
                let name =
                    text(claims, claim).map_err(|why| format!("oidc: parse username claims {claim:?}: {why}"))?;
                if claim == "email" {
                    match claims.get("email_verified") {
                        None | Some(Value::Bool(true)) => {}
                        Some(Value::Bool(false)) => return Err("oidc: email not verified".to_owned()),
                        Some(_) => return Err("oidc: parse 'email_verified' claim: it is no bool".to_owned()),
                    }
                }
                Ok(format!("{prefix}{name}"))
            }
            Source::Expression(mapping) => {
                let name = mapping
                    .text(shown, "username")
                    .map_err(|why| format!("oidc: error evaluating username claim expression: {why}"))?;
                if name.is_empty() {
                    return Err("oidc: empty username via CEL expression is not allowed".to_owned());
                }
                Ok(name)
            }
        }
    }
}

fn text(claims: &Map, name: &str) -> Result<String, String> {
    match claims.get(name) {
        None => Err("claim not present".to_owned()),
        Some(Value::String(text)) => Ok(text.into()),
        Some(_) => Err("json: cannot unmarshal into a string".to_owned()),
    }
}

fn text_or_texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.into()]),
        Value::Array(many) => many.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(text_or_texts).unwrap_or_default()
}

/// What an unverified token says about its issuer.
fn issuer(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_, body, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let claims: Value = api::json::from_slice(&base64url_decode(body)?).ok()?;
    match claims.get("iss")?.as_str()? {
        "accounts.google.com" => Some("https://accounts.google.com".to_owned()),
        issuer => Some(issuer.to_owned()),
    }
}

#[async_trait]
impl Authenticator for Tokens {
    async fn token(&self, token: &str, _: &[String], now: i64, _: &Remarks) -> Result<Option<Accepted>, String> {
        let Some(issuer) = issuer(token) else { return Ok(None) };
        let Some(provider) = self.0.iter().find(|provider| provider.issuer == issuer) else { return Ok(None) };
        let fingerprint = Sha256::digest(token.as_bytes()).into();
        let user = match provider.known.get(&fingerprint, now) {
            Some(user) => user,
            None => {
                let (user, until) = provider.judge(token, now).await?;
                provider.known.put(fingerprint, user.clone(), now, until.min(now.saturating_add(REMEMBER)));
                user
            }
        };
        Ok(Some(Accepted { user, audiences: Vec::new() }))
    }
}

#[cfg(test)]
mod tests;
