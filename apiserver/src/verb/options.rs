//! What a request says in its query beside its selectors, checked together: `ListOptions` of reads, `CreateOptions`, `UpdateOptions`,
//! `PatchOptions` and `DeleteOptions` of writes.
//!
//! Never looks at objects. Source: upstream's API concepts and its `meta/v1` validation.

use crate::answer::Failure;
use crate::registry::read::{ListOptions, Version};
use crate::road::received::Query;
use api::codec::Strictness;
use api::continuation::Continue;
use api::field_path::{Errors, FieldError, Path};
use api::status::Status;

/// Reads the options of a list.
///
/// # Errors
/// 400 for a parameter that cannot be read, 422 for some that do not go together.
pub fn of_list(query: &Query) -> Result<ListOptions, Failure> {
    let limit = integer(query, "limit")?;
    integer(query, "timeoutSeconds")?;
    let token = query.get("continue").filter(|token| !token.is_empty());
    let text = query.get("resourceVersion").unwrap_or_default();
    let matching = query.get("resourceVersionMatch").unwrap_or_default();
    let mut errors = Errors::new();
    let field = Path::new(MATCH);
    if !matching.is_empty() {
        if text.is_empty() {
            let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(&field, detail));
        }
        if token.is_some() {
            errors.push(FieldError::forbidden(&field, NOT_WITH_CONTINUE));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported_as_listed(&field, matching, &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && text == "0" {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(&field, detail));
        }
    }
    if query.get(INITIAL).is_some() {
        errors.push(FieldError::forbidden(&Path::new(INITIAL), "sendInitialEvents is forbidden for list"));
    }
    refuse("ListOptions", &errors)?;
    let limit = limit.filter(|limit| *limit > 0).map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX));
    if let Some(token) = token {
        let from = Some(Continue::decode(token)?);
        if !matches!(text, "" | "0") {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue").into());
        }
        return Ok(ListOptions { version: Version::Consistent, limit, from });
    }
    let revision = revision(text);
    let unreadable = |why| Status::bad_request(format!("invalid resource version: {why}"));
    let version = match (matching, revision.map_err(unreadable)?) {
        (_, None) => Version::Consistent,
        (_, Some(0)) => Version::Any,
        ("Exact", Some(revision)) => Version::Exact(revision),
        ("", Some(revision)) if limit < usize::MAX => Version::Exact(revision),
        (_, Some(revision)) => Version::NotOlderThan(revision),
    };
    Ok(ListOptions { version, limit, from: None })
}

/// What a watch asks for beside its selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// Begin after this revision; `None` and 0 have meanings of their own.
    pub revision: Option<u64>,
    /// `sendInitialEvents`, if it was said at all.
    pub initial: Option<bool>,
    /// `timeoutSeconds`, when it limits.
    pub timeout: Option<u64>,
}

/// Reads the options of a watch.
///
/// # Errors
/// 400 for a parameter that cannot be read, 422 for some that do not go together.
pub fn of_watch(query: &Query) -> Result<WatchOptions, Failure> {
    let timeout = integer(query, "timeoutSeconds")?;
    let initial = query.get(INITIAL).map(|_| query.flag(INITIAL));
    let matching = query.get("resourceVersionMatch").unwrap_or_default();
    let mut errors = Errors::new();
    let field = Path::new(MATCH);
    let right = matching == "NotOlderThan";
    if initial.is_some() && !right {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(&field, detail));
    }
    if !matching.is_empty() {
        if initial.is_none() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(&field, detail));
        }
        if !right {
            errors.push(FieldError::not_supported(&field, matching, &["NotOlderThan"]));
        }
        if query.get("continue").is_some_and(|token| !token.is_empty()) {
            errors.push(FieldError::forbidden(&field, NOT_WITH_CONTINUE));
        }
    }
    refuse("ListOptions", &errors)?;
    Ok(WatchOptions {
        // Upstream forgets to say that it is the client's mistake.
        revision: revision(query.get("resourceVersion").unwrap_or_default())
            .map_err(|why| Status::foreign(500, "", why))?,
        initial,
        timeout: timeout.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0),
    })
}

