//! What is asked of a conversion webhook, and what its answers mean.
//!
//! Never asks. Sentences are upstream's (`apiextensions-apiserver/pkg/apiserver/conversion`): people look for them in logs.

use crate::field_path::{Errors, Path};
use crate::json::{Map, Value, json};
use crate::kinds::shared::labels;
use crate::value;

/// The conversion of a definition whose strategy is `Webhook`.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// `apiVersion` of all versions, served or not.
    versions: Vec<String>,
    /// The version of reviews; `None` when the webhook takes none that we know.
    review: Option<&'static str>,
    /// `clientConfig`: where the webhook is.
    pub client: Value,
}

impl Conversion {
    /// From `spec` of a definition; `None` where versions differ by name alone.
    #[must_use]
    pub fn read(spec: &Value) -> Option<Conversion> {
        if value::text(spec, "conversion.strategy") != "Webhook" {
            return None;
        }
        let group = value::text(spec, "group");
        let versions = value::items(spec, "versions").iter();
        let mut reviews = value::items(spec, "conversion.webhook.conversionReviewVersions").iter();
        Some(Conversion {
            versions: versions.map(|version| format!("{group}/{}", value::text(version, "name"))).collect(),
            review: reviews.find_map(|version| ["v1", "v1beta1"].into_iter().find(|known| version == *known)),
            client: value::get(spec, "conversion.webhook.clientConfig").cloned().unwrap_or_default(),
        })
    }

    /// The review that asks for `objects` as `desired`, an `apiVersion`.
    ///
    /// # Errors
    /// A sentence: an object is of no version of the definition, or there is no review that both sides know.
    pub fn question(&self, objects: &[Value], desired: &str, uid: &str) -> Result<Value, String> {
        for object in objects {
            let version = value::text(object, "apiVersion");
            if !self.versions.iter().any(|known| known == version) {
                return Err(format!("request to convert CR from an invalid group/version: {version}"));
            }
        }
        let Some(review) = self.review else { return Err("no supported conversion review versions".to_owned()) };
        Ok(json!({
            "kind": "ConversionReview",
            "apiVersion": format!("apiextensions.k8s.io/{review}"),
            "request": {"uid": uid, "desiredAPIVersion": desired, "objects": objects},
        }))
    }

    /// The converted objects of an answer, in the order of the question, with the metadata that a webhook may not touch.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the answer.
    pub fn answer(&self, asked: &[Value], desired: &str, uid: &str, answer: &[u8]) -> Result<Vec<Value>, String> {
        let of = shown(asked.first().unwrap_or(&Value::Null));
        let converted = self.objects(uid, answer).map_err(|why| failed(asked, &why))?;
        if converted.len() != asked.len() {
            return Err(format!(
                "conversion webhook for {of} returned {} objects, expected {}",
                converted.len(),
                asked.len()
            ));
        }
        let many = asked.len() > 1;
        let pairs = asked.iter().zip(converted).enumerate();
        pairs
            .map(|(index, (original, mut object))| {
                let wrong = |what: &str, at: bool, why: &str| match (many, at) {
                    (true, _) if what == "metadata" => {
                        format!(
                            "conversion webhook for {of} returned invalid metadata in object at index {index}: {why}"
                        )
                    }
                    (true, _) => {
                        format!("conversion webhook for {of} returned invalid converted object at index {index}: {why}")
                    }
                    (false, true) => {
                        format!("conversion webhook for {of} returned invalid {what} at index {index}: {why}")
                    }
                    (false, false) => format!("conversion webhook for {of} returned invalid {what}: {why}"),
                };
                identity(original, &object, desired).map_err(|(at, why)| wrong("object", at, &why))?;
                restore(original, &mut object).map_err(|why| wrong("metadata", false, &why))?;
                Ok(object)
            })
            .collect()
    }

