//! `deviceclasses` of resource.k8s.io: what devices are of a class, and how they are set up.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Hooks, Kind, NameRule, describe};
use crate::kinds::shared::{devices, resource_names, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "resource.k8s.io",
    version: "v1",
    kind: "DeviceClass",
    plural: "deviceclasses",
    singular: "deviceclass",
    namespaced: false,
    generation: true,
    returns_deleted: true,
    describe: describe::<k8s_openapi::api::resource::v1::DeviceClass>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &DeviceClass,
    ..Kind::BASE
};

struct DeviceClass;

impl Hooks for DeviceClass {
    fn name_rule(&self) -> NameRule {
        NameRule::DeclaredSubdomain
    }

    fn validate(&self, object: &Value) -> Errors {
        validate(object, false)
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        let config = |object| value::get(object, "spec.config");
        validate(new, !rules::differ(config(new), config(old)))
    }
}

/// `stored`: the configuration was there before, when it could be larger.
fn validate(object: &Value, stored: bool) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    devices::selectors(&mut errors, spec, &field);
    let (configs, most) = (value::items(spec, "config"), Some(devices::MOST_CONFIGS));
    devices::each(&mut errors, configs, most, &field.child("config"), |errors, config, field| {
        devices::configuration(errors, config, field, stored);
    });
    if let Some(name) = spec.get("extendedResourceName").and_then(Value::as_str)
        && !resource_names::is_extended(name)
    {
        let detail = "must be a valid extended resource name";
        errors.push(FieldError::invalid(&field.child("extendedResourceName"), name, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let sound = json!({"metadata": {"name": "gpu"}, "spec": {
            "selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}],
            "config": [{"opaque": {"driver": "gpu.example.com", "parameters": {"a": 1}}}],
            "extendedResourceName": "example.com/gpu"}});
        testing::invalid(&KIND, &sound, &[]);
        testing::row(&KIND, &sound, &json!(["gpu", "<unknown>"]));
        let big = "x".repeat(10 * 1024);
        let bad = json!({"spec": {
            "selectors": [{}, {"cel": {"expression": format!("{big}y")}}],
            "config": [{}, {"opaque": {"parameters": "x"}}, {"opaque": {"driver": "a", "parameters": {"a": big}}}],
            "extendedResourceName": "gpu"}});
        let sentences = [
            "spec.selectors[0].cel: Required value",
            "spec.selectors[1].cel.expression: Too long: may not be more than 10240 bytes",
            "spec.config[0].opaque: Required value",
            "spec.config[1].opaque.driver: Required value",
            "spec.config[1].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
            "spec.config[2].opaque.parameters: Too long: may not be more than 10240 bytes",
            "spec.extendedResourceName: Invalid value: \"gpu\": must be a valid extended resource name",
        ];
        testing::invalid(&KIND, &bad, &sentences);
        let again = testing::shown(&KIND.hooks.revalidate(&bad, &bad));
        assert!(again.len() == 6 && !again.contains(&sentences[5].to_owned()), "what is stored may be larger");
        let many = json!({"spec": {"selectors": vec![json!({"cel": {"expression": "true"}}); 33]}});
        testing::invalid(&KIND, &many, &["spec.selectors: Too many: 33: must have at most 32 items"]);
    }
}
