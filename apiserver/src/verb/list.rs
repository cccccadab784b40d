//! LIST: selectors, pages, versions.
//!
//! Source: upstream's API concepts on `resourceVersion`, `resourceVersionMatch`, `limit` and `continue`.

use super::{Call, shown};
use crate::answer::{Answer, Failure};
use crate::registry::columns::ListMeta;
use crate::registry::read::{self, Continue, Filter, Version};
use crate::road::received::Query;
use crate::server::Server;
use api::field_path::{FieldError, Path};
use api::status::Status;

/// Answers a list.
///
/// # Errors
/// 400 for parameters that do not go together, 410 for old versions; those of the cache and of encoding.
pub async fn answer(server: &Server, call: Call) -> Result<Answer, Failure> {
    let query = &call.received().query;
    let filter = Filter::parse(&call.target, query.get("labelSelector"), query.get("fieldSelector"))?;
    let from = query.get("continue").filter(|token| !token.is_empty()).map(Continue::decode).transpose()?;
    let version = version(query, from.is_some())?;
    let limit = match query.get("limit").filter(|limit| !limit.is_empty()) {
        None => usize::MAX,
        Some(limit) => match limit.parse::<i64>() {
            Ok(limit) if limit > 0 => usize::try_from(limit).unwrap_or(usize::MAX),
            Ok(_) => usize::MAX,
            Err(_) => {
                return Err(Status::bad_request(format!("strconv.ParseInt: parsing {limit:?}: invalid syntax")).into());
            }
        },
    };
    let permit = &call.authorized.permit;
    let page = read::list(server, permit, &call.target, &filter, version, limit, from.as_ref()).await?;
    let meta = ListMeta {
        revision: page.revision.to_string(),
        next: page.next.as_ref().map(Continue::encode),
        remaining: page.remaining,
    };
    shown::list(call.received(), call.medium, call.target.kind, &meta, &page.entries, server.now())
}

fn version(query: &Query, continued: bool) -> Result<Version, Failure> {
    let text = query.get("resourceVersion").unwrap_or_default();
    let matching = query.get("resourceVersionMatch").unwrap_or_default();
    if !matching.is_empty() && continued {
        return Err(forbidden("resourceVersionMatch is forbidden when continue is provided"));
    }
    if !matching.is_empty() && text.is_empty() {
        return Err(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"));
    }
    let revision = parse(text)?;
    match (matching, revision) {
        ("" | "NotOlderThan", None) => Ok(Version::Consistent),
        ("" | "NotOlderThan", Some(0)) => Ok(Version::Any),
        ("", Some(revision)) if query.get("limit").is_some_and(|limit| limit != "0") => Ok(Version::Exact(revision)),
        ("" | "NotOlderThan", Some(revision)) => Ok(Version::NotOlderThan(revision)),
        ("Exact", Some(0)) => Err(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")),
        ("Exact", Some(revision)) => Ok(Version::Exact(revision)),
        (other, _) => {
            let field = Path::new("resourceVersionMatch");
            Err(invalid(FieldError::not_supported(&field, other, &["Exact", "NotOlderThan", ""])))
        }
    }
}

fn forbidden(detail: &str) -> Failure {
    invalid(FieldError::forbidden(&Path::new("resourceVersionMatch"), detail))
}

fn invalid(error: FieldError) -> Failure {
    Status::invalid("meta.k8s.io", "ListOptions", "", &vec![error]).into()
}

/// A `resourceVersion` as a number; `None` when empty.
///
/// # Errors
/// 400 with upstream's sentence.
pub fn parse(text: &str) -> Result<Option<u64>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = || Status::bad_request(format!("Invalid value: {text:?}: resourceVersion must be a number"));
    text.parse::<u64>().map(Some).map_err(|_| invalid().into())
}
