//! What a kind says about itself: one static description and a set of hooks, each with a harmless default.
//!
//! Routes, discovery, OpenAPI, the watch cache, table columns and the write path derive from this description. Never
//! lists kinds: that is `kinds.rs`.

use crate::custom::kinds::Custom;
use crate::field_path::{Errors, FieldError, Path};
use crate::gated::Gated;
use crate::json::Value;
use crate::judgement::Judgement;
use crate::schema::{SchemaRef, native};
use std::collections::BTreeMap;

/// The verbs of a resource, as discovery names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    /// The name in RBAC rules, discovery and audit.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }

    /// What an ordinary stored kind offers.
    pub const ALL: &'static [Verb] = &[
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];
    /// What a review offers: it is answered and forgotten.
    pub const CREATE: &'static [Verb] = &[Verb::Create];
    /// What a part of an object offers.
    pub const PART: &'static [Verb] = &[Verb::Get, Verb::Patch, Verb::Update];
}

/// Group, version and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Gvk {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
}

impl Gvk {
    /// `apps/v1`, or `v1` for core.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The Go package of the unversioned type, as upstream's sentences name it: the first label of its group, but for two.
    #[must_use]
    pub fn go_package(&self) -> &'static str {
        match self.group {
            "" | "events.k8s.io" => "core",
            "internal.apiserver.k8s.io" => "apiserverinternal",
            group => group.split('.').next().unwrap_or_default(),
        }
    }
}

/// What a subresource does. The API server has one handler per variant.
#[derive(Clone, Copy)]
pub enum Part {
    /// Reads and writes some fields of the object. `merge(new, old)` turns what the client sent into the whole object:
    /// it takes from `new` what this part may change and everything else from `old`.
    View {
        /// See above.
        merge: fn(new: Value, old: &Value) -> Value,
    },
    /// `autoscaling/v1 Scale` over the fields at these dotted paths.
    Scale {
        /// Desired count, as a path below the object.
        replicas: &'static str,
        /// Observed count.
        observed: &'static str,
        /// A `LabelSelector`, or a map of labels.
        selector: &'static str,
    },
    /// `pods/binding`: sets `spec.nodeName` once.
    Binding,
    /// `pods/eviction`: deletes where disruption budgets allow.
    Eviction,
    /// `serviceaccounts/token`: signs a bound token.
    Token,
    /// Talks to the kubelet of the pod's node (`log`, `exec`, `attach`, `portforward`).
    Node,
    /// Forwards to the pod, service or node (`proxy`).
    Proxy,
}

/// One subresource.
#[derive(Clone, Copy)]
pub struct Subresource {
    /// Last path element: `status`.
    pub name: &'static str,
    /// Kind of the body.
    pub gvk: Gvk,
    /// Verbs in discovery's order.
    pub verbs: &'static [Verb],
    /// What it does.
    pub part: Part,
}

/// A printer column of `kubectl get`.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Heading, as in `Up-To-Date`; kubectl prints it in capitals.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `number` or `date`.
    pub kind: &'static str,
    /// OpenAPI format; `name` marks the name column.
    pub format: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
    /// What it shows, for who reads the table's definitions; empty where a field says it.
    pub description: &'static str,
    /// The field of the stored kind whose sentence says what it shows, as a dotted path; empty where none does.
    pub field: &'static str,
}

impl Column {
    /// A text column that is always shown.
    #[must_use]
    pub const fn text(name: &'static str) -> Column {
        Column { name, kind: "string", format: "", priority: 0, description: "", field: "" }
    }

    /// An integer column that is always shown.
    #[must_use]
    pub const fn integer(name: &'static str) -> Column {
        Column { name, kind: "integer", format: "", priority: 0, description: "", field: "" }
    }

    /// A column of true and false that is always shown.
    #[must_use]
    pub const fn boolean(name: &'static str) -> Column {
        Column { name, kind: "boolean", format: "", priority: 0, description: "", field: "" }
    }

    /// The same column, shown only with `-o wide`.
    #[must_use]
    pub const fn wide(self) -> Column {
        Column { priority: 1, ..self }
    }

    /// The same column, showing what this field means: a dotted path below the stored kind.
    #[must_use]
    pub const fn of(self, field: &'static str) -> Column {
        Column { field, ..self }
    }

    /// The same column with a sentence of its own.
    #[must_use]
    pub const fn says(self, description: &'static str) -> Column {
        Column { description, ..self }
    }

