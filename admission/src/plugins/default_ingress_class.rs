//! `DefaultIngressClass`: an Ingress that names no class gets the default one; of several the newest.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct DefaultIngressClass;

pub(crate) static PLUGIN: DefaultIngressClass = DefaultIngressClass;

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["ingresses"]
    }

    async fn mutate(&self, request: &Request<'_>, ingress: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let here =
            (request.kind.group, request.kind.plural, request.subresource) == ("networking.k8s.io", "ingresses", "");
        let named = ingress.pointer("/spec/ingressClassName").is_some_and(|name| !name.is_null())
            || api::meta::annotation(ingress, "kubernetes.io/ingress.class").is_some();
        if request.operation != Operation::Create || !here || named {
            return Ok(());
        }
        let classes = lookup.list("networking.k8s.io", "ingressclasses", "").await;
        let says = |class: &&Value| {
            api::meta::annotation(class, "ingressclass.kubernetes.io/is-default-class") == Some("true")
        };
        let age = |class: &&Value| {
            let time = value::text(class, "metadata.creationTimestamp").to_owned();
            (std::cmp::Reverse(time), api::meta::name(class).to_owned())
        };
        if let Some(class) = classes.iter().filter(says).min_by_key(age) {
            value::set(ingress, "spec.ingressClassName", api::meta::name(class));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Ask, Cluster};
    use api::json::json;

    #[test]
    fn the_newest_default_holds_where_none_is_named() {
        let class = |name: &str, made: &str, default: &str| {
            json!({"metadata": {"name": name, "creationTimestamp": made,
                "annotations": {"ingressclass.kubernetes.io/is-default-class": default}}})
        };
        let classes = vec![
            class("old", "2026-01-01T00:00:00Z", "true"),
            class("b", "2026-02-01T00:00:00Z", "true"),
            class("a", "2026-02-01T00:00:00Z", "true"),
            class("newest", "2026-03-01T00:00:00Z", "false"),
        ];
        let annotated = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": {}});
        for (classes, ingress, wanted) in [
            (classes.clone(), json!({"spec": {}}), Some("a")),
            (classes.clone(), json!({"spec": {"ingressClassName": "own"}}), Some("own")),
            (classes, annotated, None),
            (Vec::new(), json!({"spec": {}}), None),
        ] {
            let cluster = Cluster { list: Box::new(move |_| classes.clone()), ..Cluster::default() };
            let ask = Ask { cluster, ..Ask::create("networking.k8s.io", "v1", "ingresses") };
            let made = ask.mutated(&PLUGIN, ingress).unwrap();
            assert_eq!(value::get(&made, "spec.ingressClassName").and_then(Value::as_str), wanted);
        }
    }
}
