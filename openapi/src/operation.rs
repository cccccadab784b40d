//! Operations of the API and how both OpenAPI versions write them.
//!
//! Never says which operations there are; `paths.rs` does.

use crate::schemas::Form;
use api::json::{Map, Value, json};
use std::collections::BTreeSet;

/// Where a parameter is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the path; always required.
    Path,
    /// In the query.
    Query,
}

/// A parameter of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// `string`, `integer` or `boolean`.
    pub(crate) kind: &'static str,
    pub(crate) sentence: String,
}

impl Parameter {
    pub(crate) fn query(name: &str, kind: &'static str, sentence: &str) -> Parameter {
        Parameter { name: name.to_owned(), place: Place::Query, kind, sentence: sentence.to_owned() }
    }

    pub(crate) fn path(name: &str, sentence: &str) -> Parameter {
        Parameter { name: name.to_owned(), place: Place::Path, kind: "string", sentence: sentence.to_owned() }
    }

    fn write(&self, form: Form) -> Value {
        let place = if self.place == Place::Path { "path" } else { "query" };
        let mut out = json!({"name": self.name, "in": place, "description": self.sentence});
        match form {
            Form::V2 => {
                api::value::set(&mut out, "type", self.kind);
                api::value::set(&mut out, "uniqueItems", true);
            }
            Form::V3 => api::value::set(&mut out, "schema", json!({"type": self.kind, "uniqueItems": true})),
        }
        if self.place == Place::Path {
            api::value::set(&mut out, "required", true);
        }
        out
    }
}

/// The body of a request.
pub(crate) struct Body {
    /// Name of its type.
    pub(crate) of: String,
    pub(crate) required: bool,
    pub(crate) media: &'static [&'static str],
}

/// The body of an answer.
pub(crate) enum Content {
    /// This type.
    Of(String),
    /// Text or bytes of any kind.
    Text,
}

/// One operation.
pub(crate) struct Operation {
    /// HTTP method in lower case.
    pub(crate) method: &'static str,
    /// Unique in all documents.
    pub(crate) id: String,
    pub(crate) sentence: String,
    pub(crate) tag: String,
    /// `x-kubernetes-action`; absent on paths that are no resources.
    pub(crate) action: Option<&'static str>,
    pub(crate) gvk: Option<(String, String, String)>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<Body>,
    /// Media types of requests, for v2.
    pub(crate) consumes: Vec<&'static str>,
    /// Media types of answers.
    pub(crate) produces: Vec<&'static str>,
    pub(crate) content: Content,
    /// Codes of success and their sentences.
    pub(crate) codes: &'static [(&'static str, &'static str)],
}

/// A path and its operations.
pub(crate) struct Route {
    pub(crate) path: String,
    pub(crate) operations: Vec<Operation>,
}

/// Writes routes and remembers which types they named.
pub(crate) struct Writer {
    pub(crate) form: Form,
    pub(crate) reached: BTreeSet<String>,
}

impl Writer {
    /// The path item: parameters that all operations share stand beside them.
    pub(crate) fn route(&mut self, route: &Route) -> Value {
        let mut shared: Vec<&Parameter> = Vec::new();
        if let Some((first, others)) = route.operations.split_first() {
            shared.extend(first.parameters.iter().filter(|p| others.iter().all(|op| op.parameters.contains(p))));
        }
        let mut out = Map::new();
        for operation in &route.operations {
            out.insert(operation.method.to_owned(), self.operation(operation, &shared));
        }
        if !shared.is_empty() {
            out.insert("parameters", self.parameters(&shared).into());
        }
        Value::Object(out)
    }

    fn reference(&mut self, name: &str) -> Value {
        self.reached.insert(name.to_owned());
        json!({"$ref": self.form.reference(name)})
    }

    fn parameters(&self, parameters: &[&Parameter]) -> Vec<Value> {
        let mut sorted = parameters.to_vec();
        sorted.sort_by_key(|p| (&p.name, p.place == Place::Query));
        sorted.into_iter().map(|p| p.write(self.form)).collect()
    }

    fn response(&mut self, operation: &Operation, sentence: &str) -> Value {
        let schema = match &operation.content {
            Content::Of(name) => self.reference(name),
            Content::Text => json!({"type": "string"}),
        };
        match self.form {
            Form::V2 => json!({"description": sentence, "schema": schema}),
            Form::V3 => json!({"description": sentence, "content": content(&operation.produces, &schema)}),
        }
    }

    fn operation(&mut self, operation: &Operation, shared: &[&Parameter]) -> Value {
        let own: Vec<&Parameter> = operation.parameters.iter().filter(|p| !shared.contains(p)).collect();
        let mut parameters = self.parameters(&own);
        let mut out = json!({
            "operationId": operation.id,
            "description": operation.sentence,
            "tags": [operation.tag],
        });
        let Some(map) = out.as_object_mut() else { return out };
        if let Some(action) = operation.action {
            map.insert("x-kubernetes-action", action.into());
        }
        if let Some((group, version, kind)) = &operation.gvk {
            let gvk = json!({"group": group, "version": version, "kind": kind});
            map.insert("x-kubernetes-group-version-kind", gvk);
        }
        if let Some(body) = &operation.body {
            let schema = self.reference(&body.of);
            let mut request = match self.form {
                Form::V2 => json!({"name": "body", "in": "body", "schema": schema}),
                Form::V3 => json!({"content": content(body.media, &schema)}),
            };
            if body.required {
                api::value::set(&mut request, "required", true);
            }
            match self.form {
                Form::V2 => parameters.insert(0, request),
                Form::V3 => {
                    map.insert("requestBody", request);
                }
            }
        }
        if self.form == Form::V2 {
            map.insert("consumes", operation.consumes.clone().into());
            map.insert("produces", operation.produces.clone().into());
            map.insert("schemes", json!(["https"]));
        }
        if !parameters.is_empty() {
            map.insert("parameters", parameters.into());
        }
        let mut responses = Map::new();
        for (code, sentence) in operation.codes {
            responses.insert(*code, self.response(operation, sentence));
        }
        responses.insert("401", json!({"description": "Unauthorized"}));
        map.insert("responses", responses.into());
        out
    }
}

fn content(media: &[&str], schema: &Value) -> Map {
    media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect()
}