    /// The name column.
    pub const NAME: Column = Column { format: "name", ..Column::text("Name").of("metadata.name") };
    /// The age column.
    pub const AGE: Column = Column::text("Age").of("metadata.creationTimestamp");
}

/// A field that `fieldSelector` may name beside `metadata.name` and `metadata.namespace`.
#[derive(Clone, Copy)]
pub struct Selectable {
    /// As the client writes it: `spec.nodeName`.
    pub name: &'static str,
    /// Its value; empty when unset.
    pub value: fn(&Value) -> String,
}

/// Another served version whose objects are stored as this kind, or the reverse: how to get there.
#[derive(Clone, Copy)]
pub struct StoredAs {
    /// The kind under which objects are stored.
    pub kind: &'static Kind,
    /// From the served to the stored version, in place.
    pub to: fn(&mut Value),
    /// From the stored to the served version, in place.
    pub from: fn(&mut Value),
}

impl StoredAs {
    /// The versions differ by name alone.
    #[must_use]
    pub const fn same(kind: &'static Kind) -> StoredAs {
        StoredAs { kind, to: |_| {}, from: |_| {} }
    }
}

/// Since when a version of a kind is on its way out. Versions are minor ones: `1.34`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deprecated {
    /// The first in which it is deprecated.
    pub since: &'static str,
    /// The first in which it is gone.
    pub removed: Option<&'static str>,
    /// What to use instead.
    pub instead: Option<Gvk>,
    /// The whole sentence, where it follows no rule.
    pub said: Option<&'static str>,
}

impl Deprecated {
    /// Deprecated and never removed, without a successor.
    #[must_use]
    pub const fn since(since: &'static str) -> Deprecated {
        Deprecated { since, removed: None, instead: None, said: None }
    }

    /// Deprecated in one version and gone in another.
    #[must_use]
    pub const fn until(since: &'static str, removed: &'static str) -> Deprecated {
        Deprecated { since, removed: Some(removed), instead: None, said: None }
    }
}

/// What a pool hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pool {
    /// Addresses of Services, IPv4.
    ClusterIpV4,
    /// Addresses of Services, IPv6.
    ClusterIpV6,
    /// Node ports, per protocol (`TCP`, `UDP`, `SCTP`).
    NodePort(&'static str),
    /// Health check node ports are node ports of TCP.
    HealthCheckNodePort,
}

/// A number or address that an object holds for itself alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Where from.
    pub pool: Pool,
    /// The one the object already names; `None`: any free one.
    pub want: Option<String>,
    /// RFC 6901 pointers where the result is written (addresses as text, ports as numbers).
    pub set: Vec<String>,
    /// The field named in an error.
    pub field: Path,
}

/// The static description of a kind.
pub struct Kind {
    /// API group; empty for core.
    pub group: &'static str,
    /// Version within the group.
    pub version: &'static str,
    /// Kind: `Deployment`.
    pub kind: &'static str,
    /// Resource: `deployments`.
    pub plural: &'static str,
    /// `deployment`.
    pub singular: &'static str,
    /// `deploy`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Served verbs; a kind with only `create` is never stored.
    pub verbs: &'static [Verb],
    /// Subresources in discovery's order.
    pub subresources: &'static [Subresource],
    /// `metadata.generation` counts changes outside metadata and status.
    pub generation: bool,
    /// Fields of the metadata whose change counts too: a deployment copies its annotations to its replica sets.
    pub generation_metadata: &'static [&'static str],
    /// A list that becomes empty where there was none counts in the generation.
    pub tells_empty: bool,
    /// PUT on an absent object creates it.
    pub create_on_update: bool,
    /// PUT without a resourceVersion overwrites.
    pub unconditional_update: bool,
    /// The creator may set `status` (nodes register with theirs).
    pub create_with_status: bool,
    /// A finished deletion answers with the object instead of a `Status`.
    pub returns_deleted: bool,
    /// Changes without end and nobody reads its past: the store keeps it for minutes.
    pub short_history: bool,
    /// Objects vanish by themselves after `--event-ttl`.
    pub expires: bool,
    /// Objects are made anew for every request and kept nowhere.
    pub computed: bool,
    /// A create is one of this subresource of the object that the body names: resource and subresource, same group.
    pub creates: Option<(&'static str, &'static str)>,
    /// A deletion that says nothing about the dependents orphans them.
    pub orphans_dependents: bool,
    /// The version is on its way out: clients are warned.
    pub deprecated: Option<Deprecated>,
    /// The feature gate without which the kind is not served, whatever `--runtime-config` says.
    pub gate: Option<&'static str>,
    /// Fields behind feature gates.
    pub gated: &'static [Gated],
    /// Where a pod's spec lies in it: a pod, or what has a template of pods.
    pub pods: Option<&'static str>,
    /// Printer columns; `Hooks::row` gives the cells.
    pub columns: &'static [Column],
    /// Selectable fields beside name and namespace.
    pub selectable: &'static [Selectable],
    /// Older names of selectable fields, each with the one that it means.
    pub selected_as: &'static [(&'static str, &'static str)],
    /// Stored under another version.
    pub stored_as: Option<StoredAs>,
    /// The version that upstream stores, where that is one which nobody serves any more: clients see it in a digest.
    pub stored_upstream: Option<&'static str>,
    /// Fields that a write through a subresource (empty: the object itself) cannot own because it cannot change them. What is
    /// not listed follows the rule: `status` where there is such a subresource, and `spec` for a write through `status`.
    pub resets: &'static [(&'static str, &'static [&'static [&'static str]])],
    /// Where the sentences of OpenAPI and `kubectl explain` come from; see `describe`.
    pub describe: fn(&mut schemars::SchemaGenerator),
    /// In which order its objects are judged.
    pub judgement: Judgement,
    /// Defined by a custom resource definition; its schema and selectable fields are there.
    pub custom: Option<&'static Custom>,
    /// Behaviour.
    pub hooks: &'static dyn Hooks,
}