/// What a write asks for in its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// Do everything but keep it.
    pub dry_run: bool,
    /// Who owns what is written; empty when the client does not say.
    pub manager: String,
    /// What becomes of unknown and duplicate fields.
    pub strictness: Strictness,
    /// An apply takes fields from other owners.
    pub force: bool,
}

/// Reads the options of a write. `options` is their kind (`CreateOptions`), `apply` says that the body is an applied configuration.
///
/// # Errors
/// 422 for words that the options do not know.
pub fn of_write(query: &Query, options: &str, apply: bool) -> Result<WriteOptions, Failure> {
    let mut errors = Errors::new();
    let manager = query.get("fieldManager").unwrap_or_default();
    let field = Path::new("fieldManager");
    if apply && manager.is_empty() {
        errors.push(FieldError::required(&field, "is required for apply patch"));
    }
    let force = query.get("force").is_some();
    if force && !apply && options == "PatchOptions" {
        errors.push(FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
    }
    if manager.len() > LONGEST_MANAGER {
        errors.push(FieldError::too_long(&field, LONGEST_MANAGER));
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| !api::quote::is_print(*c)) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.push(FieldError::invalid(&field, manager, why));
    }
    // An empty word is none that is known: what was meant as a trial is not done.
    let dry_run: Vec<&str> = query.all("dryRun").collect();
    if dry_run.iter().any(|word| *word != "All") {
        errors.push(FieldError::not_supported(&Path::new("dryRun"), dry_run.clone(), &["All"]));
    }
    let strictness = match query.get("fieldValidation").unwrap_or_default() {
        "" | "Warn" => Strictness::Warn,
        "Strict" => Strictness::Strict,
        "Ignore" => Strictness::Ignore,
        other => {
            let known = ["", "Ignore", "Strict", "Warn"];
            errors.push(FieldError::not_supported(&Path::new("fieldValidation"), other, &known));
            Strictness::Warn
        }
    };
    refuse(options, &errors)?;
    Ok(WriteOptions {
        dry_run: !dry_run.is_empty(),
        manager: manager.to_owned(),
        strictness,
        force: query.flag("force"),
    })
}

/// Bytes of a field manager.
const LONGEST_MANAGER: usize = 128;

const MATCH: &str = "resourceVersionMatch";
const INITIAL: &str = "sendInitialEvents";
const NOT_WITH_CONTINUE: &str = "resourceVersionMatch is forbidden when continue is provided";

fn refuse(options: &str, errors: &Errors) -> Result<(), Failure> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("meta.k8s.io", options, "", errors).into())
}

fn integer(query: &Query, name: &str) -> Result<Option<i64>, Failure> {
    query.get(name).filter(|text| !text.is_empty()).map(number).transpose()
}

/// A parameter that is a whole number.
///
/// # Errors
/// 400 in Go's words.
pub(super) fn number(text: &str) -> Result<i64, Failure> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why =
            if matches!(error.kind(), NegOverflow | PosOverflow) { "value out of range" } else { "invalid syntax" };
        Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}")).into()
    })
}

