//! Stage 3: the request is on record, as the audit policy says (`audit.rs`).
//!
//! Never changes a request.

use super::identified::Identified;
use crate::answer::Failure;
use crate::authn::User;
use crate::road::received::Received;

/// A request whose author is on record.
pub struct Audited {
    pub(super) received: Box<Received>,
    pub(super) user: User,
}

/// Stage 3.
///
/// # Errors
/// 500 where a request that cannot be recorded must not go on.
pub async fn audit(identified: Identified) -> Result<Audited, Failure> {
    let Identified { received, user } = identified;
    tracing::trace!(user = user.name, method = %received.method, target = received.target, "request");
    if let Some(slip) = &received.slip {
        slip.arrived(&received, &user).await?;
    }
    Ok(Audited { received, user })
}
