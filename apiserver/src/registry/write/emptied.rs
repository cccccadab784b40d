//! What a client said although it is empty. Lists and maps without entries are not kept, so that they are judged as absent ones; upstream
//! tells them apart until it has stored them: in its sentences, and in what some kinds call a change.
//!
//! Never decides whether a write is refused.

use super::Options;
use api::codec::{self, Strictness};
use api::field_path::Errors;
use api::json::Value;
use api::kind::Kind;
use api::schema::{Field, SchemaRef, Shape, TypeId, Types};
use bytes::Bytes;

/// A body as it came.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its media type.
    pub media: String,
    /// All of it.
    pub bytes: Bytes,
}

impl Said {
    /// Something in it is empty.
    fn has_empty(&self) -> bool {
        let opened = self.bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
        let closed = opened.clone().skip(1);
        opened.zip(closed).any(|pair| matches!(pair, (b'[', b']') | (b'{', b'}')))
    }
}

/// The object with what its body says that is empty; `None` where that is nothing.
pub(super) fn given(kind: &Kind, options: &Options, object: &Value) -> Option<Value> {
    let said = options.said_body.as_ref().filter(|said| kind.custom.is_none() && said.has_empty())?;
    let decode = match said.media.as_str() {
        "application/json" => codec::json::decode_applied,
        "application/yaml" => codec::yaml::decode_applied,
        _ => return None,
    };
    let SchemaRef { types, id } = kind.schema();
    let mut said = decode(&said.bytes, kind.schema(), Strictness::Ignore).ok()?.value;
    let written = |name: &str| match options.subresource.as_str() {
        "" => !matches!(name, "metadata" | "apiVersion" | "kind") && (name != "status" || !kind.has_status()),
        part => name == part,
    };
    said.as_object_mut()?.retain(|name, _| written(name));
    let mut object = object.clone();
    structure(&mut object, &said, types, id).then_some(object)
}

fn structure(object: &mut Value, said: &Value, types: &Types, id: TypeId) -> bool {
    let mut more = false;
    for field in &types.get(id).fields {
        let Some(said) = said.get(&field.name) else { continue };
        let own = object.get_mut(&field.name).filter(|own| !own.is_null());
        more |= match own {
            Some(own) => value(own, said, &field.shape, types),
            None if tells(field, said) => {
                api::value::set(object, &field.name, said.clone());
                true
            }
            None => false,
        };
    }
    more
}

fn tells(field: &Field, said: &Value) -> bool {
    let collection = matches!(field.shape, Shape::List { .. } | Shape::Map { .. });
    collection && !field.pointer && codec::is_empty(said)
}

fn value(own: &mut Value, said: &Value, shape: &Shape, types: &Types) -> bool {
    match (shape, own, said) {
        (Shape::Struct(id), own @ Value::Object(_), Value::Object(_)) => structure(own, said, types, *id),
        (Shape::List { items, .. }, Value::Array(own), Value::Array(said)) if own.len() == said.len() => {
            own.iter_mut().zip(said).fold(false, |more, (own, said)| value(own, said, items, types) | more)
        }
        (Shape::Map { values, .. }, Value::Object(own), Value::Object(said)) => {
            own.iter_mut().fold(false, |more, (name, own)| match said.get(name) {
                Some(said) => value(own, said, values, types) | more,
                None => more,
            })
        }
        _ => false,
    }
}

/// What is wrong with an object, in the words for what its body says.
pub(super) fn judged(kind: &Kind, options: &Options, object: &Value, judge: impl Fn(&Value) -> Errors) -> Errors {
    let errors = judge(object);
    if errors.is_empty() {
        return errors;
    }
    match given(kind, options, object) {
        Some(given) => retold(errors, judge(&given)),
        None => errors,
    }
}

/// Errors in the words of those that were found where nothing was left out, as far as they are the same errors.
fn retold(errors: Errors, others: Errors) -> Errors {
    let same = errors.len() == others.len()
        && errors.iter().zip(&others).all(|(one, other)| one.kind == other.kind && one.field == other.field);
    if same { others } else { errors }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::field_path::{FieldError, Path};
    use api::json::json;
    use std::sync::Arc;

    #[test]
    fn what_is_empty_is_known_again() {
        let kind = api::kinds::by_gvk("apps", "v1", "Deployment").unwrap();
        let check = |subresource: &str, said: Value, object: Value, wanted: Option<Value>| {
            let said_body =
                Some(Arc::new(Said { media: "application/json".to_owned(), bytes: said.to_string().into() }));
            let options = Options { subresource: subresource.to_owned(), said_body, ..Options::default() };
            assert_eq!(given(kind, &options, &object), wanted, "{said}");
        };
        let pod = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
        let kept = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
        check(
            "",
            pod(json!({"volumes": [], "containers": [{"name": "a", "env": []}, {"name": "b"}]})),
            kept.clone(),
            Some(pod(json!({"volumes": [], "containers": [{"name": "a", "env": []}, {"name": "b"}]}))),
        );
        check("", pod(json!({"hostNetwork": false, "nodeName": ""})), kept.clone(), None);
        // What has become something else meanwhile stays what it became.
        check("", pod(json!({"volumes": []})), pod(json!({"volumes": [{"name": "v"}]})), None);
        check("", pod(json!({"containers": [{"env": []}]})), kept.clone(), None);
        check("", json!({"metadata": {"labels": {}}, "status": {"conditions": []}}), kept.clone(), None);
        check("scale", json!({"spec": {}}), kept.clone(), None);
        check(
            "status",
            json!({"spec": {}, "status": {"conditions": []}}),
            json!({"status": {"replicas": 1}}),
            Some(json!({"status": {"replicas": 1, "conditions": []}})),
        );
    }

    #[test]
    fn only_the_words_of_an_error_change() {
        let error = |field: &str, value: Value| FieldError::invalid(&Path::new(field), value, "x");
        let (one, other) = (vec![error("a", Value::Null)], vec![error("a", json!([]))]);
        assert_eq!(retold(one.clone(), other.clone()), other);
        assert_eq!(retold(one.clone(), vec![error("b", json!([]))]), one);
        assert_eq!(retold(Errors::new(), other), Errors::new());
    }
}