/// A `resourceVersion` as a number; `None` when empty, and otherwise what is wrong with it.
fn revision(text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = || {
        let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        FieldError::invalid(&Path::new("resourceVersion"), text, why).to_string()
    };
    text.parse::<u64>().map(Some).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
        match result {
            Ok(options) => format!("{options:?}"),
            Err(Failure::Status(status)) => format!("{} {}", status.code, status.message),
            Err(_) => "another failure".to_owned(),
        }
    }

    #[test]
    fn lists() {
        let check = |query: &str, expected: &str| {
            let said = said(of_list(&Query::parse(query)));
            assert!(said.contains(expected), "{query}: {said}");
        };
        check("", "version: Consistent");
        check("limit=0", &format!("limit: {}", usize::MAX));
        check("limit=-1", &format!("limit: {}", usize::MAX));
        check("limit=x", "400 strconv.ParseInt: parsing \"x\": invalid syntax");
        check("resourceVersion=0", "version: Any");
        check("resourceVersion=7", "version: NotOlderThan(7)");
        check("resourceVersion=7&limit=1", "version: Exact(7), limit: 1");
        check("resourceVersion=7&limit=1&resourceVersionMatch=NotOlderThan", "version: NotOlderThan(7)");
        check(
            "resourceVersion=x",
            "400 invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        );
        check(
            "resourceVersionMatch=Exact",
            "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: ",
        );
        check("resourceVersionMatch=Exact&resourceVersion=0", "is forbidden for resourceVersion \"0\"");
        check("resourceVersionMatch=X&continue=y", "422");
        check("sendInitialEvents=false", "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list");
        let bad = "400 invalid continue token: continue key is not valid";
        check("continue=%25", &format!("{bad}: illegal base64 data at input byte 0"));
        check("continue=e30", &format!("{bad}: server does not recognize this encoded version"));
        check("continue=ew", &format!("{bad}: unexpected end of JSON input"));
        let token = Continue { revision: 3, namespace: "a".into(), name: "b".into(), at: 5 };
        check(&format!("continue={}", token.encode()), "from: Some(Continue { revision: 3,");
        check(&format!("continue={}&resourceVersion=3", token.encode()), "400 specifying resource version is not");
    }

    #[test]
    fn watches() {
        let check = |query: &str, expected: &str| {
            let said = said(of_watch(&Query::parse(query)));
            assert!(said.contains(expected), "{query}: {said}");
        };
        check("resourceVersion=7&timeoutSeconds=3", "revision: Some(7), initial: None, timeout: Some(3)");
        check("timeoutSeconds=0", "timeout: None");
        check("timeoutSeconds=x", "400 strconv");
        check("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", "initial: Some(true)");
        check("sendInitialEvents=0&resourceVersionMatch=NotOlderThan", "initial: Some(false)");
        check(
            "sendInitialEvents=true",
            "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInit",
        );
        check("resourceVersionMatch=NotOlderThan", "is forbidden for watch unless sendInitialEvents is provided");
        check("resourceVersionMatch=Exact&sendInitialEvents=true", "supported values: \"NotOlderThan\"");
    }
    #[test]
    fn writes() {
        let check = |options: &str, apply: bool, query: &str, expected: &str| {
            let said = said(of_write(&Query::parse(query), options, apply));
            assert!(said.contains(expected), "{query}: {said}");
        };
        check("CreateOptions", false, "", "dry_run: false, manager: \"\", strictness: Warn, force: false");
        check("CreateOptions", false, "dryRun=All&dryRun=All&fieldValidation=Ignore", "dry_run: true");
        check(
            "CreateOptions",
            false,
            "dryRun=X",
            "422 CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"X\"]: supported values: \"All\"",
        );
        check("UpdateOptions", false, "fieldValidation=x", "supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"");
        check(
            "UpdateOptions",
            false,
            &format!("fieldManager={}", "x".repeat(129)),
            "fieldManager: Too long: may not be more than 128 bytes",
        );
        check("UpdateOptions", false, "fieldManager=a%01", "\"a\\x01\": invalid character U+0001 (at position 1)");
        check("PatchOptions", true, "force=true&fieldManager=a", "force: true");
        check("PatchOptions", true, "", "fieldManager: Required value: is required for apply patch");
        check("PatchOptions", true, "dryRun=", "[fieldManager: Required value: is required for apply patch, dryRun: ");
        check("PatchOptions", false, "force=false", "force: Forbidden: may not be specified for non-apply patch");
    }
}
