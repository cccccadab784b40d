//! The contract of an admission plugin, and the chain that runs them in the table's order.
//!
//! Source: upstream's admission controllers: all mutating plugins first, then all validating ones.

use crate::configured::{Nobody, Opener, Settings, Setup, SetupError};
use crate::dynamic::{Dynamic, Notes, Rounds};
use crate::meter::{Meter, Step, metered};
use api::cel::lib::authorizer::{Decision, Question};
use api::json::Value;
use api::kind::{Gvk, Kind};
use api::status::Status;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A change, also by patch and apply.
    Update,
    /// Its end.
    Delete,
    /// A connection to what it stands for.
    Connect,
}

impl Operation {
    /// As rules name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// An object of another kind that clients see instead of the object: the scale of a deployment.
pub trait Shape: Send + Sync {
    /// Its kind.
    fn gvk(&self) -> Gvk;
    /// How clients see the object; `Null` for `Null`.
    fn show(&self, object: &Value) -> Value;
    /// What became of that is put into the object.
    fn take(&self, object: &mut Value, shown: &Value);
}

/// In what form those outside, webhooks and policies, are shown what is written.
#[derive(Clone, Copy)]
pub enum Form<'a> {
    /// As it is.
    Itself,
    /// In another shape.
    Shape(&'a dyn Shape),
    /// It is no object of the resource but the body of a request to it (a binding, an eviction, the options of a connection),
    /// and the concern of nobody else.
    Body(Gvk),
    /// Not at all: they have seen the request in another form, or no request asked for the write.
    Unseen,
}

/// A write on its way to the store.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What is being done.
    pub operation: Operation,
    /// As served.
    pub kind: &'static Kind,
    /// Empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// Final name.
    pub name: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Name of the user.
    pub user: &'a str,
    /// Empty where the authenticator knows none.
    pub uid: &'a str,
    /// Groups of the user.
    pub groups: &'a [String],
    /// Extra attributes of the user.
    pub extra: &'a BTreeMap<String, Vec<String>>,
    /// The object before; `Null` on create.
    pub old: &'a Value,
    /// Seconds since 1970.
    pub now: i64,
    /// How those outside see it.
    pub form: Form<'a>,
    /// Nothing is going to be written.
    pub dry_run: bool,
    /// What the client said beside the object, as fields of the request's options.
    pub options: &'a Value,
    /// What is to be told beside the verdict.
    pub notes: &'a Notes,
    /// Between the rounds of mutation; `None` outside of them.
    pub rounds: Option<&'a Mutex<Rounds>>,
}

impl Request<'_> {
    /// The write is to this core resource and subresource.
    #[must_use]
    pub fn is(&self, plural: &str, subresource: &str) -> bool {
        self.kind.group.is_empty() && self.kind.plural == plural && self.subresource == subresource
    }

    /// The kind of what those outside see.
    #[must_use]
    pub fn gvk(&self) -> Gvk {
        match self.form {
            Form::Itself | Form::Unseen => self.kind.gvk(),
            Form::Shape(shape) => shape.gvk(),
            Form::Body(gvk) => gvk,
        }
    }

    /// There is an object that can be changed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.operation, Operation::Create | Operation::Update)
    }

    /// Looks into what is remembered between rounds.
    pub(crate) fn rounds<T>(&self, look: impl FnOnce(&mut Rounds) -> T) -> T {
        match self.rounds {
            Some(rounds) => look(&mut rounds.lock()),
            None => look(&mut Rounds::default()),
        }
    }

    /// A 403 in the words of admission.
    #[must_use]
    pub fn forbidden(&self, why: &str) -> Refusal {
        let resource = api::status::ResourceName { group: self.kind.group, plural: self.kind.plural };
        Refusal(Status::forbidden(resource, self.name, why))
    }
}

/// Why a write is refused, as the client will see it.
#[derive(Debug)]
pub struct Refusal(pub Status);

/// A right that a plugin asks for beside the one the request came with: `verb` on the cluster's `name` of a resource that need
/// not exist.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the words of authorization")]
pub struct Right<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty for the cluster's.
    pub namespace: &'a str,
    pub name: &'a str,
}

