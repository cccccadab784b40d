//! What the objects of a kind are in its other versions, as far as no webhook has to be asked.
//!
//! Native kinds convert through the version that is stored, custom ones by name alone: nothing is pruned and nothing filled in.

use crate::apply::{Unconverted, Versions};
use crate::json::Value;
use crate::kind::Kind;
use crate::schema::SchemaRef;
use crate::{kinds, value};

impl Kind {
    /// The kind of the same objects in a version, an `apiVersion`, served or not.
    #[must_use]
    pub fn sibling(&self, version: &str) -> Option<&'static Kind> {
        if let Some(custom) = self.custom {
            return custom.siblings().iter().copied().find(|kind| kind.api_version() == version);
        }
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let stored = |kind: &Kind| kind.stored_as.as_ref().map(|stored| stored.kind.gvk());
        let own = stored(self).unwrap_or(self.gvk());
        kinds::by_gvk(group, version, self.kind)
            .filter(|other| group == self.group && stored(other).unwrap_or(other.gvk()) == own)
    }
}

impl Versions for Kind {
    fn convert(&self, object: &Value, version: &str) -> Result<Option<(Value, SchemaRef<'_>)>, Unconverted> {
        let Some(to) = self.sibling(version) else {
            // Upstream knows of native kinds that a version is gone, and not of custom ones.
            return match self.custom {
                None => Ok(None),
                Some(_) => {
                    let why = format!("request to convert CR to an invalid group/version: {version}");
                    Err(Unconverted::Never(why))
                }
            };
        };
        let mut object = object.clone();
        let from = value::text(&object, "apiVersion").to_owned();
        if self.custom.is_some() {
            value::set(&mut object, "apiVersion", version);
        } else if from != version {
            if let Some(from) = self.sibling(&from) {
                from.to_stored(&mut object);
            }
            to.from_stored(&mut object);
        }
        Ok(Some((object, to.schema())))
    }

    fn resets(&self) -> bool {
        self.custom.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn native_kinds_convert_through_what_is_stored() {
        let kind = kinds::by_gvk("autoscaling", "v1", "HorizontalPodAutoscaler").unwrap();
        let old = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        let (new, schema) = kind.convert(&old, "autoscaling/v2").unwrap().unwrap();
        assert_eq!(new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50, "{new}");
        assert!(schema.def().name.contains("v2"), "{}", schema.def().name);
        let (back, _) = kind.convert(&new, "autoscaling/v1").unwrap().unwrap();
        assert_eq!(back, old);
        for gone in ["autoscaling/v2beta2", "apps/v1", "v1"] {
            assert_eq!(kind.convert(&old, gone).map(|found| found.is_none()), Ok(true), "{gone}");
        }
    }

    #[test]
    fn custom_kinds_convert_by_name() {
        let version = |name: &str, served: bool| json!({"name": name, "served": served, "storage": name == "v1", "schema": {"openAPIV3Schema": {"type": "object"}}});
        let defined = crate::custom::kinds::define(&json!({"spec": {"group": "g.example.com", "scope": "Cluster",
            "names": {"plural": "things", "kind": "Thing"}, "versions": [version("v1", true), version("v0", false)]}}));
        let kind = defined.unwrap().stored;
        let object = json!({"apiVersion": "g.example.com/v1", "kind": "Thing", "spec": {"a": 1}});
        let (found, schema) = kind.convert(&object, "g.example.com/v0").unwrap().unwrap();
        assert_eq!(found, json!({"apiVersion": "g.example.com/v0", "kind": "Thing", "spec": {"a": 1}}));
        assert_eq!(schema.def().gvks[0].1, "v0");
        let gone = kind.convert(&object, "g.example.com/v9").map(|_| ()).unwrap_err();
        let why = "request to convert CR to an invalid group/version: g.example.com/v9";
        assert_eq!(gone, Unconverted::Never(why.to_owned()));
    }
}