    fn objects(&self, uid: &str, answer: &[u8]) -> Result<Vec<Value>, String> {
        let review: Value = crate::json::from_slice(answer)
            .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
        let missing =
            |what: &str| format!("Object '{what}' is missing in '{}'", String::from_utf8_lossy(answer).trim());
        let (version, kind) = (value::text(&review, "apiVersion"), value::text(&review, "kind"));
        if kind.is_empty() {
            return Err(missing("Kind"));
        }
        if version.is_empty() {
            return Err(missing("apiVersion"));
        }
        let strict = self.review == Some("v1");
        if strict && (version, kind) != ("apiextensions.k8s.io/v1", "ConversionReview") {
            return Err(format!(
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {version}, Kind={kind}"
            ));
        }
        let Some(response) = review.get("response").filter(|response| response.is_object()) else {
            return Err("no response provided".to_owned());
        };
        let answered = value::text(response, "uid");
        if strict && answered != uid {
            return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
        }
        let status = value::text(response, "result.status");
        if status != "Success" {
            return Err(match value::text(response, "result.message") {
                "" => format!("response.result.status was '{status}', not 'Success'"),
                said => said.to_owned(),
            });
        }
        Ok(value::items(response, "convertedObjects").to_vec())
    }
}

/// The sentence of a conversion that did not come about.
#[must_use]
pub fn failed(asked: &[Value], why: &str) -> String {
    format!("conversion webhook for {} failed: {why}", shown(asked.first().unwrap_or(&Value::Null)))
}

/// `stable.example.com/v1, Kind=CronTab`.
fn shown(object: &Value) -> String {
    format!("{}, Kind={}", value::text(object, "apiVersion"), value::text(object, "kind"))
}

/// A converted object is still the object; `true` beside the sentence when it names the object's place.
fn identity(original: &Value, converted: &Value, desired: &str) -> Result<(), (bool, String)> {
    let text = |object, path| value::text(object, path).to_owned();
    let got = text(converted, "apiVersion");
    if got != desired {
        return Err((true, format!("invalid groupVersion (expected {desired}, received {got})")));
    }
    let (was, is) = (text(original, "kind"), text(converted, "kind"));
    if was != is {
        return Err((true, format!("invalid kind (expected {was}, received {is})")));
    }
    for (field, path) in [("name", "metadata.name"), ("namespace", "metadata.namespace"), ("UID", "metadata.uid")] {
        let (was, is) = (text(original, path), text(converted, path));
        if was != is {
            return Err((false, format!("must have the same {field}: {was} != {is}")));
        }
    }
    Ok(())
}

/// Of the metadata that a webhook gives, labels and annotations count.
fn restore(original: &Value, converted: &mut Value) -> Result<(), String> {
    let given = match converted.get("metadata") {
        None => return Err("missing metadata in converted object".to_owned()),
        Some(Value::Object(given)) => given.clone(),
        Some(odd) => return Err(format!("invalid metadata of type {} in converted object", go_type(odd))),
    };
    let mut kept = original.get("metadata").cloned().unwrap_or_else(|| Map::new().into());
    let Some(metadata) = kept.as_object_mut() else {
        return Err(format!("invalid metadata of type {} in input object", go_type(&kept)));
    };
    for field in ["labels", "annotations"] {
        let Some(said) = given.get(field).filter(|said| !said.is_null()) else {
            metadata.remove(field);
            continue;
        };
        let Value::Object(words) = said else {
            return Err(format!("invalid metadata.{field} of type {} in converted object", go_type(said)));
        };
        if let Some((key, odd)) = words.iter().find(|(_, word)| !word.is_string()) {
            let of = go_type(odd);
            return Err(format!("metadata.{field}[{key}] must be a string, but is {of} in converted object"));
        }
        if metadata.get(field) != Some(said) {
            let path = Path::new("metadata");
            let errors = match field {
                "labels" => labels::validate(Some(said), &path.child("labels")),
                _ => labels::validate_annotations(Some(said), &path.child("annotation")),
            };
            if !errors.is_empty() {
                return Err(aggregate(&errors));
            }
        }
        metadata.insert(field.to_owned(), said.clone());
    }
    value::set(converted, "metadata", kept);
    Ok(())
}

fn aggregate(errors: &Errors) -> String {
    let mut said: Vec<String> = Vec::new();
    for error in errors.iter().map(ToString::to_string) {
        if !said.contains(&error) {
            said.push(error);
        }
    }
    match said.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn go_type(value: &Value) -> &'static str {
    super::kinds::go_type(value)
}

#[cfg(test)]
#[path = "conversion_tests.rs"]
mod tests;
