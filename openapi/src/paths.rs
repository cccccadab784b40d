//! Which paths a kind has, and which operations they offer.
//!
//! Derived from the kind's description and the table of facts; never names a kind.

use crate::operation::{Body, Content, Operation, Parameter, Route};
use crate::schemas::META;
use api::kind::{Kind, Part, Subresource, Verb};
use api::schema::{Shape, Types};

const MEDIA: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAMS: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const ANY: &[&str] = &["*/*"];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Custom resources have no protobuf form, and their lists no strategies.
const CUSTOM_MEDIA: &[&str] = &["application/json", "application/yaml"];
const CUSTOM_PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

const OK: &[(&str, &str)] = &[("200", "OK")];
const MADE: &[(&str, &str)] = &[("200", "OK"), ("201", "Created"), ("202", "Accepted")];
const CHANGED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created")];
const DELETED: &[(&str, &str)] = &[("200", "OK"), ("202", "Accepted")];

/// Name, type and sentence of a query parameter.
type Query = (&'static str, &'static str, &'static str);

const PRETTY: Query = ("pretty", "string", "If 'true', the answer is indented.");
const DRY_RUN: Query = ("dryRun", "string", "With 'All' everything is done but the write itself.");
const MANAGER: Query =
    ("fieldManager", "string", "Who owns the fields that this request sets; at most 128 characters.");
const APPLIER: Query = (
    "fieldManager",
    "string",
    "Who owns the fields that this request sets; at most 128 characters. An apply must name its manager.",
);
const VALIDATION: Query =
    ("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict.");
const FORCE: Query = ("force", "boolean", "Apply takes over fields that other managers own.");
const WRITE: &[Query] = &[DRY_RUN, MANAGER, VALIDATION];
const PATCH: &[Query] = &[DRY_RUN, APPLIER, VALIDATION, FORCE];
const SELECT: &[Query] = &[
    ("continue", "string", "The token of the next page, from the metadata of the one before."),
    ("fieldSelector", "string", "Restricts the objects by their fields."),
    ("labelSelector", "string", "Restricts the objects by their labels."),
    ("limit", "integer", "The most objects in one answer; more follow with 'continue'."),
    ("resourceVersion", "string", "The version to read at, or to watch from."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "The watch begins with the present objects and a bookmark."),
    ("timeoutSeconds", "integer", "The list or watch ends after this time at the latest."),
];
const WATCH: &[Query] = &[
    ("allowWatchBookmarks", "boolean", "The watch may carry bookmarks, which tell how far it is."),
    ("watch", "boolean", "Answers with the changes instead of the list."),
];
const DELETE: &[Query] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "How many seconds the object has to end; 0 means at once."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Deletes an object that cannot be read, without finalizers and preconditions; may break the cluster.",
    ),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];

fn queries(sets: &[&[Query]]) -> Vec<Parameter> {
    sets.iter().copied().flatten().map(|(name, kind, sentence)| Parameter::query(name, kind, sentence)).collect()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" }
}

/// The group's part of names: `core`, `apps`, `rbacAuthorization`.
pub(crate) fn group_name(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    let words = group.trim_end_matches(".k8s.io").split('.').enumerate();
    words.map(|(at, word)| if at == 0 { word.to_owned() } else { capital(word) }).collect()
}

/// Name of the type of this group, version and kind.
fn type_name(types: &Types, group: &str, version: &str, kind: &str) -> String {
    types.of_gvk(group, version, kind).map_or_else(|| format!("{META}{kind}"), |schema| schema.def().name.clone())
}

/// Name of the kind's own type.
fn own(kind: &Kind, types: &Types) -> String {
    let custom = kind.custom.map(|custom| custom.type_name().to_owned());
    custom.unwrap_or_else(|| type_name(types, kind.group, kind.version, kind.kind))
}

/// All that the operations of one kind share.
struct Resource<'a> {
    kind: &'static Kind,
    types: &'a Types,
    /// `/apis/apps/v1`.
    root: String,
    /// `AppsV1`.
    prefix: String,
    tag: String,
    own: String,
    list: String,
}

