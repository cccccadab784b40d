//! Stage 3: the audit record is opened. At present one trace line per finished request; policies come later.
//!
//! Never changes a request.

use super::identified::Identified;
use crate::authn::User;
use crate::road::received::Received;
use crate::server::Server;

/// A request whose author is on record.
pub struct Audited {
    pub(super) received: Received,
    pub(super) user: User,
}

/// Stage 3.
#[must_use]
pub fn audit(_server: &Server, identified: Identified) -> Audited {
    let Identified { received, user } = identified;
    tracing::trace!(user = user.name, method = %received.method, target = received.target, "request");
    Audited { received, user }
}
