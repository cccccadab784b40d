//! Nobody hands out rights that they do not have: checks on writing roles and bindings.
//!
//! Source: upstream's documentation of privilege escalation prevention in RBAC.

use super::Target;
use crate::answer::Failure;
use crate::authz::rbac::{aggregates, bind_attributes, escalate_attributes};
use crate::road::authorized::Permit;
use crate::server::Server;
use api::status::Status;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, RoleRef};
use serde_json::Value;

/// Refuses a role or binding that gives more than its writer holds.
///
/// # Errors
/// 403 with the rules that are missing; 404-like 403 for a binding to an absent role.
pub async fn escalation(
    server: &Server,
    permit: &Permit,
    target: &Target,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Failure> {
    if target.kind.group != "rbac.authorization.k8s.io" || permit.is_internal() {
        return Ok(());
    }
    let user = permit.user();
    let aggregated = [Some(object), old].into_iter().flatten().any(|role| {
        let role: Result<ClusterRole, _> = serde_json::from_value(role.clone());
        target.kind.kind == "ClusterRole" && role.is_ok_and(|role| aggregates(&role))
    });
    if aggregated {
        // Rules of an aggregated role are not known when it is written.
        return match server.rbac.refuse_aggregation(user) {
            Some(why) => Err(Status::forbidden(target.resource(), &target.name, why).into()),
            None => Ok(()),
        };
    }
    let may = async |attributes| server.authz.authorize(&attributes).await.is_allowed();
    let (wanted, exempt) = match object.get("roleRef") {
        None => {
            let rules: Vec<PolicyRule> =
                object.get("rules").and_then(|rules| serde_json::from_value(rules.clone()).ok()).unwrap_or_default();
            let question = escalate_attributes(user, target.kind.plural, &target.namespace, &target.name);
            (rules, may(question).await)
        }
        Some(role) => {
            let role: RoleRef = serde_json::from_value(role.clone()).map_err(Status::internal)?;
            if may(bind_attributes(user, &role, &target.namespace)).await {
                return Ok(());
            }
            let rules = server.rbac.rules_of_role(&role, &target.namespace);
            let rules = rules.map_err(|why| Status::refused(target.resource(), &target.name, why))?;
            (rules, false)
        }
    };
    if exempt {
        return Ok(());
    }
    match server.rbac.refuse_escalation(user, &target.namespace, &wanted) {
        Some(why) => Err(Status::forbidden(target.resource(), &target.name, &why).into()),
        None => Ok(()),
    }
}
