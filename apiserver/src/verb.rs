//! What happens to an authorized request: one file per verb, chosen here.
//!
//! Never checks rights; an `Authorized` is proof that they were checked.

pub mod apply;
mod backend;
pub mod computed;
pub mod connect;
pub mod create;
pub mod delete;
pub mod evict;
pub mod get;
pub mod list;
mod logs;
pub mod options;
mod page;
pub mod patch;
pub mod review;
pub mod scale;
pub mod shown;
mod spdy;
mod streams;
pub mod token;
pub mod update;
pub mod watch;
mod websocket;

use self::options::WriteOptions;
use crate::aggregate;
use crate::answer::{Answer, Failure, refusal};
use crate::discovery;
use crate::registry::Target;
use crate::registry::write::{Options, Said};
use crate::road::authorized::Authorized;
use crate::road::decoded::{self, Decoded};
use crate::road::negotiated::{self, Form, Medium};
use crate::road::received::{Received, RequestInfo};
use crate::server::Server;
use api::json::Value;
use api::kind::{Gvk, Kind, Part, Subresource, Verb};
use api::schema::{SchemaRef, native};
use api::status::Status;
use std::sync::Arc;

/// An authorized request about a resource, ready for its verb.
pub struct Call {
    /// The request and its permit.
    pub authorized: Authorized,
    /// What it is about.
    pub target: Target,
    /// Through which subresource.
    pub part: Option<&'static Subresource>,
    /// What the client accepts.
    pub medium: Medium,
    /// The body that was read as an object of the kind.
    pub said: Option<Arc<Said>>,
}

impl Call {
    /// The request.
    #[must_use]
    pub fn received(&self) -> &Received {
        &self.authorized.received
    }

    /// Warns the client, however the request ends.
    pub fn warn(&self, sentences: Vec<String>) {
        sentences.into_iter().for_each(|sentence| self.authorized.permit.notes().warn(sentence));
    }

    /// Reads the body as an object of this type and checks that it says so.
    ///
    /// # Errors
    /// Those of reading and decoding; 400 for another type.
    pub async fn object(&mut self, schema: SchemaRef<'static>, gvk: Gvk) -> Result<Value, Failure> {
        let strictness = self.write_query()?.strictness;
        let media = decoded::content_type(self.received());
        let body = decoded::body(self.received()).await?;
        if gvk == self.target.kind.gvk() {
            self.said = Some(Arc::new(Said { media: media.clone(), bytes: body.clone() }));
        }
        let Decoded { mut value, warnings } = decoded::typed(&media, &body, schema, strictness, gvk)?;
        decoded::expect_kind(&mut value, gvk, schema.def().free)?;
        self.warn(warnings);
        if let Some(slip) = &self.received().slip {
            slip.object(&value, schema);
        }
        Ok(value)
    }

    /// Reads the body as an object of the kind itself.
    ///
    /// # Errors
    /// As for `object`.
    pub async fn own_object(&mut self) -> Result<Value, Failure> {
        let kind = self.target.kind;
        self.object(kind.schema(), kind.gvk()).await
    }

    /// Reads the body as the type that the subresource takes.
    ///
    /// # Errors
    /// As for `object`, and 500 when the fact table lacks the type.
    pub async fn part_object(&mut self) -> Result<Value, Failure> {
        let gvk = self.part.map(|part| part.gvk).ok_or_else(Status::no_such_path)?;
        self.object(part_schema(gvk)?, gvk).await
    }

    /// What the query says of a write.
    ///
    /// # Errors
    /// 422 for words that the options do not know.
    pub fn write_query(&self) -> Result<WriteOptions, Failure> {
        let received = self.received();
        let options = match received.info.verb.as_str() {
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            "delete" | "deletecollection" => "DeleteOptions",
            _ => "CreateOptions",
        };
        let apply = options == "PatchOptions" && decoded::content_type(received) == apply::MEDIA;
        options::of_write(&received.query, options, apply)
    }