/// Other objects, by group, plural, namespace and name, at the version that is stored, and what the user may do.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// One object; `None` when absent.
    async fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value>;
    /// Lets time pass in which others may write.
    async fn pause(&self, _time: Duration) {}
    /// A namespace is there and not on its way out, as the cache has it; a write may rely on that, whose commit insists on a version of the
    /// namespace that is no newer. `false` says nothing.
    fn takes_objects(&self, _namespace: &str) -> bool {
        false
    }
    /// All objects of a kind in a namespace (all namespaces when empty).
    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value>;
    /// As [`Lookup::list`], with everything that was written before the call. An error where that cannot be known.
    async fn list_latest(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Refusal>;
    /// Whether the user of this request holds a right.
    async fn may(&self, request: &Request<'_>, right: Right<'_>) -> bool;
    /// One object as it was a moment ago; `None` when it was absent then.
    async fn peek(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.get(group, plural, namespace, name).await
    }
    /// A number that is another one when a kind's objects, as [`Lookup::list`] gives them, have changed.
    fn generation(&self, _group: &str, _plural: &str) -> u64 {
        0
    }
    /// Other kinds that are served and whose objects are this kind's: its other versions.
    fn equivalents(&self, _kind: &'static Kind) -> Vec<&'static Kind> {
        Vec::new()
    }
    /// An object of one kind as another that is a version of the same.
    ///
    /// # Errors
    /// One sentence: what went wrong where somebody else knows what versions are to each other.
    async fn converted(&self, from: &'static Kind, to: &'static Kind, mut object: Value) -> Result<Value, String> {
        from.to_stored(&mut object);
        to.from_stored(&mut object);
        Ok(object)
    }
    /// The kind that is served under this name, if one is.
    fn kind(&self, _group: &str, _version: &str, _kind: &str) -> Option<&'static Kind> {
        None
    }
    /// What the authorizers say, at once, to a question that an expression asks for the user of this request.
    fn decide(&self, _request: &Request<'_>, _question: &Question) -> Decision {
        Decision::default()
    }
    /// What is remembered of webhooks and policies; `None` where there are none.
    fn dynamic(&self) -> Option<&Dynamic> {
        None
    }
}

/// One admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Name in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// It is on unless a flag says otherwise.
    fn by_default(&self) -> bool {
        true
    }

    /// Plurals of the resources it has something to say about, of whatever group; empty for all. About others it is not asked: most
    /// plugins know one kind, and most writes are of others.
    fn resources(&self) -> &'static [&'static str] {
        &[]
    }

    /// Namespaces that objects are on their way to are made where they are missing.
    fn provides_namespaces(&self) -> bool {
        false
    }

    /// It is shown bodies of subresources too, which are no objects of the resource.
    fn sees_bodies(&self) -> bool {
        false
    }

    /// It is asked about deletions before those outside are, with `Null` for the object.
    fn judges_deletions_first(&self) -> bool {
        false
    }

    /// Takes its settings; asked once at the start, when the plugin is on.
    ///
    /// # Errors
    /// One sentence: settings that it does not know.
    fn configured(&self, settings: &Settings<'_>) -> Setup {
        if settings.configuration.is_null() { Ok(None) } else { Err("it takes no configuration".to_owned()) }
    }

    /// It knows no kind, and asks about everything what objects of the cluster tell it to ask.
    fn is_dynamic(&self) -> bool {
        false
    }

    /// Changes the object or refuses it. Runs again when nothing changes what it did: must be idempotent.
    async fn mutate(&self, _request: &Request<'_>, _object: &mut Value, _lookup: &dyn Lookup) -> Result<(), Refusal> {
        Ok(())
    }

    /// Refuses what must not enter. On delete `object` is the one that goes.
    async fn validate(&self, _request: &Request<'_>, _object: &Value, _lookup: &dyn Lookup) -> Result<(), Refusal> {
        Ok(())
    }

    /// The last word on a new or changed object, from what other writers must not change meanwhile: objects that are written in the
    /// transaction of the write. Asked again when one of them is no longer what it was.
    async fn settle(
        &self,
        _request: &Request<'_>,
        _object: &Value,
        _lookup: &dyn Lookup,
    ) -> Result<Vec<Along>, Refusal> {
        Ok(Vec::new())
    }
}

/// An object that is written in the transaction of another.
#[derive(Clone, Debug)]
pub struct Along {
    /// As stored.
    pub kind: &'static Kind,
    /// What it becomes, with the `resourceVersion` that it must still have.
    pub object: Value,
}

/// The plugins that are on, in order.
pub struct Chain {
    plugins: Vec<Held>,
    meter: Option<Arc<dyn Meter>>,
}

/// A plugin of the table, or one with settings.
enum Held {
    Table(&'static dyn Plugin),
    Own(Box<dyn Plugin>),
}

impl std::ops::Deref for Held {
    type Target = dyn Plugin;

    fn deref(&self) -> &Self::Target {
        match self {
            Held::Table(plugin) => *plugin,
            Held::Own(plugin) => plugin.as_ref(),
        }
    }
}

impl Chain {
    /// Default plugins, plus `enable`, without `disable`, none of them with settings.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(enable: &[String], disable: &[String]) -> Result<Chain, SetupError> {
        Chain::configured(enable, disable, &[], &Nobody)
    }