impl Kind {
    /// A description to start from: `Kind { kind: "ConfigMap", ..Kind::BASE }`.
    pub const BASE: Kind = Kind {
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: Verb::ALL,
        subresources: &[],
        generation: false,
        generation_metadata: &[],
        tells_empty: false,
        create_on_update: false,
        unconditional_update: true,
        create_with_status: false,
        returns_deleted: false,
        short_history: false,
        expires: false,
        computed: false,
        creates: None,
        orphans_dependents: false,
        deprecated: None,
        gate: None,
        gated: &[],
        pods: None,
        columns: &[Column::NAME, Column::AGE],
        selectable: &[],
        selected_as: &[],
        stored_as: None,
        stored_upstream: None,
        resets: &[],
        describe: |_| {},
        judgement: Judgement::USUAL,
        custom: None,
        hooks: &NoHooks,
    };

    /// `apps/v1`, or `v1` for core.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.gvk().api_version()
    }

    /// Group, version and kind.
    #[must_use]
    pub fn gvk(&self) -> Gvk {
        Gvk { group: self.group, version: self.version, kind: self.kind }
    }

    /// The name that RBAC, statuses and the store use: `deployments.apps`, `pods`.
    #[must_use]
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The schema of the kind's objects.
    ///
    /// # Panics
    /// When the fact table lacks the type: a test over all kinds excludes it.
    #[must_use]
    pub fn schema(&self) -> SchemaRef<'static> {
        let types = self.custom.map_or_else(native, Custom::types);
        types.of_gvk(self.group, self.version, self.kind).expect("every kind of the table has its type in the facts")
    }

    /// The schema of lists of the kind.
    #[must_use]
    pub fn list_schema(&self) -> Option<SchemaRef<'static>> {
        match self.custom {
            Some(custom) => custom.list(),
            None => native().of_gvk(self.group, self.version, &self.list_kind()),
        }
    }

    /// The kind of its lists: `DeploymentList`.
    #[must_use]
    pub fn list_kind(&self) -> String {
        self.custom.map_or_else(|| format!("{}List", self.kind), |custom| custom.list_kind().to_owned())
    }

    /// The Go type with which upstream works, as its sentences name it; `suffix` is that of a list.
    #[must_use]
    pub fn go_type(&self, suffix: &str) -> String {
        if self.custom.is_some() {
            return format!("unstructured.Unstructured{suffix}");
        }
        format!("{}.{}{suffix}", self.gvk().go_package(), self.kind)
    }

    /// The fields that select, beside name and namespace.
    pub fn selectable_names(&self) -> impl Iterator<Item = &'static str> {
        let custom = self.custom.map_or(&[][..], Custom::selectable);
        self.selectable.iter().map(|field| field.name).chain(custom.iter().copied())
    }

    /// Their values in an object of this version, in the same order.
    pub fn selectable_values(&self, object: &Value) -> Vec<String> {
        let native = self.selectable.iter().map(|field| (field.value)(object));
        let custom = self.custom.map_or(&[][..], Custom::selectable).iter();
        native.chain(custom.map(|path| crate::custom::cells::selected(object, path))).collect()
    }

    /// The kind under which objects are stored.
    #[must_use]
    pub fn stored(&'static self) -> &'static Kind {
        self.stored_as.as_ref().map_or(self, |stored| stored.kind)
    }

    /// From the served to the stored version, in place.
    pub fn to_stored(&self, object: &mut Value) {
        if let Some(stored) = &self.stored_as {
            (stored.to)(object);
            rename(object, stored.kind);
        }
    }

    /// From the stored to the served version, in place.
    pub fn from_stored(&self, object: &mut Value) {
        if let Some(stored) = &self.stored_as {
            (stored.from)(object);
            rename(object, self);
            self.hooks.restore(object);
        }
    }

    /// What was read from the store becomes what it would be if it were written now: in the version that is stored. `false`, and
    /// nothing changes, for one of another version that only a webhook can convert.
    pub fn restore(&self, object: &mut Value) -> bool {
        if self.by_webhook() && crate::value::text(object, "apiVersion") != self.api_version() {
            return false;
        }
        if self.custom.is_some() {
            rename(object, self);
            self.hooks.restore(object);
        }
        true
    }

    /// Only a webhook can convert between the versions: `to_stored` and `from_stored` do it by name alone.
    #[must_use]
    pub fn by_webhook(&self) -> bool {
        self.custom.is_some_and(|custom| custom.conversion.is_some())
    }

    /// What clients are told about a deprecated version.
    #[must_use]
    pub fn deprecation(&self) -> Option<String> {
        let deprecated = self.deprecated?;
        if let Some(said) = deprecated.said {
            return Some(said.to_owned());
        }
        let mut out = format!("{} {} is deprecated in v{}+", self.api_version(), self.kind, deprecated.since);
        if let Some(removed) = deprecated.removed {
            out.push_str(&format!(", unavailable in v{removed}+"));
        }
        if let Some(instead) = deprecated.instead {
            out.push_str(&format!("; use {} {}", instead.api_version(), instead.kind));
        }
        Some(out)
    }

    /// The subresource of this name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|part| part.name == name)
    }

    /// Objects are kept (reviews are not).
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&Verb::Get) && !self.computed
    }

    /// Has `status` of its own.
    #[must_use]
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