    /// What the registry needs to know of a write.
    ///
    /// # Errors
    /// As for `write_query`.
    pub fn write_options(&self) -> Result<Options, Failure> {
        let WriteOptions { dry_run, mut manager, .. } = self.write_query()?;
        let mut said = api::json::Map::new();
        if dry_run {
            said.insert("dryRun".to_owned(), api::json::json!(["All"]));
        }
        for name in ["fieldManager", "fieldValidation"] {
            if let Some(text) = self.received().query.get(name).filter(|text| !text.is_empty()) {
                said.insert(name.to_owned(), text.into());
            }
        }
        if manager.is_empty() {
            // Upstream's rule: the user agent up to its first slash.
            let agent = self.received().header("user-agent").unwrap_or_default();
            manager = agent.split('/').next().unwrap_or_default().chars().take(128).collect();
        }
        let subresource = self.part.map_or("", |part| part.name).to_owned();
        let verb = self.received().info.verb.clone();
        Ok(Options {
            dry_run,
            manager,
            subresource,
            verb,
            said: said.into(),
            unseen: false,
            said_body: self.said.clone(),
        })
    }
}

/// The schema of a subresource's body.
///
/// # Errors
/// 500 when the fact table lacks it.
pub fn part_schema(gvk: Gvk) -> Result<SchemaRef<'static>, Failure> {
    let schema = native().of_gvk(gvk.group, gvk.version, gvk.kind);
    schema.ok_or_else(|| Status::internal(format!("no schema for {}", gvk.kind)).into())
}

/// Answers an authorized request.
///
/// # Errors
/// Whatever the verb fails with.
pub async fn answer(server: &Server, authorized: Authorized) -> Result<Answer, Failure> {
    let notes = Arc::clone(authorized.permit.notes());
    if let Some(remote) = server.aggregates.of(&authorized.received.info.path) {
        return Box::pin(aggregate::answer(server, authorized, &remote)).await;
    }
    let received = &authorized.received;
    if !received.info.is_resource {
        return Box::pin(discovery::answer(server, received)).await;
    }
    let info = received.info.clone();
    let offer = server.offer();
    let served = &offer.served;
    let kind = served.by_resource(&info.group, &info.version, &info.resource).filter(|_| !info.gaps);
    let Some(kind) = kind else { return discovery::nowhere(served, &info.path) };
    let part = match info.subresource.as_str() {
        "" => None,
        name => Some(kind.subresource(name).ok_or_else(Status::no_such_path)?),
    };
    check_scope(kind, &info)?;
    let item = !info.name.is_empty();
    let misplaced =
        part.is_none() && (matches!(info.verb.as_str(), "update" | "patch") && !item || info.verb == "create" && item);
    if misplaced || !routed(kind, part, received) {
        return Err(Status::no_such_method().into());
    }
    // A subresource with a body of another kind is as new as that kind.
    let deprecated = kind.deprecated.filter(|_| part.is_none_or(|part| part.gvk == kind.gvk()));
    if let Some(deprecated) = deprecated {
        server.metrics.deprecated(kind, &info.subresource, deprecated.removed);
        if let Some(slip) = &received.slip {
            slip.note("k8s.io/deprecated", "true");
            if let Some(removed) = deprecated.removed {
                slip.note("k8s.io/removed-release", removed);
            }
        }
    }
    let warning = deprecated.and_then(|_| kind.deprecation());
    let pretty = received.pretty();
    let streaming = matches!(part.map(|part| part.part), Some(Part::Node | Part::Proxy));
    let binary = kind.custom.is_none() || part.is_some_and(|part| part.gvk != kind.gvk());
    let streams = matches!(info.verb.as_str(), "list" | "watch");
    let medium = match streaming {
        true => Medium::JSON,
        false => negotiated::negotiate(received.header("accept"), pretty, binary, streams)?,
    };
    // Upstream prints no tables of what it does not keep.
    if matches!(medium.form, Form::Table(_)) && part.is_none() && !kind.verbs.contains(&Verb::Get) {
        return Err(Status::not_acceptable(negotiated::OFFERED).into());
    }
    // `namespaces/x` is authorized in x, but stored in no namespace.
    let namespace = if kind.namespaced { info.namespace.clone() } else { String::new() };
    let target = Target { kind, namespace, name: info.name.clone() };
    let refused = received.refused();
    let call = Call { authorized, target, part, medium, said: None };
    // Each verb in a box of its own: together they would be as large as the largest, and every request would be copied with that on its way here.
    let answer = match (part.map(|part| part.part), info.verb.as_str()) {
        (Some(Part::Node | Part::Proxy), _) => Box::pin(connect::answer(server, call)).await,
        (Some(Part::Binding), "create") => Box::pin(create::bind(server, call)).await,
        (Some(Part::Eviction), "create") => Box::pin(evict::answer(server, call)).await,
        (Some(Part::Token), "create") => Box::pin(token::answer(server, call)).await,
        (Some(Part::Scale { .. }), "get" | "update" | "patch") => Box::pin(scale::answer(server, call)).await,
        (Some(Part::View { .. }), "get") => Box::pin(get::answer(server, call)).await,
        (Some(Part::View { .. }), "update") => Box::pin(update::answer(server, call)).await,
        (Some(Part::View { .. }), "patch") => Box::pin(patch::answer(server, call)).await,
        (Some(_), _) => Err(Status::no_such_method().into()),
        (None, "create") if kind.creates.is_some() => Box::pin(create::of_part(server, call)).await,
        (None, "get" | "list") if kind.computed => Box::pin(computed::answer(server, call)).await,
        (None, "create") if !kind.is_stored() => Box::pin(review::answer(server, call)).await,
        (None, "create") => Box::pin(create::answer(server, call)).await,
        (None, "get") => Box::pin(get::answer(server, call)).await,
        (None, "list") => Box::pin(list::answer(server, call)).await,
        (None, "watch") => Box::pin(watch::answer(server, call)).await,
        (None, "update") => Box::pin(update::answer(server, call)).await,
        (None, "patch") => Box::pin(patch::answer(server, call)).await,
        (None, "delete") => Box::pin(delete::answer(server, call)).await,
        (None, "deletecollection") => Box::pin(delete::collection(server, call)).await,
        (None, _) => Err(Status::no_such_method().into()),
    };
    let noted = notes.warnings();
    match answer {
        answer if warning.is_none() && noted.is_empty() => answer,
        Ok(answer) => Ok(answer.warn_first(warning).warn(noted)),
        // A refusal warns as well.
        Err(failure) => {
            let failure = Box::pin(crate::registry::unreadable::explained(server, failure)).await;
            Ok(refusal(failure, refused).warn(warning).warn(noted))
        }
    }
}

