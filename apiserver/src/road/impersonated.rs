//! Stage 4: as whom the request acts. `Impersonate-*` headers, each checked as the `impersonate` verb.
//!
//! Source: KEP-less; upstream's documentation of user impersonation.

use super::audited::Audited;
use crate::answer::Failure;
use crate::authn::User;
use crate::authz::{Attributes, Decision, ResourceAttributes, forbidden};
use crate::road::received::Received;
use crate::server::Server;
use api::status::{ResourceName, Status};
use std::collections::BTreeMap;

/// A request with the user as whom it acts.
pub struct Acting {
    pub(super) received: Received,
    pub(super) user: User,
}

/// Stage 4.
///
/// # Errors
/// 403 without the right to impersonate; 400 (as 500 upstream) for groups or extras without a user.
pub async fn impersonate(server: &Server, audited: Audited) -> Result<Acting, Failure> {
    let Audited { received, user } = audited;
    let all = |name: &str| -> Vec<String> {
        received.headers.get_all(name).filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let name = received.header("impersonate-user").map(str::to_owned);
    let groups = all("impersonate-group");
    let uid = received.header("impersonate-uid").map(str::to_owned);
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in &received.headers {
        if let (Some(key), Ok(value)) = (header.as_str().strip_prefix("impersonate-extra-"), value.to_str()) {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    let Some(name) = name else {
        return if groups.is_empty() && uid.is_none() && extra.is_empty() {
            Ok(Acting { received, user })
        } else {
            Err(Failure::Status(Status::internal("requested impersonation without impersonating a user".to_owned())))
        };
    };
    let may = async |group: &str, resource: &str, subresource: &str, namespace: &str, object: &str| {
        let attributes = Attributes {
            user: user.clone(),
            verb: "impersonate".to_owned(),
            resource: Some(ResourceAttributes {
                group: group.to_owned(),
                version: String::new(),
                resource: resource.to_owned(),
                subresource: subresource.to_owned(),
                namespace: namespace.to_owned(),
                name: object.to_owned(),
                ..ResourceAttributes::default()
            }),
            path: String::new(),
        };
        match server.authz.authorize(&attributes).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                let why = forbidden(&attributes, &reason);
                Err(Failure::Status(Status::refused(ResourceName { group, plural: resource }, object, why)))
            }
        }
    };
    let service_account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match service_account {
        Some((namespace, account)) => may("", "serviceaccounts", "", namespace, account).await?,
        None => may("", "users", "", "", &name).await?,
    }
    for group in &groups {
        may("", "groups", "", "", group).await?;
    }
    if let Some(uid) = &uid {
        may("authentication.k8s.io", "uids", "", "", uid).await?;
    }
    for (key, values) in &extra {
        for value in values {
            may("authentication.k8s.io", "userextras", key, "", value).await?;
        }
    }
    let mut groups = groups;
    if groups.is_empty()
        && let Some((namespace, _)) = service_account
    {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let is_in = |group: &str| groups.iter().any(|own| own == group);
    let all_users = if name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    // Who asks to be nobody in particular is not made somebody.
    if !is_in(all_users) && !is_in("system:unauthenticated") {
        groups.push(all_users.to_owned());
    }
    let user = User { name, uid: uid.unwrap_or_default(), groups, extra };
    if let Some(slip) = &received.slip {
        slip.acts_as(&user);
    }
    Ok(Acting { received, user })
}
