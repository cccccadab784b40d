//! GET of one object, also through a subresource that shows the whole object.

use super::{Call, shown};
use crate::answer::{Answer, Failure};
use crate::registry::read;
use crate::server::Server;

/// Answers a get.
///
/// # Errors
/// 404; those of the store and of encoding.
pub async fn answer(server: &Server, call: Call) -> Result<Answer, Failure> {
    let entry = read::get(server, &call.authorized.permit, &call.target).await?;
    shown::object(call.received(), call.medium, call.target.kind, &entry, 200, server.now())
}
