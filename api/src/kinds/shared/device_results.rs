//! What a claim of devices was given: the allocation, who uses it, what drivers say of the devices.
//!
//! Never judges what was asked for; `device_claims` does.

use super::device_claims::{MOST_REQUESTS, request_name, request_names};
use super::devices::{self, MOST_CONFIGS};
use super::volume_sources::csi_driver_name;
use super::{addresses, conditions, device_claims, pod_scheduling, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Condition, Demand, Occasion, Writer};
use crate::{meta, value};
use std::collections::BTreeSet;

const MOST_USERS: usize = 256;
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;
const LONGEST_INTERFACE: usize = 256;
const LONGEST_HARDWARE_ADDRESS: usize = 128;

/// A device as claims name it: driver, pool, device, share.
fn identity(device: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| value::text(device, field))
}

/// An identity with its names as upstream shows it.
fn shown(device: &Value) -> [(&'static str, Value); 4] {
    let [driver, pool, name, share] = identity(device).map(Value::from);
    [("Driver", driver), ("Pool", pool), ("Device", name), ("ShareID", share)]
}

const RESULTS: &str = "status.allocation.devices.results";

/// What drivers said of devices that the claim no longer has goes with them.
pub fn drop_deallocated(new: &mut Value, old: &Value) {
    let gone: Vec<[String; 4]> = {
        let own = |object: &Value| -> Vec<[String; 4]> {
            value::items(object, RESULTS).iter().map(|device| identity(device).map(str::to_owned)).collect()
        };
        let kept = own(new);
        own(old).into_iter().filter(|device| !kept.contains(device)).collect()
    };
    if gone.is_empty() {
        return;
    }
    let Some(list) = value::get_mut(new, "status.devices").and_then(Value::as_array_mut) else { return };
    list.retain(|device| !gone.iter().any(|gone| *gone == identity(device)));
    if list.is_empty() {
        value::remove(new, "status.devices");
    }
}

/// What must hold for a change of the status of a claim: whoever allocates may bind claims, drivers speak for themselves.
#[must_use]
pub fn demands(new: &Value, old: &Value, occasion: &Occasion<'_>) -> Vec<Demand> {
    let mut out = Vec::new();
    let admin = |object| value::items(object, RESULTS).iter().position(|result| value::flag(result, "adminAccess"));
    if let (Some(at), None) = (admin(new), admin(old)) {
        out.push(device_claims::admin_demand(&Path::new(RESULTS).index(at)));
    }
    let verb = occasion.verb;
    let differs = |path: &str| rules::differ(value::get(new, path), value::get(old, path));
    if differs("status.allocation") || differs("status.reservedFor") {
        let detail = format!(
            "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", \
             verb=\"{verb}\" permission"
        );
        out.push(Demand {
            condition: Condition::Right {
                verbs: vec![verb.to_owned()],
                subresource: "binding",
                in_namespace: false,
                name: String::new(),
            },
            error: FieldError::forbidden(&Path::new("status.allocation"), detail),
        });
    }
    if value::get(new, "status.allocation").is_none_or(Value::is_null) {
        return out;
    }
    let on_node = node_of(new).is_some_and(|node| is_account_on(&occasion.writer, node));
    let prefixes: &[&str] = if on_node { &["associated-node", "arbitrary-node"] } else { &["arbitrary-node"] };
    let verbs: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix}:{verb}")).collect();
    let shown = verbs.join(" ");
    for driver in changed_drivers(new, old) {
        let detail = format!(
            "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{shown}]\" permission"
        );
        out.push(Demand {
            condition: Condition::Right {
                verbs: verbs.clone(),
                subresource: "driver",
                in_namespace: true,
                name: driver.to_owned(),
            },
            error: FieldError::forbidden(&Path::new("status.devices"), detail),
        });
    }
    out
}

/// The drivers of whose devices something else is said than before.
fn changed_drivers<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    let [after, before] = [new, old].map(|object| value::items(object, "status.devices"));
    let known = |list: &'a [Value], device: &Value| list.iter().find(|other| identity(other) == identity(device));
    let changed = after.iter().filter(|device| known(before, device) != Some(*device));
    let gone = before.iter().filter(|device| known(after, device).is_none());
    changed.chain(gone).map(|device| value::text(device, "driver")).collect()
}

/// The one node that an allocation is for, where it says so plainly.
fn node_of(claim: &Value) -> Option<&str> {
    let [term] = value::items(claim, "status.allocation.nodeSelector.nodeSelectorTerms") else { return None };
    let ([], [field]) = (value::items(term, "matchExpressions"), value::items(term, "matchFields")) else {
        return None;
    };
    let named = value::text(field, "key") == "metadata.name" && value::text(field, "operator") == "In";
    match value::items(field, "values") {
        [node] if named => node.as_str(),
        _ => None,
    }
}

/// A service account whose token says that its pod is on this node.
fn is_account_on(writer: &Writer<'_>, node: &str) -> bool {
    const NODE: &str = "authentication.kubernetes.io/node-name";
    let account = writer.name.strip_prefix("system:serviceaccount:").is_some_and(|rest| rest.split(':').count() == 2);
    account && writer.extra.get(NODE).is_some_and(|nodes| nodes.iter().eq([node]))
}

