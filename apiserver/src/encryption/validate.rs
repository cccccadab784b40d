//! What an encryption configuration must be, with upstream's sentences
//! (`apiserver/pkg/apis/apiserver/validation/validation_encryption.go`).
//!
//! Never opens a file or a socket.

use super::config::{Configuration, Key, Kms, Provider};
use super::resource::Selector;
use api::field_path::{Errors, FieldError, Path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashSet;

/// Bytes that a key of AES may have.
const AES: &[usize] = &[16, 24, 32];
/// Bytes that a key of secretbox has.
const SECRETBOX: &[usize] = &[32];

/// All that is wrong; `reload` says that the file is read again while the server runs.
pub(crate) fn validate(configuration: &Configuration, reload: bool) -> Errors {
    let root = Path::new("resources");
    let mut errors = Errors::new();
    if configuration.resources.is_empty() {
        errors.push(at_least_one(&root, &root.to_string()));
        return errors;
    }
    let mut names = HashSet::new();
    for (index, entry) in configuration.resources.iter().enumerate() {
        let at = root.index(index);
        let (resources, providers) = (at.child("resources"), at.child("providers"));
        if entry.resources.is_empty() {
            errors.push(at_least_one(&resources, &resources.to_string()));
        }
        overlaps(&entry.resources, &resources, &mut errors);
        for (index, resource) in entry.resources.iter().enumerate() {
            errors.extend(
                name_error(resource).map(|why| FieldError::invalid(&resources.index(index), resource.as_str(), why)),
            );
        }
        if entry.providers.is_empty() {
            errors.push(at_least_one(&providers, &providers.to_string()));
        }
        for (index, provider) in entry.providers.iter().enumerate() {
            let at = providers.index(index);
            single(provider, &at, &mut errors);
            if let Some(kms) = &provider.kms {
                kms_errors(kms, &at.child("kms"), &mut names, reload, &mut errors);
            } else if let Some(given) = &provider.aesgcm {
                keys(given, &at.child("aesgcm").child("keys"), AES, &mut errors);
            } else if let Some(given) = &provider.aescbc {
                keys(given, &at.child("aescbc").child("keys"), AES, &mut errors);
            } else if let Some(given) = &provider.secretbox {
                keys(given, &at.child("secretbox").child("keys"), SECRETBOX, &mut errors);
            }
        }
    }
    errors
}

fn at_least_one(field: &Path, what: &str) -> FieldError {
    FieldError::required(field, format!("at least one {what} is required"))
}

/// Resources of one list that hide each other.
fn overlaps(resources: &[String], field: &Path, errors: &mut Errors) {
    let selectors: Vec<Selector> = resources.iter().map(|resource| Selector::parse(resource)).collect();
    let pairs = || {
        selectors
            .iter()
            .enumerate()
            .flat_map(|(i, a)| selectors.iter().enumerate().filter(move |(j, _)| i != *j).map(move |(_, b)| (a, b)))
    };
    let shown = || api::json::json!(resources);
    // Upstream takes the first equal pair for a duplicate and every further one for an overlap.
    let mut twice = false;
    let mut hidden = false;
    for (a, b) in pairs() {
        if a == b && !twice {
            twice = true;
        } else if a.is_everything() || (a.group == b.group && (a.resource == "*" || b.resource == "*")) {
            hidden = true;
        }
    }
    if twice {
        errors.push(FieldError::invalid(field, shown(), "the same resource cannot be specified multiple times"));
    }
    if hidden {
        errors.push(FieldError::invalid(
            field,
            shown(),
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked",
        ));
    }
}

fn name_error(resource: &str) -> Option<&'static str> {
    if resource.to_lowercase() != resource {
        return Some("resource name should not contain capital letters");
    }
    if resource == "*" {
        return Some("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources");
    }
    if matches!(resource, "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations") {
        return Some("resources which do not have REST API/s cannot be encrypted");
    }
    let selector = Selector::parse(resource);
    match selector.group.as_str() {
        "events.k8s.io" => Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        ),
        "extensions" => Some("'extensions' group has been removed and cannot be used for encryption"),
        "*" if selector.resource != "*" => Some("encrypting the same resource across groups is not supported"),
        _ => None,
    }
}

