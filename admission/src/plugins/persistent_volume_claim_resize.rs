//! `PersistentVolumeClaimResize`: a bound claim grows where its class lets it.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::{quota, value};
use async_trait::async_trait;

/// See the file.
pub struct PersistentVolumeClaimResize;

pub(crate) static PLUGIN: PersistentVolumeClaimResize = PersistentVolumeClaimResize;

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["persistentvolumeclaims"]
    }

    async fn validate(&self, request: &Request<'_>, claim: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation != Operation::Update
            || !request.is("persistentvolumeclaims", "")
            || !grows(request.old, claim)
        {
            return Ok(());
        }
        if value::text(request.old, "status.phase") != "Bound" {
            return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = class(claim);
        let found = match class {
            "" => None,
            name if name != self::class(request.old) => None,
            name => lookup.get("storage.k8s.io", "storageclasses", "", name).await,
        };
        if found.is_some_and(|class| value::flag(&class, "allowVolumeExpansion")) {
            return Ok(());
        }
        Err(request.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        ))
    }
}

fn class(claim: &Value) -> &str {
    api::meta::annotation(claim, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| value::text(claim, "spec.storageClassName"))
}

fn grows(old: &Value, new: &Value) -> bool {
    let size = |claim| quota::amounts(claim, "spec.resources.requests").get("storage").copied();
    match (size(old), size(new)) {
        (Some(old), Some(new)) => new > old,
        (None, Some(new)) => new.signum() > 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn sizes() {
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        assert!(grows(&claim("1Gi"), &claim("1025Mi")));
        assert!(!grows(&claim("1Gi"), &claim("1024Mi")));
        assert!(!grows(&claim("1Gi"), &claim("1Mi")));
    }

    use crate::testing::{Ask, Cluster};

    #[test]
    fn who_may_grow() {
        let claim = |size: &str, class: &str, phase: &str| {
            json!({"metadata": {"name": "a"}, "status": {"phase": phase},
                "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}})
        };
        let unbound = "Only bound persistent volume claims can be expanded";
        let unable = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        for (class, phase, size, why) in [
            ("elastic", "Bound", "2Gi", None),
            ("stiff", "Bound", "1Gi", None),
            ("elastic", "Pending", "2Gi", Some(unbound)),
            ("stiff", "Bound", "2Gi", Some(unable)),
            ("absent", "Bound", "2Gi", Some(unable)),
            ("", "Bound", "2Gi", Some(unable)),
        ] {
            let object =
                |_: &str, name: &str, _| (name != "absent").then(|| json!({"allowVolumeExpansion": name == "elastic"}));
            let cluster = Cluster { object: Box::new(object), ..Cluster::default() };
            let old = claim("1Gi", class, phase);
            let ask =
                Ask { operation: Operation::Update, old, cluster, ..Ask::create("", "v1", "persistentvolumeclaims") };
            let wanted = why.map(|why| (403, format!("persistentvolumeclaims \"a\" is forbidden: {why}")));
            assert_eq!(ask.validated(&PLUGIN, &claim(size, class, phase)).err(), wanted, "{class} {phase} {size}");
        }
    }
}
