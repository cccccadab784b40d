//! Admission of what is no object of the store: bodies of subresources, reviews, the options of connections; and the shapes in which
//! those outside are shown an object.
//!
//! Never writes. Admission of objects is a step of `write.rs`.

use super::Target;
use super::write::{Options, admission_request};
use crate::answer::Failure;
use crate::road::authorized::Permit;
use crate::server::Server;
use admission::{Form, Operation, Request, Shape};
use api::json::{Value, json};
use api::kind::{Gvk, Part, Subresource};
use api::selector::LabelSelector;
use api::{meta, value};

/// `autoscaling/v1 Scale`.
pub const SCALE: Gvk = Gvk { group: "autoscaling", version: "v1", kind: "Scale" };

/// Asks those outside about a body of this kind; they may change it.
///
/// # Errors
/// Their refusal.
pub async fn body(
    server: &Server,
    permit: &Permit,
    target: &Target,
    options: &Options,
    gvk: Gvk,
    object: &mut Value,
) -> Result<(), Failure> {
    ask(server, permit, target, options, (Operation::Create, gvk), object).await
}

/// Asks those outside about a connection with these options, which stay as they are.
///
/// # Errors
/// Their refusal.
pub async fn connection(
    server: &Server,
    permit: &Permit,
    target: &Target,
    options: &Options,
    gvk: Gvk,
    given: &Value,
) -> Result<(), Failure> {
    ask(server, permit, target, options, (Operation::Connect, gvk), &mut given.clone()).await
}

/// Lets those outside change a body that is going to be judged.
///
/// # Errors
/// Their refusal.
pub async fn mutate(server: &Server, asked: &Asked<'_>, object: &mut Value) -> Result<(), Failure> {
    let request = asked.request(server);
    server.admission.mutate(&request, object, server).await.map_err(|refusal| refusal.0)?;
    Ok(())
}

/// Lets those outside judge a body.
///
/// # Errors
/// Their refusal.
pub async fn validate(server: &Server, asked: &Asked<'_>, object: &Value) -> Result<(), Failure> {
    let request = asked.request(server);
    server.admission.validate(&request, object, server).await.map_err(|refusal| refusal.0)?;
    Ok(())
}

/// What those outside are told of a body beside the body.
pub struct Asked<'a> {
    /// What is done with it.
    pub operation: Operation,
    /// Its kind.
    pub gvk: Gvk,
    /// What it is sent to.
    pub target: &'a Target,
    /// What the query says.
    pub options: &'a Options,
    /// Who sends it.
    pub permit: &'a Permit,
}

impl<'a> Asked<'a> {
    fn request(&self, server: &Server) -> Request<'a> {
        let request =
            admission_request(self.operation, self.target, self.options, self.permit, &Value::Null, server.now());
        Request { form: Form::Body(self.gvk), ..request }
    }
}

async fn ask(
    server: &Server,
    permit: &Permit,
    target: &Target,
    options: &Options,
    (operation, gvk): (Operation, Gvk),
    object: &mut Value,
) -> Result<(), Failure> {
    let asked = Asked { operation, gvk, target, options, permit };
    mutate(server, &asked, object).await?;
    validate(server, &asked, object).await
}

/// The shape in which a subresource shows the whole object, if it is another one.
#[must_use]
pub fn shape(part: Option<&Subresource>) -> Option<Scaled> {
    match part?.part {
        Part::Scale { replicas, observed, selector } => Some(Scaled { replicas, observed, selector }),
        _ => None,
    }
}

/// Paths of a kind's scale.
#[derive(Clone, Copy, Debug)]
pub struct Scaled {
    /// The count that is wanted.
    pub replicas: &'static str,
    /// The count that there is.
    pub observed: &'static str,
    /// Whose count.
    pub selector: &'static str,
}

impl Shape for Scaled {
    fn gvk(&self) -> Gvk {
        SCALE
    }

    fn show(&self, object: &Value) -> Value {
        if object.is_null() {
            return Value::Null;
        }
        let mut meta = json!({});
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(found) = value::get(object, &format!("metadata.{field}")) {
                value::set(&mut meta, field, found.clone());
            }
        }
        let selector = value::get(object, self.selector).and_then(|found| {
            // Custom resources keep it as clients write it.
            if let Some(text) = found.as_str() {
                return Some(text.to_owned());
            }
            let labels = found.get("matchLabels").is_some() || found.get("matchExpressions").is_some();
            let selector = if labels { found.clone() } else { json!({"matchLabels": found}) };
            LabelSelector::from_value(&selector).ok().map(|selector| selector.to_string())
        });
        json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": meta,
            "spec": {"replicas": value::int(object, self.replicas).unwrap_or(0)},
            "status": {
                "replicas": value::int(object, self.observed).unwrap_or(0),
                "selector": selector.unwrap_or_default(),
            },
        })
    }

    fn take(&self, object: &mut Value, shown: &Value) {
        value::set(object, self.replicas, value::int(shown, "spec.replicas").unwrap_or(0));
        match meta::resource_version(shown) {
            "" => drop(value::remove(object, "metadata.resourceVersion")),
            version => value::set(object, "metadata.resourceVersion", version),
        }
    }
}
