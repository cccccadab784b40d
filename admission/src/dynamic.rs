//! Dynamic admission: what others, named by objects of the cluster, say to a write.
//!
//! Decides whom to ask, builds what they are asked and reads what they answer. Never opens a connection: a `Caller` does. Source:
//! upstream's documentation of dynamic admission control.

pub mod change;
pub mod formula;
pub mod hook;
pub mod judge;
pub mod matching;
pub mod mutate;
pub mod policy;
pub mod review;
pub mod validate;

pub use hook::{Client, Hook};
pub use policy::{Binding, Policy};

use crate::plugin::Lookup;
use api::json::Value;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Speaks to webhooks.
#[async_trait]
pub trait Caller: Send + Sync {
    /// Posts a review and gives the body of the answer.
    ///
    /// # Errors
    /// Why there is no answer, in the words that follow `failed to call webhook: `.
    async fn call(&self, client: &Client, review: Vec<u8>, timeout: Duration) -> Result<Vec<u8>, String>;

    /// Is told of every question that was asked, answered or not.
    fn observe(&self, _asked: &Asked<'_>) {}

    /// Is told of every rule of a policy that was not kept, and of what followed.
    fn judged(&self, _judged: &Judged<'_>) {}
}

/// What a binding made of a rule of a policy that was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged<'a> {
    /// The policy.
    pub policy: &'a str,
    /// The binding.
    pub binding: &'a str,
    /// `compile_error`, `out_of_budget` or `invalid_error`.
    pub error: &'static str,
    /// `deny`, `audit`, `warn`, or `allow` where what is wrong with the rule refuses nothing.
    pub action: &'static str,
    /// For how long the rule was evaluated.
    pub took: Duration,
}

/// A question to a webhook that is over.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The webhook.
    pub name: &'a str,
    /// `CREATE`.
    pub operation: &'static str,
    /// `admit` or `validating`.
    pub step: &'static str,
    /// The request does not go on.
    pub rejected: bool,
    /// From the question to its end.
    pub took: Duration,
}

/// What a server remembers between requests: configurations, read once per change of them, and who calls.
pub struct Dynamic {
    /// Speaks.
    pub caller: Arc<dyn Caller>,
    /// Of `MutatingWebhookConfiguration`s.
    pub mutating: View<Hook>,
    /// Of `ValidatingWebhookConfiguration`s.
    pub validating: View<Hook>,
    /// Of `MutatingAdmissionPolicy`s.
    pub mutating_policies: View<Policy>,
    /// Of their bindings.
    pub mutating_bindings: View<Binding>,
    /// Of `ValidatingAdmissionPolicy`s.
    pub validating_policies: View<Policy>,
    /// Of their bindings.
    pub validating_bindings: View<Binding>,
}

impl Dynamic {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(caller: Arc<dyn Caller>) -> Dynamic {
        let hooks = |plural| View::new(plural, hook::read);
        Dynamic {
            caller,
            mutating: hooks("mutatingwebhookconfigurations"),
            validating: hooks("validatingwebhookconfigurations"),
            mutating_policies: View::new("mutatingadmissionpolicies", policy::read),
            mutating_bindings: View::new("mutatingadmissionpolicybindings", policy::read_binding),
            validating_policies: View::new("validatingadmissionpolicies", policy::read),
            validating_bindings: View::new("validatingadmissionpolicybindings", policy::read_binding),
        }
    }
}

/// The objects of a kind of `admissionregistration.k8s.io`, understood.
pub struct View<T> {
    plural: &'static str,
    read: fn(&Value) -> Vec<T>,
    held: Mutex<Option<(u64, Arc<Vec<T>>)>>,
}

impl<T> View<T> {
    /// A view; `read` understands one object.
    #[must_use]
    pub fn new(plural: &'static str, read: fn(&Value) -> Vec<T>) -> View<T> {
        View { plural, read, held: Mutex::new(None) }
    }

    /// What there is now, in the order of the objects' names.
    pub async fn get(&self, lookup: &dyn Lookup) -> Arc<Vec<T>> {
        let generation = lookup.generation(GROUP, self.plural);
        if let Some((at, held)) = &*self.held.lock()
            && *at == generation
        {
            return Arc::clone(held);
        }
        // Read after the question how new it is: what is remembered is never older than it says.
        let objects = lookup.list(GROUP, self.plural, "").await;
        let read: Arc<Vec<T>> = Arc::new(objects.iter().flat_map(|object| (self.read)(object)).collect());
        *self.held.lock() = Some((generation, Arc::clone(&read)));
        read
    }
}

/// The group of the configurations.
pub const GROUP: &str = "admissionregistration.k8s.io";

/// Objects of this kind decide who is asked: nobody is asked about them, or no mistake could be mended.
#[must_use]
pub fn is_exempt(kind: &api::kind::Kind) -> bool {
    kind.group == GROUP
}

/// What admission has to tell beside its verdict.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    warnings: Vec<String>,
    annotations: Vec<(String, String)>,
}

impl Notes {
    /// For the client; each sentence once.
    pub fn warn(&self, sentence: impl Into<String>) {
        let (sentence, mut said) = (sentence.into(), self.0.lock());
        if !said.warnings.contains(&sentence) {
            said.warnings.push(sentence);
        }
    }

    /// For the audit log.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.0.lock().annotations.push((key.into(), value.into()));
    }

    /// The warnings; they are gone then.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().warnings)
    }

    /// The annotations, in the order in which they came.
    #[must_use]
    pub fn audited(&self) -> Vec<(String, String)> {
        self.0.lock().annotations.clone()
    }
}

/// What one kind of mutating plugin remembers between the two rounds of a request.
#[derive(Debug, Default)]
pub struct Round {
    /// The object as the plugin left it.
    left: Option<Value>,
    /// Those that want to be called again, and have been called since the last change.
    called: BTreeSet<String>,
    /// Those that shall be called again.
    again: BTreeSet<String>,
}

impl Round {
    /// What came later has changed the object: who wants to see that is called again.
    pub fn begin(&mut self, second: bool, object: &Value) {
        if second && self.left.as_ref().is_some_and(|left| left != object) {
            self.changed();
        }
    }

    /// The object has changed.
    pub fn changed(&mut self) {
        self.again.append(&mut self.called);
    }

    /// This one was called and wants to be called again after changes.
    pub fn called(&mut self, id: &str) {
        self.called.insert(id.to_owned());
    }

    /// Whether the second round calls this one.
    #[must_use]
    pub fn calls_again(&self, id: &str) -> bool {
        self.again.contains(id)
    }

    /// The plugin is done for this round.
    pub fn end(&mut self, object: &Value) {
        self.left = Some(object.clone());
    }
}

/// The rounds of one request: plugins may ask for a second one, and never for a third.
#[derive(Debug, Default)]
pub struct Rounds {
    second: bool,
    wanted: bool,
    /// Of the webhooks.
    pub webhooks: Round,
    /// Of the policies.
    pub policies: Round,
}

impl Rounds {
    /// This is the second round.
    #[must_use]
    pub fn is_second(&self) -> bool {
        self.second
    }

    /// Somebody has changed the object: those before it see it again.
    pub fn want_second(&mut self) {
        self.wanted = true;
    }

    /// Somebody has changed the object.
    pub(crate) fn is_changed(&self) -> bool {
        self.wanted
    }

    /// Begins the second round, if it is wanted and was not there yet.
    pub(crate) fn next(&mut self) -> bool {
        let go = self.wanted && !self.second;
        self.second |= go;
        go
    }
}

#[cfg(test)]
mod tests;
