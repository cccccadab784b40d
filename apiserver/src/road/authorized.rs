//! Stage 6: may this user do this? Afterwards there is an `Authorized`, which verbs and the registry demand.
//!
//! ```compile_fail
//! // Nobody outside this stage can make one.
//! let forged = apiserver::road::authorized::Permit { user: Default::default(), private: () };
//! ```

use super::seated::{Held, Seated};
use crate::answer::Failure;
use crate::authn::User;
use crate::authz::{Attributes, Decision, ResourceAttributes, forbidden};
use crate::road::received::{Received, RequestInfo};
use crate::server::Server;
use admission::Notes;
use api::status::{ResourceName, Status};
use std::sync::Arc;

/// Evidence that an action was authorized, and for whom.
#[derive(Clone)]
pub struct Permit {
    user: User,
    internal: bool,
    notes: Arc<Notes>,
}

impl Permit {
    /// For work that no request asked for. `reason` says why it may be done without one; it is logged with the write.
    #[must_use]
    pub fn without_request(reason: &'static str) -> Permit {
        let user = User { name: format!("system:apiserver:{reason}"), ..User::default() };
        Permit { user, internal: true, notes: Arc::default() }
    }

    /// No request asked for this.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.internal
    }

    /// What admission has to tell beside its verdict.
    #[must_use]
    pub fn notes(&self) -> &Arc<Notes> {
        &self.notes
    }

    /// As whom the action is done.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }
}

/// A request that may go ahead.
pub struct Authorized {
    /// The request.
    pub received: Box<Received>,
    /// Evidence for the layers below.
    pub permit: Permit,
    /// Seats, given back when the answer is made.
    pub held: Held,
}

/// What a request wants, in authorization's terms.
#[must_use]
pub fn attributes(user: User, info: &RequestInfo) -> Attributes {
    Attributes {
        user,
        verb: info.verb.clone(),
        resource: info.is_resource.then(|| {
            let resource = ResourceAttributes {
                group: info.group.clone(),
                version: info.version.clone(),
                resource: info.resource.clone(),
                subresource: info.subresource.clone(),
                namespace: info.namespace.clone(),
                name: info.name.clone(),
                ..ResourceAttributes::default()
            };
            resource.narrowed(info.field_selector.as_deref(), info.label_selector.as_deref())
        }),
        path: info.path.clone(),
    }
}

/// Stage 6.
///
/// # Errors
/// 403 with upstream's sentence.
pub async fn authorize(server: &Server, seated: Seated) -> Result<Authorized, Failure> {
    let Seated { received, user, held } = seated;
    let attributes = attributes(user, &received.info);
    match server.authz.authorize(&attributes).await {
        Decision::Allow(reason) => {
            let permit = Permit { user: attributes.user, internal: false, notes: Arc::default() };
            if let Some(slip) = &received.slip {
                slip.judged(true, &reason);
                slip.admitted(&permit.notes);
            }
            Ok(Authorized { received, permit, held })
        }
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            if let Some(slip) = &received.slip {
                slip.judged(false, &reason);
            }
            let why = forbidden(&attributes, &reason);
            let info = &received.info;
            let resource = ResourceName { group: &info.group, plural: &info.resource };
            Err(Failure::Status(Status::refused(resource, &info.name, why)))
        }
    }
}

/// A request that is authorized by one verb, by another as well.
///
/// # Errors
/// 403 in upstream's words for it.
pub async fn also(server: &Server, authorized: &Authorized, verb: &str) -> Result<(), Failure> {
    let Authorized { received, permit, .. } = authorized;
    if received.info.verb == verb {
        return Ok(());
    }
    let info = &received.info;
    let mut attributes = attributes(permit.user().clone(), info);
    attributes.verb = verb.to_owned();
    match server.authz.authorize(&attributes).await {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            let resource = ResourceName { group: &info.group, plural: &info.resource };
            Err(Failure::Status(Status::forbidden(resource, &info.name, &reason)))
        }
    }
}