/// The methods in which something can be proxied.
const CONNECTED: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// Whether there is a route for the method.
fn routed(kind: &Kind, part: Option<&Subresource>, received: &Received) -> bool {
    let verbs = match part {
        Some(part) if matches!(part.part, Part::Proxy) => return CONNECTED.contains(&received.method.as_str()),
        Some(part) => part.verbs,
        None => kind.verbs,
    };
    // A path says `watch` whatever the method is.
    let method = match received.info.verb.as_str() {
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" | "deletecollection" => "DELETE",
        _ => "GET",
    };
    received.method == method && verbs.iter().any(|offered| offered.name() == received.info.verb)
}

/// Namespaced kinds are written in a namespace, others in none. A namespace is in itself: below another one it would be reached with
/// that one's rights.
fn check_scope(kind: &Kind, info: &RequestInfo) -> Result<(), Failure> {
    let RequestInfo { namespace, verb, .. } = info;
    let across = matches!(verb.as_str(), "list" | "watch");
    let itself = kind.plural == "namespaces" && info.name == *namespace;
    let misplaced = !kind.namespaced && !namespace.is_empty() && !itself;
    let homeless = kind.namespaced && namespace.is_empty();
    let listed = kind.verbs.contains(&Verb::List) && info.subresource.is_empty();
    if misplaced || homeless && !(listed && (across || info.name.is_empty())) {
        return Err(Status::no_such_path().into());
    }
    // The objects of all namespaces can be read together and nothing else.
    if homeless && !across { Err(Status::no_such_method().into()) } else { Ok(()) }
}