/// What is wrong with a change of the status of a claim.
#[must_use]
pub fn validate(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("status");
    let status = new.get("status").unwrap_or(&Value::Null);
    let claim = value::get(new, "spec.devices").unwrap_or(&Value::Null);
    let users = value::items(status, "reservedFor");
    let at = field.child("reservedFor");
    let uid = |user: &Value| value::text(user, "uid").into();
    devices::set(&mut errors, users, Some(MOST_USERS), &at, uid, |errors, user, field| {
        for name in ["resource", "name", "uid"] {
            rules::required(errors, user, name, field);
        }
    });
    let allocation = status.get("allocation").filter(|allocation| !allocation.is_null());
    let results = value::items(new, RESULTS);
    let said = value::items(status, "devices");
    each_status(&mut errors, said, results, &field.child("devices"));
    if !users.is_empty() {
        let before = value::items(old, "status.reservedFor");
        if allocation.is_none() {
            errors.push(FieldError::forbidden(&at, "may not be specified when `allocated` is not set"));
        } else if meta::is_deleting(new) && users.iter().any(|user| !before.contains(user)) {
            let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(FieldError::forbidden(&at, detail));
        }
    }
    let before = value::get(old, "status.allocation").filter(|allocation| !allocation.is_null());
    match (before, allocation) {
        (Some(_), Some(_)) => rules::unchanged_struct(&mut errors, new, old, "status.allocation", "*AllocationResult"),
        (None, Some(allocation)) => validate_allocation(&mut errors, allocation, claim, &field.child("allocation")),
        (_, None) => {}
    }
    errors
}

fn each_status(errors: &mut Errors, list: &[Value], results: &[Value], field: &Path) {
    devices::each(errors, list, None, field, |errors, device, field| {
        one_status(errors, device, results, field);
    });
    for (i, device) in list.iter().enumerate() {
        if list.iter().take(i).any(|other| identity(other) == identity(device)) {
            errors.push(rules::duplicate_struct(&field.index(i), &shown(device)));
        }
    }
}

fn one_status(errors: &mut Errors, device: &Value, results: &[Value], field: &Path) {
    names(errors, device, field);
    if !results.iter().any(|result| identity(result) == identity(device)) {
        errors.push(rules::invalid_struct(field, &shown(device), "must be an allocated device in the claim"));
    }
    let list = value::items(device, "conditions");
    let at = field.child("conditions");
    if list.len() > MOST_CONDITIONS {
        errors.push(FieldError::too_many(&at, list.len(), MOST_CONDITIONS));
    }
    errors.extend(conditions::validate(list, &at));
    if device.get("data").is_some_and(|data| !data.is_null()) {
        devices::data(errors, device.get("data"), &field.child("data"), false);
    }
    let Some(network) = device.get("networkData") else { return };
    let field = field.child("networkData");
    for (name, longest) in [("interfaceName", LONGEST_INTERFACE), ("hardwareAddress", LONGEST_HARDWARE_ADDRESS)] {
        if value::text(network, name).len() > longest {
            errors.push(FieldError::too_long(&field.child(name), longest));
        }
    }
    let ips = value::items(network, "ips");
    devices::set(errors, ips, Some(MOST_ADDRESSES), &field.child("ips"), devices::itself, |errors, ip, field| {
        addresses::check(errors, field, ip.as_str().unwrap_or_default(), addresses::interface_address, &[]);
    });
}

/// Driver, pool, device and share of a result or a status.
fn names(errors: &mut Errors, device: &Value, field: &Path) {
    csi_driver_name(errors, value::text(device, "driver"), &field.child("driver"));
    devices::pool(errors, value::text(device, "pool"), &field.child("pool"));
    devices::label(errors, value::text(device, "device"), &field.child("device"));
    if let Some(id) = device.get("shareID").and_then(Value::as_str) {
        devices::share_id(errors, id, &field.child("shareID"));
    }
}

fn validate_allocation(errors: &mut Errors, allocation: &Value, claim: &Value, field: &Path) {
    let at = field.child("devices");
    let results = value::items(allocation, "devices.results");
    devices::each(errors, results, Some(MOST_REQUESTS), &at.child("results"), |errors, result, field| {
        request_name(errors, value::text(result, "request"), &field.child("request"), claim);
        names(errors, result, field);
        devices::binding_conditions(errors, result, field);
    });
    let configs = value::items(allocation, "devices.config");
    // Those of the class and those of the claim.
    devices::each(errors, configs, Some(2 * MOST_CONFIGS), &at.child("config"), |errors, config, field| {
        rules::required_one_of(errors, config, "source", field, &["FromClaim", "FromClass"]);
        request_names(errors, config, field, claim);
        devices::configuration(errors, config, field, false);
    });
    if let Some(selector) = allocation.get("nodeSelector").filter(|selector| !selector.is_null()) {
        pod_scheduling::node_selector(errors, selector, &field.child("nodeSelector"));
    }
}
