//! LIST: selectors, pages, versions.

use super::{Call, options, shown};
use crate::answer::{Answer, Failure};
use crate::registry::columns::ListMeta;
use crate::registry::read::{self, Filter};
use crate::server::Server;
use api::continuation::Continue;

/// Answers a list.
///
/// # Errors
/// 400 and 422 for parameters, 410 for old versions; those of the cache and of encoding.
pub async fn answer(server: &Server, call: Call) -> Result<Answer, Failure> {
    let query = &call.received().query;
    let filter = Filter::parse(&call.target, query.get("labelSelector"), query.get("fieldSelector"))?;
    let options = options::of_list(query)?;
    let page = read::list(server, &call.authorized.permit, &call.target, &filter, &options).await?;
    let meta = ListMeta {
        revision: page.revision.to_string(),
        next: page.next.as_ref().map(Continue::encode),
        remaining: page.remaining,
    };
    shown::list(call.received(), call.medium, call.target.kind, &meta, page.entries, server.now())
}
