//! `secrets`: confidential keys and values.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, Selectable, describe};
use crate::kinds::shared::{cells, config_data, rules};
use crate::value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    columns: &[Column::NAME, Column::text("Type").of("type"), Column::text("Data").of("data"), Column::AGE],
    selectable: &[Selectable { name: "type", value: |object| value::text(object, "type").to_owned() }],
    describe: describe::<k8s_openapi::api::core::v1::Secret>,
    judgement: Judgement::CHANGE_FIRST,
    hooks: &Secret,
    ..Kind::BASE
};

struct Secret;

impl Hooks for Secret {
    /// `stringData` is for writing only: it goes into `data`.
    fn default(&self, object: &mut Value) {
        value::set_default(object, "type", "Opaque");
        if value::text(object, "type").is_empty() {
            value::set(object, "type", "Opaque");
        }
        if let Some(Value::Object(plain)) = value::remove(object, "stringData") {
            for (key, text) in plain {
                let encoded = STANDARD.encode(text.as_str().unwrap_or_default());
                value::map_mut(object, "data").insert(key, encoded.into());
            }
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let mut size = 0;
        for (key, value) in config_data::entries(object, "data") {
            config_data::validate_key(&mut errors, "data", key);
            size += config_data::decoded_len(value);
        }
        let data = Path::new("data");
        if size > config_data::MAX_SIZE {
            errors.push(FieldError::too_long(&data, config_data::MAX_SIZE));
        }
        let get = |key: &str| object.get("data").and_then(|bag| bag.get(key)).and_then(Value::as_str);
        let mut require = |keys: &[&str]| {
            for key in keys {
                errors.push(FieldError::required(&data.key(key), ""));
            }
        };
        match value::text(object, "type") {
            "kubernetes.io/service-account-token" => {
                const OWNER: &str = "kubernetes.io/service-account.name";
                if crate::meta::annotation(object, OWNER).is_none_or(str::is_empty) {
                    errors.push(FieldError::required(&Path::new("metadata.annotations").key(OWNER), ""));
                }
            }
            kind @ ("kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson") => {
                let key = if kind == "kubernetes.io/dockercfg" { ".dockercfg" } else { ".dockerconfigjson" };
                match get(key) {
                    None => require(&[key]),
                    Some(text) => {
                        let bytes = STANDARD.decode(text).unwrap_or_default();
                        if let Err(error) = crate::json::from_slice::<crate::json::Map>(&bytes) {
                            let shown = "<secret contents redacted>";
                            errors.push(FieldError::invalid(&data.key(key), shown, error.to_string()));
                        }
                    }
                }
            }
            "kubernetes.io/basic-auth" if get("username").is_none() && get("password").is_none() => {
                require(&["username", "password"]);
            }
            "kubernetes.io/ssh-auth" if get("ssh-privatekey").is_none_or(str::is_empty) => require(&["ssh-privatekey"]),
            "kubernetes.io/tls" => {
                for key in ["tls.crt", "tls.key"] {
                    if get(key).is_none() {
                        require(&[key]);
                    }
                }
            }
            _ => {}
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_text(&mut errors, new, old, "type");
        errors.extend(config_data::validate_sealed(new, old, &["data"]));
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let count = config_data::entries(object, "data").count();
        vec![cells::name(object), cells::text(object, "type"), count.into(), cells::age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn plain_text_becomes_data() {
        testing::defaults(
            &KIND,
            json!({"data": {"b": "eA=="}, "stringData": {"a": "x", "b": "y"}}),
            &json!({"type": "Opaque", "data": {"a": "eA==", "b": "eQ=="}}),
        );
    }

    #[test]
    fn types_require_their_keys() {
        for (object, sentences) in [
            (json!({"type": "Opaque", "data": {"a": ""}}), vec![]),
            (json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}), vec!["data[tls.key]: Required value"]),
            (
                json!({"type": "kubernetes.io/basic-auth"}),
                vec!["data[username]: Required value", "data[password]: Required value"],
            ),
            (
                json!({"type": "kubernetes.io/service-account-token"}),
                vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
            (json!({"type": "kubernetes.io/dockerconfigjson"}), vec!["data[.dockerconfigjson]: Required value"]),
        ] {
            testing::invalid(&KIND, &object, &sentences);
        }
        testing::invalid_update(
            &KIND,
            &json!({"type": "b"}),
            &json!({"type": "a"}),
            &["type: Invalid value: \"b\": field is immutable"],
        );
    }
}
