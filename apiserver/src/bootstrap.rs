//! What every cluster has: system namespaces, roles, the `kubernetes` Service, system priority classes.
//!
//! Run at every start; creates what is missing and repairs roles, as upstream's post-start hooks do. Never deletes.

use crate::answer::Failure;
use crate::authz::bootstrap as roles;
use crate::fairness::keeper;
use crate::legacy_tokens;
use crate::registry::write::{self, Change, DeleteOptions, Options};
use crate::registry::{Target, read, repair};
use crate::road::authorized::Permit;
use crate::server::Server;
use crate::trust;
use admission::Lookup as _;
use api::json::{Value, json};
use api::kind::Kind;
use api::kinds;
use api::kinds::apiregistration_v1::api_service;
use api::status::Status;
use futures::future::BoxFuture;
use std::net::IpAddr;

/// Brings the cluster's own objects into being.
///
/// # Errors
/// The first write that fails for another reason than being done already.
pub async fn run(server: &Server) -> Result<(), Failure> {
    let permit = Permit::without_request("bootstrap");
    for name in ["kube-system", "kube-public", "kube-node-lease", "default"] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(server, &permit, object).await?;
    }
    for (name, value) in [("system-node-critical", 2_000_001_000_i64), ("system-cluster-critical", 2_000_000_000)] {
        let object = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value});
        ensure(server, &permit, object).await?;
    }
    for wanted in roles::policy(&server.config.controller_roles, &server.config.gates) {
        reconcile(server, &permit, &wanted).await?;
    }
    keeper::ensure(server, &permit).await?;
    registrations(server, &permit).await?;
    Box::pin(trust::publish(server, &permit)).await?;
    ranges(server, &permit).await?;
    legacy_tokens::track(server, &permit).await?;
    service(server, &permit).await?;
    repair::once(server, &permit).await
}

/// The ServiceCIDR of the ranges that this server hands out addresses from.
async fn ranges(server: &Server, permit: &Permit) -> Result<(), Failure> {
    let cidrs: Vec<_> = server.config.service_cidrs.iter().map(ToString::to_string).collect();
    if cidrs.is_empty() {
        return Ok(());
    }
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}});
    let target = target(&object)?;
    ensure(server, permit, object).await?;
    let ready = json!([{"type": "Ready", "status": "True", "reason": "", "observedGeneration": 0,
        "message": "Kubernetes default Service CIDR is ready", "lastTransitionTime": server.now_text()}]);
    let options = Options { subresource: "status".to_owned(), ..options() };
    write::update(server, permit, &target, &options, |old| {
        let mut object = old.cloned().unwrap_or_default();
        // One that says otherwise was made by somebody else.
        let ours = api::value::get(&object, "spec.cidrs") == Some(&json!(cidrs));
        if ours && api::value::items(&object, "status.conditions").is_empty() {
            api::value::set(&mut object, "status.conditions", ready.clone());
        }
        Ok(Change { object, applied: false, rebased: true })
    })
    .await
    .map(drop)
}

fn target(object: &Value) -> Result<Target, Failure> {
    let api_version = api::value::text(object, "apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind: &'static Kind = kinds::by_gvk(group, version, api::value::text(object, "kind"))
        .ok_or_else(|| Status::internal(format!("no kind for {object}")))?;
    Ok(Target { kind, namespace: api::meta::namespace(object).to_owned(), name: api::meta::name(object).to_owned() })
}

/// Those of writes that no request asked for.
pub(crate) fn options() -> Options {
    Options { manager: write::OWN_NAME.to_owned(), ..Options::default() }
}

/// Creates a namespace for an object that is on its way there (`NamespaceAutoProvision`). Creating is what calls it, so that its type must
/// not hold its own.
pub(crate) fn namespace<'a>(server: &'a Server, name: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
    Box::pin(async move {
        let permit = Permit::without_request("namespace-auto-provision");
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(server, &permit, object).await
    })
}

/// Creates an object unless it is there.
pub(crate) async fn ensure(server: &Server, permit: &Permit, object: Value) -> Result<(), Failure> {
    let target = target(&object)?;
    if read::find(server, permit, &target).await?.is_some() {
        return Ok(());
    }
    let collection = target.named("");
    match write::create(server, permit, &collection, object, &options(), false).await {
        Err(Failure::Status(status)) if status.reason == "AlreadyExists" => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Creates a role or binding, adds what it lacks, or makes it anew when it refers to another role.
async fn reconcile(server: &Server, permit: &Permit, wanted: &roles::Object) -> Result<(), Failure> {
    let json = |object: &roles::Object| object.to_json().map_err(Status::internal);
    let target = target(&json(wanted)?)?;
    let existing = match read::find(server, permit, &target).await? {
        Some(entry) => Some(roles::Object::from_json(wanted, entry.value()).map_err(Status::internal)?),
        None => None,
    };
    match roles::reconcile(existing.as_ref(), wanted) {
        None => Ok(()),
        Some(roles::Write::Create(object)) => ensure(server, permit, json(&object)?).await,
        Some(roles::Write::Update(object)) => {
            let object = json(&object)?;
            let change = |_: Option<&Value>| Ok(Change { object: object.clone(), applied: false, rebased: true });
            write::update(server, permit, &target, &options(), change).await.map(drop)
        }
        Some(roles::Write::Recreate(object)) => {
            write::delete(server, permit, &target, &DeleteOptions::default()).await?;
            ensure(server, permit, json(&object)?).await
        }
    }
}

/// An APIService for each version of a group that the server itself serves, and none for those that it served once.
async fn registrations(server: &Server, permit: &Permit) -> Result<(), Failure> {
    let wanted = api_service::local(server.config.served.kinds());
    for object in &wanted {
        put(server, permit, object.clone(), "spec").await?;
    }
    let held = server.list(api_service::KIND.group, api_service::KIND.plural, "").await;
    let name = api::meta::name;
    for object in held.iter().filter(|object| api_service::is_managed(object)) {
        if wanted.iter().all(|wanted| name(wanted) != name(object)) {
            write::delete(server, permit, &target(object)?, &DeleteOptions::default()).await?;
        }
    }
    Ok(())
}

/// The Service through which pods find the API server; `peers.rs` says where it is.
async fn service(server: &Server, permit: &Permit) -> Result<(), Failure> {
    let Some(net) = server.config.service_cidrs.first() else {
        return Ok(());
    };
    let first = match net.network() {
        IpAddr::V4(address) => IpAddr::from((u32::from(address) + 1).to_be_bytes()),
        IpAddr::V6(address) => IpAddr::from((u128::from(address) + 1).to_be_bytes()),
    };
    let port = server.config.listen.port();
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": first.to_string(), "clusterIPs": [first.to_string()],
            "sessionAffinity": "None", "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]}});
    ensure(server, permit, service).await
}

/// Creates an object, or sets one of its fields.
pub(crate) async fn put(server: &Server, permit: &Permit, wanted: Value, field: &str) -> Result<(), Failure> {
    let target = target(&wanted)?;
    if read::find(server, permit, &target).await?.is_none() {
        return ensure(server, permit, wanted).await;
    }
    write::update(server, permit, &target, &options(), |old| {
        let mut object = old.cloned().unwrap_or_else(|| wanted.clone());
        for field in [field, "ports"] {
            if let Some(value) = wanted.get(field) {
                api::value::set(&mut object, field, value.clone());
            }
        }
        Ok(Change { object, applied: false, rebased: true })
    })
    .await
    .map(drop)
}
