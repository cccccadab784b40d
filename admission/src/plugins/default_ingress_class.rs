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