    /// As [`Chain::new`], with the configuration that a file has for plugins by their names.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn configured(
        enable: &[String],
        disable: &[String],
        configurations: &[(String, Value)],
        opener: &dyn Opener,
    ) -> Result<Chain, SetupError> {
        let table = crate::plugins::ALL;
        let given = enable.iter().chain(disable).chain(configurations.iter().map(|(name, _)| name));
        if let Some(unknown) = given.into_iter().find(|name| table.iter().all(|plugin| plugin.name() != **name)) {
            return Err(SetupError::Unknown(unknown.clone()));
        }
        if let Some(both) = enable.iter().find(|name| disable.contains(name)) {
            return Err(SetupError::Both(both.clone()));
        }
        let named = |list: &[String], plugin: &dyn Plugin| list.iter().any(|name| name == plugin.name());
        let mut held = Vec::new();
        for plugin in table.iter().copied() {
            let on = (plugin.by_default() || named(enable, plugin)) && !named(disable, plugin);
            if !on {
                continue;
            }
            let configuration = configurations.iter().find(|(name, _)| name == plugin.name()).map(|(_, given)| given);
            let settings = Settings { configuration: configuration.unwrap_or(&Value::Null), opener };
            let own = plugin.configured(&settings).map_err(|why| SetupError::Plugin(plugin.name(), why))?;
            held.push(own.map_or(Held::Table(plugin), Held::Own));
        }
        Ok(Chain { plugins: held, meter: None })
    }

    /// The same, with somebody who is told how long plugins take; they are told apart by their places in [`Chain::names`].
    #[must_use]
    pub fn metered(self, meter: Arc<dyn Meter>) -> Chain {
        Chain { meter: Some(meter), ..self }
    }

    /// Whether one of them wants missing namespaces to be made.
    #[must_use]
    pub fn provides_namespaces(&self) -> bool {
        self.plugins.iter().any(|plugin| plugin.provides_namespaces())
    }

    /// Names of those that are on, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.plugins.iter().map(|plugin| plugin.name())
    }

    /// Those that have something to say about the resource of a request.
    fn asked(&self, request: &Request<'_>) -> impl Iterator<Item = (usize, &dyn Plugin)> {
        let plural = request.kind.plural;
        let plugins = self.plugins.iter().map(|plugin| &**plugin).enumerate();
        plugins.filter(move |(_, plugin)| plugin.resources().is_empty() || plugin.resources().contains(&plural))
    }

    /// Runs the mutating plugins, and once more those that want to see what others changed. Says whether those outside have
    /// changed something: they know no fields that are the server's own.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(
        &self,
        request: &Request<'_>,
        object: &mut Value,
        lookup: &dyn Lookup,
    ) -> Result<bool, Refusal> {
        let whole = (None, Step::Admit, request.operation);
        metered(self.meter.as_ref(), whole, self.mutate_in_rounds(request, object, lookup)).await
    }

    async fn mutate_in_rounds(
        &self,
        request: &Request<'_>,
        object: &mut Value,
        lookup: &dyn Lookup,
    ) -> Result<bool, Refusal> {
        let rounds = Mutex::new(Rounds::default());
        let request = &Request { rounds: Some(&rounds), ..*request };
        loop {
            for (place, plugin) in self.asked(request) {
                let one = (Some(place), Step::Admit, request.operation);
                metered(self.meter.as_ref(), one, mutate(plugin, request, object, lookup)).await?;
            }
            let mut rounds = rounds.lock();
            if !rounds.next() {
                return Ok(rounds.is_changed());
            }
        }
    }

    /// Runs the validating plugins. On delete those outside see no object, only the old one.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let all = async {
            for (place, plugin) in self.asked(request) {
                let one = (Some(place), Step::Validate, request.operation);
                metered(self.meter.as_ref(), one, validate(plugin, request, object, lookup)).await?;
            }
            Ok(())
        };
        metered(self.meter.as_ref(), (None, Step::Validate, request.operation), all).await
    }

    /// Asks the plugins for the last word on a new or changed object, in order: what is written along with it.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn settle(
        &self,
        request: &Request<'_>,
        object: &Value,
        lookup: &dyn Lookup,
    ) -> Result<Vec<Along>, Refusal> {
        let mut along = Vec::new();
        if matches!(request.form, Form::Body(_)) || !request.is_open() {
            return Ok(along);
        }
        for (_, plugin) in self.asked(request) {
            along.extend(plugin.settle(request, object, lookup).await?);
        }
        Ok(along)
    }
}

