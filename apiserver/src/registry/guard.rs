//! Nobody hands out rights that they do not have: checks on writing roles and bindings, and what kinds demand of a writer.
//!
//! Source: upstream's documentation of privilege escalation prevention in RBAC.

use super::Target;
use crate::answer::Failure;
use crate::authz::rbac::{aggregates, bind_attributes, escalate_attributes};
use crate::authz::{Attributes, Decision, ResourceAttributes, forbidden};
use crate::road::authorized::Permit;
use crate::server::Server;
use admission::Lookup as _;
use api::field_path::Errors;
use api::json::Value;
use api::kind::{Condition, Demand};
use api::status::Status;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, RoleRef};

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
        let role: Result<ClusterRole, _> = api::json::from_value(role.clone());
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
                object.get("rules").and_then(|rules| api::json::from_value(rules.clone()).ok()).unwrap_or_default();
            let question = escalate_attributes(user, target.kind.plural, &target.namespace, &target.name);
            (rules, may(question).await)
        }
        Some(role) => {
            let role: RoleRef = api::json::from_value(role.clone()).map_err(Status::internal)?;
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

/// The errors of demands that are not met; work without a request meets all.
pub async fn unmet(server: &Server, permit: &Permit, target: &Target, demands: Vec<Demand>) -> Errors {
    let mut errors = Errors::new();
    if permit.is_internal() {
        return errors;
    }
    for Demand { condition, mut error } in demands {
        match condition {
            Condition::NamespaceLabel { key, value } => {
                let namespace = server.get("", "namespaces", "", &target.namespace).await.unwrap_or_default();
                let labels = api::value::get(&namespace, "metadata.labels");
                if labels.and_then(|labels| labels.get(key)).is_none_or(|own| own != value) {
                    errors.push(error);
                }
            }
            Condition::Right { verbs, subresource, in_namespace, name } => {
                let namespace = if in_namespace { target.namespace.clone() } else { String::new() };
                let resource = ResourceAttributes {
                    group: target.kind.group.to_owned(),
                    version: target.kind.version.to_owned(),
                    resource: target.kind.plural.to_owned(),
                    subresource: subresource.to_owned(),
                    namespace,
                    name,
                    ..ResourceAttributes::default()
                };
                let questions = verbs.into_iter().map(|verb| Attributes {
                    user: permit.user().clone(),
                    verb,
                    resource: Some(resource.clone()),
                    path: String::new(),
                });
                let mut refused = None;
                for question in questions {
                    let decision = server.authz.authorize(&question).await;
                    let (Decision::Deny(why) | Decision::NoOpinion(why)) = decision else {
                        refused = None;
                        break;
                    };
                    refused.get_or_insert_with(|| forbidden(&question, &why));
                }
                if let Some(why) = refused {
                    error.detail.push_str(": ");
                    error.detail.push_str(&why);
                    errors.push(error);
                }
            }
        }
    }
    errors
}