/// What differs between operations.
struct Case {
    method: &'static str,
    action: &'static str,
    id: String,
    sentence: String,
    parameters: Vec<Parameter>,
    body: Option<(String, bool)>,
    answer: String,
    codes: &'static [(&'static str, &'static str)],
}

impl Resource<'_> {
    fn scope(&self) -> &'static str {
        if self.kind.namespaced { "Namespaced" } else { "" }
    }

    fn namespace(&self) -> Vec<Parameter> {
        let sentence = "object name and auth scope, such as for teams and projects";
        self.kind.namespaced.then(|| Parameter::path("namespace", sentence)).into_iter().collect()
    }

    fn name(&self, of: &str) -> Vec<Parameter> {
        let mut out = vec![Parameter::path("name", &format!("name of the {of}"))];
        out.extend(self.namespace());
        out
    }

    fn collection_path(&self, middle: &str) -> String {
        let namespace = if self.kind.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("{}{middle}{namespace}/{}", self.root, self.kind.plural)
    }

    fn gvk(&self) -> (String, String, String) {
        (self.kind.group.to_owned(), self.kind.version.to_owned(), self.kind.kind.to_owned())
    }

    fn operation(&self, case: Case) -> Operation {
        let streams = matches!(case.action, "list" | "watch" | "watchlist");
        let custom = self.kind.custom.is_some();
        let media: &'static [&'static str] = match case.action {
            "patch" if custom => CUSTOM_PATCHES,
            "patch" => PATCHES,
            _ if custom => CUSTOM_MEDIA,
            _ => ANY,
        };
        let mut parameters = case.parameters;
        parameters.extend(queries(&[&[PRETTY]]));
        Operation {
            method: case.method,
            id: case.id,
            sentence: case.sentence,
            tag: self.tag.clone(),
            action: Some(case.action),
            gvk: Some(self.gvk()),
            parameters,
            body: case.body.map(|(of, required)| Body { of, required, media }),
            consumes: media.to_vec(),
            produces: match custom {
                true => CUSTOM_MEDIA.to_vec(),
                false => MEDIA.iter().chain(STREAMS.iter().filter(|_| streams)).copied().collect(),
            },
            content: Content::Of(case.answer),
            codes: case.codes,
        }
    }

    fn has(&self, verb: Verb) -> bool {
        self.kind.verbs.contains(&verb)
    }

    fn listing(&self, id: String, parameters: Vec<Parameter>) -> Operation {
        let watch = if self.has(Verb::Watch) { " or watch" } else { "" };
        self.operation(Case {
            method: "get",
            action: "list",
            id,
            sentence: format!("list{watch} objects of kind {}", self.kind.kind),
            parameters,
            body: None,
            answer: self.list.clone(),
            codes: OK,
        })
    }

    fn collection(&self) -> Route {
        let Resource { kind, prefix, .. } = self;
        let (name, scope) = (kind.kind, self.scope());
        let with = |sets: &[&[Query]]| [self.namespace(), queries(sets)].concat();
        let mut operations = Vec::new();
        if self.has(Verb::List) {
            operations.push(self.listing(format!("list{prefix}{scope}{name}"), with(&[SELECT, WATCH])));
        }
        if self.has(Verb::Create) {
            operations.push(self.operation(Case {
                method: "post",
                action: "post",
                id: format!("create{prefix}{scope}{name}"),
                sentence: format!("create {} {name}", article(name)),
                parameters: with(&[WRITE]),
                body: Some((self.own.clone(), true)),
                answer: self.own.clone(),
                codes: MADE,
            }));
        }
        if self.has(Verb::DeleteCollection) {
            operations.push(self.operation(Case {
                method: "delete",
                action: "deletecollection",
                id: format!("delete{prefix}Collection{scope}{name}"),
                sentence: format!("delete collection of {name}"),
                parameters: with(&[DELETE, SELECT]),
                body: Some((format!("{META}DeleteOptions"), false)),
                answer: format!("{META}Status"),
                codes: OK,
            }));
        }
        Route { path: self.collection_path(""), operations }
    }

    /// Reading, replacing and patching the object or a part of it; `suffix` is the part.
    fn view(&self, verbs: &[Verb], part: &str, body: &str) -> Vec<Operation> {
        let Resource { kind, prefix, .. } = self;
        let (name, scope, suffix) = (kind.kind, self.scope(), capital(part));
        let whose = if part.is_empty() { String::new() } else { format!("{part} of ") };
        let with = |set: &[Query]| [self.name(name), queries(&[set])].concat();
        let mut operations = Vec::new();
        for verb in verbs {
            let (method, id, what, parameters, sent, codes) = match verb {
                Verb::Get => ("get", "read", "read", with(&[]), None, OK),
                Verb::Update => ("put", "replace", "replace", with(WRITE), Some(body.to_owned()), CHANGED),
                Verb::Patch => {
                    ("patch", "patch", "partially update", with(PATCH), Some(format!("{META}Patch")), CHANGED)
                }
                _ => continue,
            };
            operations.push(self.operation(Case {
                method,
                action: method,
                id: format!("{id}{prefix}{scope}{name}{suffix}"),
                sentence: format!("{what} {whose}the specified {name}"),
                parameters,
                body: sent.map(|body| (body, true)),
                answer: body.to_owned(),
                codes,
            }));
        }
        operations
    }

    /// Whether documents say that a deleted object is the answer. What ends by a subresource is answered with itself too, which
    /// upstream's do not say.
    fn answered_with_itself(&self) -> bool {
        self.kind.returns_deleted && self.kind.subresource("finalize").is_none()
    }

    fn item(&self) -> Route {
        let Resource { kind, prefix, own, .. } = self;
        let mut operations = self.view(kind.verbs, "", own);
        if self.has(Verb::Delete) {
            operations.push(self.operation(Case {
                method: "delete",
                action: "delete",
                id: format!("delete{prefix}{}{}", self.scope(), kind.kind),
                sentence: format!("delete {} {}", article(kind.kind), kind.kind),
                parameters: [self.name(kind.kind), queries(&[DELETE])].concat(),
                body: Some((format!("{META}DeleteOptions"), false)),
                answer: if self.answered_with_itself() { own.clone() } else { format!("{META}Status") },
                codes: DELETED,
            }));
        }
        Route { path: self.collection_path("") + "/{name}", operations }
    }

    fn watch(&self, action: &'static str, path: String, id: String, own: Vec<Parameter>) -> Route {
        let name = self.kind.kind;
        let sentence = match action {
            "watch" => format!("watch one {name}; deprecated: list with 'watch' and a 'fieldSelector' for the name"),
            _ => format!("watch objects of kind {name}; deprecated: list with 'watch'"),
        };
        let parameters = [own, queries(&[SELECT, WATCH])].concat();
        let answer = format!("{META}WatchEvent");
        let case = Case { method: "get", action, id, sentence, parameters, body: None, answer, codes: OK };
        Route { path, operations: vec![self.operation(case)] }
    }

    /// The deprecated paths below `watch/`.
    fn watches(&self, out: &mut Vec<Route>) {
        let Resource { kind, prefix, root, .. } = self;
        let (name, scope) = (kind.kind, self.scope());
        let collection = self.collection_path("/watch");
        let item = format!("{collection}/{{name}}");
        out.push(self.watch("watchlist", collection, format!("watch{prefix}{scope}{name}List"), self.namespace()));
        if self.has(Verb::Get) {
            out.push(self.watch("watch", item, format!("watch{prefix}{scope}{name}"), self.name(name)));
        }
        if kind.namespaced {
            let path = format!("{root}/watch/{}", kind.plural);
            out.push(self.watch("watchlist", path, format!("watch{prefix}{name}ListForAllNamespaces"), Vec::new()));
        }
    }

    fn part(&self, part: &Subresource, out: &mut Vec<Route>) {
        let Resource { kind, prefix, .. } = self;
        let name = kind.kind;
        let path = format!("{}/{{name}}/{}", self.collection_path(""), part.name);
        match part.part {
            Part::Node if part.verbs == [Verb::Get] => {
                let mut operations = self.view(part.verbs, part.name, &self.own);
                for operation in &mut operations {
                    operation.parameters.extend(self.options(&format!("{name}{}Options", capital(part.name))));
                    operation.content = Content::Text;
                    operation.produces.insert(0, "text/plain");
                }
                out.push(Route { path, operations });
            }
            Part::Node => out.push(self.connect(part, &["get", "post"], path, false)),
            Part::Proxy => {
                let methods = &["get", "put", "post", "delete", "options", "head", "patch"];
                let below = format!("{path}/{{path}}");
                out.push(self.connect(part, methods, path, false));
                out.push(self.connect(part, methods, below, true));
            }
            Part::View { .. } | Part::Scale { .. } | Part::Binding | Part::Eviction | Part::Token => {
                let body = match part.gvk {
                    gvk if gvk == self.kind.gvk() => self.own.clone(),
                    gvk => type_name(self.types, gvk.group, gvk.version, gvk.kind),
                };
                let mut operations = self.view(part.verbs, part.name, &body);
                if part.verbs.contains(&Verb::Create) {
                    operations.push(self.operation(Case {
                        method: "post",
                        action: "post",
                        id: format!("create{prefix}{}{name}{}", self.scope(), capital(part.name)),
                        sentence: format!("create {} of {} {name}", part.name, article(name)),
                        parameters: [self.name(part.gvk.kind), queries(&[WRITE])].concat(),
                        body: Some((body.clone(), true)),
                        answer: body,
                        codes: MADE,
                    }));
                }
                for operation in &mut operations {
                    let gvk = part.gvk;
                    operation.gvk = Some((gvk.group.to_owned(), gvk.version.to_owned(), gvk.kind.to_owned()));
                }
                out.push(Route { path, operations });
            }
        }
    }

    /// Parameters from the fields of an options type.
    fn options(&self, kind: &str) -> Vec<Parameter> {
        let Some(schema) = self.types.of_gvk(self.kind.group, self.kind.version, kind) else { return Vec::new() };
        let fields = schema.def().fields.iter().filter(|field| !matches!(field.name.as_str(), "kind" | "apiVersion"));
        let mut out = Vec::new();
        for field in fields {
            let shape = if let Shape::List { items, .. } = &field.shape { items } else { &field.shape };
            let kind = match shape {
                Shape::String => "string",
                Shape::Int32 | Shape::Int64 => "integer",
                Shape::Bool => "boolean",
                // Times have no form as a parameter in OpenAPI v2.
                _ => continue,
            };
            out.push(Parameter::query(&field.name, kind, &format!("See {} of {}.", field.name, schema.def().name)));
        }
        out
    }

    fn connect(&self, part: &Subresource, methods: &[&'static str], path: String, below: bool) -> Route {
        let Resource { kind, prefix, .. } = self;
        let suffix = format!("{}{}", capital(part.name), if below { "WithPath" } else { "" });
        let mut parameters = self.name(part.gvk.kind);
        parameters.extend(below.then(|| Parameter::path("path", "path to the resource")));
        parameters.extend(self.options(part.gvk.kind));
        let operation = |method: &'static str| Operation {
            method,
            id: format!("connect{prefix}{}{}{}{suffix}", capital(method), self.scope(), kind.kind),
            sentence: format!("connect {} requests to {} of {}", method.to_ascii_uppercase(), part.name, kind.kind),
            tag: self.tag.clone(),
            action: Some("connect"),
            gvk: Some((part.gvk.group.to_owned(), part.gvk.version.to_owned(), part.gvk.kind.to_owned())),
            parameters: parameters.clone(),
            body: None,
            consumes: ANY.to_vec(),
            produces: ANY.to_vec(),
            content: Content::Text,
            codes: OK,
        };
        Route { path, operations: methods.iter().map(|method| operation(method)).collect() }
    }
}

