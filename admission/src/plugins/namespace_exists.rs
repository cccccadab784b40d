//! `NamespaceExists`: refuses writes to namespaces that are not there. `NamespaceLifecycle` does the same for creations.

use crate::plugin::{Lookup, Plugin, Refusal, Request};
use api::json::Value;
use api::status::{ResourceName, Status};
use async_trait::async_trait;

/// See the file.
pub struct NamespaceExists;

pub(crate) static PLUGIN: NamespaceExists = NamespaceExists;

#[async_trait]
impl Plugin for NamespaceExists {
    fn name(&self) -> &'static str {
        "NamespaceExists"
    }

    fn by_default(&self) -> bool {
        false
    }

    async fn validate(&self, request: &Request<'_>, _: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let own = request.kind.group.is_empty() && request.kind.plural == "namespaces";
        if request.namespace.is_empty() || own || lookup.get("", "namespaces", "", request.namespace).await.is_some() {
            return Ok(());
        }
        let resource = ResourceName { group: "", plural: "namespaces" };
        Err(Refusal(Status::not_found(resource, request.namespace)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Ask, Cluster};
    use api::json::json;

    #[test]
    fn what_is_in_no_namespace_is_refused() {
        let absent = Err((404, "namespaces \"shop\" not found".to_owned()));
        for (plural, there, wanted) in [
            ("secrets", true, Ok(())),
            ("secrets", false, absent),
            ("nodes", false, Ok(())),
            ("namespaces", false, Ok(())),
        ] {
            let object = move |plural: &str, name: &str, _| {
                assert_eq!((plural, name), ("namespaces", "shop"));
                there.then(|| json!({}))
            };
            let cluster = Cluster { object: Box::new(object), ..Cluster::default() };
            let ask = Ask { cluster, ..Ask::create("", "v1", plural) };
            assert_eq!(ask.validated(&PLUGIN, &json!({})), wanted, "{plural} {there}");
        }
    }
}