/// The object says the version of this kind, if it says one.
fn rename(object: &mut Value, kind: &Kind) {
    if let Some(version) = object.get_mut("apiVersion") {
        *version = kind.api_version().into();
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.api_version(), self.kind)
    }
}

/// Adds the sentences of `T` and of all that it holds: `describe: describe::<Deployment>`.
pub fn describe<T: schemars::JsonSchema>(generator: &mut schemars::SchemaGenerator) {
    generator.subschema_for::<T>();
}

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The user's name.
    pub name: &'a str,
    /// Empty where the authenticator knows none.
    pub uid: &'a str,
    /// Groups, in the authenticator's order.
    pub groups: &'a [String],
    /// What else the authenticator found.
    pub extra: &'a BTreeMap<String, Vec<String>>,
}

/// What only the server knows about a write.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// The time, RFC 3339.
    pub now: &'a str,
    /// The user.
    pub writer: Writer<'a>,
    /// What is being done, as authorization names it: `create`, `update`, `patch`.
    pub verb: &'a str,
}

/// What must hold for a write beside what the objects themselves say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The object's namespace has this label.
    NamespaceLabel {
        /// Its key.
        key: &'static str,
        /// Its value.
        value: &'static str,
    },
    /// The writer may do one of these verbs to a subresource of the kind, which need not be served. The sentence that refuses
    /// the first of them follows the detail of the error.
    Right {
        /// Any of them is enough.
        verbs: Vec<String>,
        /// Its last path element.
        subresource: &'static str,
        /// In the object's namespace; else in all.
        in_namespace: bool,
        /// Of this name; empty for all.
        name: String,
    },
}

/// A condition, and what is wrong with the write when it does not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// The condition.
    pub condition: Condition,
    /// The error.
    pub error: FieldError,
}