/// The paths of a kind.
pub(crate) fn of_kind(kind: &'static Kind, types: &Types) -> Vec<Route> {
    let group = group_name(kind.group);
    let resource = Resource {
        kind,
        types,
        root: root(kind.group, kind.version),
        prefix: format!("{}{}", capital(&group), capital(kind.version)),
        tag: format!("{group}_{}", kind.version),
        own: own(kind, types),
        list: match kind.custom {
            Some(custom) => format!("{}List", custom.type_name()),
            None => type_name(types, kind.group, kind.version, &format!("{}List", kind.kind)),
        },
    };
    let mut out = vec![resource.collection(), resource.item()];
    if kind.namespaced && resource.has(Verb::List) {
        let id = format!("list{}{}ForAllNamespaces", resource.prefix, kind.kind);
        let operations = vec![resource.listing(id, queries(&[SELECT, WATCH]))];
        out.push(Route { path: format!("{}/{}", resource.root, kind.plural), operations });
    }
    for part in kind.subresources {
        resource.part(part, &mut out);
    }
    if resource.has(Verb::Watch) && kind.custom.is_none() {
        resource.watches(&mut out);
    }
    out.retain(|route| !route.operations.is_empty());
    out
}

/// `/api/v1`, `/apis/apps/v1`.
pub(crate) fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// A path that is no resource and answers to GET.
fn plain(path: &str, id: String, tag: String, sentence: &str, media: &[&'static str], content: Content) -> Route {
    let operation = Operation {
        method: "get",
        id,
        sentence: sentence.to_owned(),
        tag,
        action: None,
        gvk: None,
        parameters: Vec::new(),
        body: None,
        consumes: if matches!(content, Content::Text) { Vec::new() } else { media.to_vec() },
        produces: media.to_vec(),
        content,
        codes: OK,
    };
    Route { path: path.to_owned(), operations: vec![operation] }
}

/// The discovery path of a version: `/apis/apps/v1/`.
pub(crate) fn of_version(group: &str, version: &str) -> Route {
    let name = group_name(group);
    let id = format!("get{}{}APIResources", capital(&name), capital(version));
    let content = Content::Of(format!("{META}APIResourceList"));
    let path = format!("{}/", root(group, version));
    plain(&path, id, format!("{name}_{version}"), "get available resources", &MEDIA, content)
}

/// The discovery path of a group: `/apis/apps/`, or `/api/` for core.
pub(crate) fn of_group(group: &str) -> Route {
    let name = group_name(group);
    if group.is_empty() {
        let content = Content::Of(format!("{META}APIVersions"));
        return plain("/api/", "getCoreAPIVersions".into(), name, "get available API versions", &MEDIA, content);
    }
    let content = Content::Of(format!("{META}APIGroup"));
    let id = format!("get{}APIGroup", capital(&name));
    plain(&format!("/apis/{group}/"), id, name, "get information of a group", &MEDIA, content)
}

/// Paths that belong to no group, each with the name of its v3 document.
pub(crate) fn others() -> Vec<(&'static str, Route)> {
    let groups = Content::Of(format!("{META}APIGroupList"));
    let info = Content::Of("io.k8s.apimachinery.pkg.version.Info".to_owned());
    vec![
        ("apis", plain("/apis/", "getAPIVersions".into(), "apis".into(), "get available API versions", &MEDIA, groups)),
        (
            "version",
            plain(
                "/version/",
                "getCodeVersion".into(),
                "version".into(),
                "get the version of this server",
                &["application/json"],
                info,
            ),
        ),
        (
            "openid/v1/jwks",
            plain(
                "/openid/v1/jwks/",
                "getServiceAccountIssuerOpenIDKeyset".into(),
                "openid".into(),
                "get the public keys that verify tokens of service accounts",
                &["application/jwk-set+json"],
                Content::Text,
            ),
        ),
        (
            ".well-known/openid-configuration",
            plain(
                "/.well-known/openid-configuration/",
                "getServiceAccountIssuerOpenIDConfiguration".into(),
                "WellKnown".into(),
                "get the configuration of the issuer of tokens of service accounts",
                &["application/json"],
                Content::Text,
            ),
        ),
    ]
}
