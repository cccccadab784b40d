//! `LimitPodHardAntiAffinityTopology`: a pod keeps others off its node at most, never off a zone.

use crate::plugin::{Lookup, Plugin, Refusal, Request};
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct LimitPodHardAntiAffinityTopology;

pub(crate) static PLUGIN: LimitPodHardAntiAffinityTopology = LimitPodHardAntiAffinityTopology;

#[async_trait]
impl Plugin for LimitPodHardAntiAffinityTopology {
    fn name(&self) -> &'static str {
        "LimitPodHardAntiAffinityTopology"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    fn by_default(&self) -> bool {
        false
    }

    async fn validate(&self, request: &Request<'_>, pod: &Value, _: &dyn Lookup) -> Result<(), Refusal> {
        const TERMS: &str = "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution";
        if !request.is_open() || !request.is("pods", "") {
            return Ok(());
        }
        let mut keys = value::items(pod, TERMS).iter().map(|term| value::text(term, "topologyKey"));
        match keys.find(|key| *key != "kubernetes.io/hostname") {
            None => Ok(()),
            Some(key) => Err(request.forbidden(&format!(
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key kubernetes.io/hostname is allowed"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Ask;
    use api::json::json;

    #[test]
    fn pods_keep_others_off_a_node_at_most() {
        for (keys, refused) in
            [(&["kubernetes.io/hostname"][..], None), (&["kubernetes.io/hostname", "zone"], Some("zone"))]
        {
            let terms: Vec<Value> = keys.iter().map(|key| json!({"topologyKey": key})).collect();
            let rule = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
            let pod = json!({"metadata": {"name": "a"}, "spec": {"affinity": {"podAntiAffinity": rule}}});
            let said = Ask::create("", "v1", "pods").validated(&PLUGIN, &pod);
            let wanted = refused.map(|key| {
                let why = format!("affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key kubernetes.io/hostname is allowed");
                (403, format!("pods \"a\" is forbidden: {why}"))
            });
            assert_eq!(said.err(), wanted);
        }
    }
}