/// Lets a plugin change the object, in the form that it sees.
async fn mutate(
    plugin: &dyn Plugin,
    request: &Request<'_>,
    object: &mut Value,
    lookup: &dyn Lookup,
) -> Result<(), Refusal> {
    match (plugin.is_dynamic(), request.form) {
        (true, Form::Unseen) => Ok(()),
        (true, Form::Shape(shape)) => {
            let old = shape.show(request.old);
            let inner = Request { form: Form::Body(shape.gvk()), old: &old, ..*request };
            let before = shape.show(object);
            let mut shown = before.clone();
            plugin.mutate(&inner, &mut shown, lookup).await?;
            if shown != before {
                shape.take(object, &shown);
            }
            Ok(())
        }
        (true, Form::Itself | Form::Body(_)) => plugin.mutate(request, object, lookup).await,
        (false, Form::Body(_)) if !plugin.sees_bodies() => Ok(()),
        (false, _) if request.operation == Operation::Delete && plugin.judges_deletions_first() => {
            plugin.mutate(request, object, lookup).await
        }
        (false, _) if !request.is_open() => Ok(()),
        (false, _) => plugin.mutate(request, object, lookup).await,
    }
}

/// Asks a plugin whether the object may be so, in the form that it sees.
async fn validate(
    plugin: &dyn Plugin,
    request: &Request<'_>,
    object: &Value,
    lookup: &dyn Lookup,
) -> Result<(), Refusal> {
    match (plugin.is_dynamic(), request.form) {
        (true, Form::Unseen) => Ok(()),
        (false, Form::Body(_)) if !plugin.sees_bodies() => Ok(()),
        (true, _) if request.operation == Operation::Delete => plugin.validate(request, &Value::Null, lookup).await,
        (true, Form::Shape(shape)) => {
            let old = shape.show(request.old);
            let inner = Request { form: Form::Body(shape.gvk()), old: &old, ..*request };
            plugin.validate(&inner, &shape.show(object), lookup).await
        }
        _ => plugin.validate(request, object, lookup).await,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use crate::meter::Ran;
    use crate::testing::Cluster;

    /// Refuses everything that it is asked about.
    struct Refuses;

    #[async_trait]
    impl Plugin for Refuses {
        fn name(&self) -> &'static str {
            "Refuses"
        }

        fn resources(&self) -> &'static [&'static str] {
            &["secrets"]
        }

        async fn mutate(&self, request: &Request<'_>, _: &mut Value, _: &dyn Lookup) -> Result<(), Refusal> {
            Err(request.forbidden("mutating"))
        }

        async fn validate(&self, request: &Request<'_>, _: &Value, _: &dyn Lookup) -> Result<(), Refusal> {
            Err(request.forbidden("validating"))
        }
    }

    /// Keeps what it is told.
    #[derive(Default)]
    struct Told(Mutex<Vec<Ran>>);

    impl Meter for Told {
        fn took(&self, ran: Ran, _: Duration) {
            self.0.lock().push(ran);
        }
    }

    #[test]
    fn plugins_are_asked_about_the_resources_they_name() {
        let told = Arc::new(Told::default());
        let chain = Chain { plugins: vec![Held::Own(Box::new(Refuses))], meter: None };
        let chain = chain.metered(Arc::<Told>::clone(&told));
        for (plural, asked) in [("secrets", true), ("configmaps", false)] {
            let (notes, extra) = (Notes::default(), BTreeMap::new());
            let request = Request {
                operation: Operation::Create,
                kind: api::kinds::by_resource("", "v1", plural).unwrap(),
                namespace: "a",
                name: "b",
                subresource: "",
                user: "jane",
                uid: "",
                groups: &[],
                extra: &extra,
                old: &Value::Null,
                now: 0,
                form: Form::Itself,
                dry_run: false,
                options: &Value::Null,
                notes: &notes,
                rounds: None,
            };
            let mutated = futures::executor::block_on(chain.mutate(&request, &mut Value::Null, &Cluster::default()));
            let validated = futures::executor::block_on(chain.validate(&request, &Value::Null, &Cluster::default()));
            assert_eq!((mutated.is_err(), validated.is_err()), (asked, asked), "{plural}");
            let ran = |plugin, step| Ran { plugin, step, operation: Operation::Create, rejected: asked };
            let steps = [Step::Admit, Step::Validate];
            let one_and_all = |step| [ran(asked.then_some(0), step), ran(None, step)];
            let mut expected: Vec<Ran> = steps.into_iter().flat_map(one_and_all).collect();
            expected.dedup();
            assert_eq!(std::mem::take(&mut *told.0.lock()), expected, "{plural}");
        }
    }

    #[test]
    fn resources_are_named_as_kinds_are() {
        for plugin in crate::plugins::ALL {
            for resource in plugin.resources() {
                let known = api::kinds::ALL.iter().any(|kind| kind.plural == *resource);
                assert!(known, "{} would never be asked about {resource}", plugin.name());
            }
        }
    }
}