/// Behaviour of a kind. Objects are JSON values that were decoded by the kind's schema, in the kind's own version.
///
/// The order of a write is fixed elsewhere: decode, constant defaults, `default`, `prepare_*`, admission, `validate*` by the kind's judgement.
pub trait Hooks: Sync {
    /// Defaults that a constant table cannot express. Must change nothing when run twice.
    fn default(&self, _object: &mut Value) {}

    /// What the schema of today makes of an object that was written under another one. Must change nothing when run twice.
    fn restore(&self, _object: &mut Value) {}

    /// Clears what a creator may not set; `status` is already gone where the kind has the subresource.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Keeps what an updater may not change; `status` is already the old one.
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// Fills in which families of addresses the object has some of, in a cluster whose services have some of these, by default of the
    /// first. Runs after `prepare_*`; an error ends the write before anything else is judged.
    fn settle_families(&self, _new: &mut Value, _old: Option<&Value>, _cluster: &[&str]) -> Errors {
        Errors::new()
    }

    /// Writes what only the server knows: when a phase changed, who asked. `part` is the subresource of the write, empty
    /// for the object itself; `old` is `None` at creation. Runs after `prepare_*`, or after the part's merge.
    fn stamp(&self, _part: &str, _new: &mut Value, _old: Option<&Value>, _occasion: &Occasion<'_>) {}

    /// What is wrong with an object on its own. Metadata is validated elsewhere, names by `name_rule`.
    fn validate(&self, _object: &Value) -> Errors {
        Errors::new()
    }

    /// The same for the new state of an object that was there before: more lenient than `validate` where an old object may
    /// break a rule that came after it.
    fn revalidate(&self, new: &Value, _old: &Value) -> Errors {
        self.validate(new)
    }

    /// What is wrong with the change; `revalidate` has run on `new`.
    fn validate_update(&self, _new: &Value, _old: &Value) -> Errors {
        Errors::new()
    }

    /// What is wrong with a change through a subresource (`status`, `ephemeralcontainers`).
    fn validate_part(&self, _part: &str, _new: &Value, _old: &Value) -> Errors {
        Errors::new()
    }

    /// What must hold beside what the objects say; `part` is the subresource of the write, `old` is `None` at creation.
    fn demands(&self, _part: &str, _new: &Value, _old: Option<&Value>, _occasion: &Occasion<'_>) -> Vec<Demand> {
        Vec::new()
    }

    /// Which names are allowed.
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    /// What is wrong with a name, where no rule says it all; `prefix` when it is a `generateName`.
    fn name_errors(&self, _object: &Value, name: &str, prefix: bool) -> Vec<String> {
        crate::meta_validation::name(self.name_rule(), name, prefix)
    }

    /// `Some(seconds)` when deletion waits for somebody (a pod's kubelet); `requested` is the client's wish.
    fn grace_period(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Something other than `metadata.finalizers` keeps a deleted object (a namespace's `spec.finalizers`).
    fn holds_on(&self, _object: &Value) -> bool {
        false
    }

    /// What changes in an object when its deletion begins but cannot finish yet; the timestamps are set already.
    fn begin_deletion(&self, _object: &mut Value) {}

    /// Numbers and addresses the object must hold for itself; `old` names those it holds already.
    fn needs(&self, _new: &Value, _old: Option<&Value>) -> Vec<Need> {
        Vec::new()
    }

    /// Warnings for the client (`Warning` headers), such as deprecated fields.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Warnings about an object that is created, as it was before `prepare_create` changed it.
    fn warnings_of_given(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Warnings about a change through a subresource.
    fn warnings_of_part(&self, _part: &str, new: &Value, old: &Value) -> Vec<String> {
        self.warnings(new, Some(old))
    }

    /// The cells of the kind's columns. `now` is in Unix seconds.
    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![crate::meta::name(object).into(), crate::meta::age(object, now).into()]
    }
}

/// Hooks of a kind that needs none.
pub struct NoHooks;

impl Hooks for NoHooks {}

/// Which names a kind allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain: most kinds.
    Subdomain,
    /// The same of names alone, whose lengths are told in bytes: what upstream declares beside its types.
    DeclaredSubdomain,
    /// RFC 1123 label: namespaces.
    Label,
    /// RFC 1035 label: services.
    Label1035,
    /// Anything that fits in one path segment: RBAC.
    PathSegment,
    /// An IP address in canonical form: `IPAddress`.
    IpAddress,
}