fn single(provider: &Provider, field: &Path, errors: &mut Errors) {
    let found = [
        provider.kms.is_some(),
        provider.aesgcm.is_some(),
        provider.aescbc.is_some(),
        provider.secretbox.is_some(),
        provider.identity,
    ];
    let why = match found.iter().filter(|found| **found).count() {
        0 => "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
        1 => return,
        _ => "more than one provider specified in a single element, should split into different list elements",
    };
    // The value would show keys.
    errors.push(FieldError::invalid(field, "REDACTED", why));
}

fn keys(keys: &[Key], field: &Path, lengths: &[usize], errors: &mut Errors) {
    if keys.is_empty() {
        errors.push(at_least_one(field, "keys"));
    }
    for (index, key) in keys.iter().enumerate() {
        let at = field.index(index);
        if key.name.is_empty() {
            errors.push(mandatory(&at.child("name"), "name", "key"));
        }
        let at = at.child("secret");
        if key.secret.is_empty() {
            errors.push(mandatory(&at, "secret", "key"));
            continue;
        }
        let Ok(secret) = STANDARD.decode(&key.secret) else {
            errors.push(FieldError::invalid(&at, "REDACTED", "secrets must be base64 encoded"));
            continue;
        };
        if !lengths.contains(&secret.len()) {
            let expected = lengths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let why =
                format!("secret is not of the expected length, got {}, expected one of [{expected}]", secret.len());
            errors.push(FieldError::invalid(&at, "REDACTED", why));
        }
    }
}

fn mandatory(field: &Path, what: &str, of: &str) -> FieldError {
    FieldError::required(field, format!("{what} is a mandatory field for a {of}"))
}

fn kms_errors(kms: &Kms, field: &Path, names: &mut HashSet<String>, reload: bool, errors: &mut Errors) {
    let name = field.child("name");
    let first_version = kms.api_version == "v1";
    if kms.name.is_empty() {
        errors.push(mandatory(&name, "name", "provider"));
    }
    if !first_version && kms.name.contains(':') {
        let why = format!("invalid KMS provider name {}, must not contain ':'", kms.name);
        errors.push(FieldError::invalid(&name, kms.name.as_str(), why));
    }
    let known = !names.insert(kms.name.clone());
    if known && (reload || !first_version) {
        let why = format!("duplicate KMS provider name {}, names must be unique", kms.name);
        errors.push(FieldError::invalid(&name, kms.name.as_str(), why));
    }
    if kms.timeout <= 0 {
        let shown = format!("{}s", kms.timeout / 1_000_000_000);
        errors.push(FieldError::invalid(&field.child("timeout"), shown, "timeout should be a positive value"));
    }
    let endpoint = field.child("endpoint");
    match kms.endpoint.split_once(':') {
        _ if kms.endpoint.is_empty() => {
            errors.push(FieldError::invalid(&endpoint, "", "endpoint is a mandatory field for a kms"));
        }
        Some(("", _)) => {
            let why =
                format!("invalid endpoint for kms provider, error: parse {:?}: missing protocol scheme", kms.endpoint);
            errors.push(FieldError::invalid(&endpoint, kms.endpoint.as_str(), why));
        }
        Some(("unix", _)) => {}
        other => {
            let scheme = other.map_or("", |(scheme, _)| scheme);
            let why = format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
            errors.push(FieldError::invalid(&endpoint, kms.endpoint.as_str(), why));
        }
    }
    let size = field.child("cachesize");
    match kms.cache_size {
        Some(given) if !first_version => {
            errors.push(FieldError::invalid(&size, given, "cachesize is not supported in v2"));
        }
        Some(0) => {
            errors.push(FieldError::invalid(&size, 0, "cachesize should be a positive value, or negative to disable"));
        }
        _ => {}
    }
    if !matches!(kms.api_version.as_str(), "v1" | "v2") {
        // Upstream's sentence names the field where it means the value.
        let why = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported";
        errors.push(FieldError::invalid(&field.child("apiVersion"), kms.api_version.as_str(), why));
    }
}
