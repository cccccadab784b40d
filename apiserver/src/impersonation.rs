//! As whom a requestor may act: constrained impersonation, and behind it the right `impersonate`, which asks nothing about the request.
//!
//! A mode of constrained impersonation wants two rights: to act as somebody (`impersonate:user-info`), and to do while acting so what the request
//! does (`impersonate-on:user-info:list`). Modes are tried in order, the one that held last for a requestor first; what is refused is refused
//! with the first refusal's words. Knows nothing of HTTP. Source: KEP-5284, on by default since v1.36.

use crate::authn::{ANONYMOUS, AUTHENTICATED, Remembered, User, split_service_account};
use crate::authz::{Attributes, Authorizers, Decision, MASTERS, ResourceAttributes, forbidden, quoted};
use api::field_path::{Errors, Path};
use api::kinds::shared::{names, references};
use api::status::{ResourceName, Status};
use parking_lot::Mutex;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, exponential_buckets};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Instant;

/// The group of nodes.
const NODES: &str = "system:nodes";
/// The group of callers without credentials.
const UNAUTHENTICATED: &str = crate::authn::UNAUTHENTICATED;
/// Where the rights of constrained impersonation are, and all of `uids` and `userextras`.
const GROUP: &str = "authentication.k8s.io";
/// The key under which a token of a service account names its pod's node.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// What stands for a requestor's extra where its values must not matter.
const NODE_KEYS: &str = "authentication.kubernetes.io/associated-node-keys";
/// Seconds for which a granted impersonation is believed.
const BELIEVED: i64 = 10;
/// Most grants remembered by a mode, and most requestors whose mode is.
const REMEMBERED: usize = 10_000;
/// From so many groups or values of extra on, the right to all of them is asked for first.
const MANY: usize = 4;

/// A way to be granted.
struct Mode {
    /// As metrics name it.
    name: &'static str,
    /// The verb of the right to act as somebody; the audit names it as the constraint.
    verb: &'static str,
    /// Whether it is for acting as `wanted` at all.
    fits: fn(wanted: &User, requestor: &User) -> bool,
    /// The right is to all nodes, and the requestor's own is known from its token: a grant for one counts for each.
    any_node: bool,
}

const MODES: [Mode; 4] = [
    Mode { name: "associated-node", verb: "impersonate:associated-node", fits: is_own_node, any_node: true },
    Mode { name: "arbitrary-node", verb: "impersonate:arbitrary-node", fits: is_node, any_node: false },
    Mode { name: "serviceaccount", verb: "impersonate:serviceaccount", fits: is_account, any_node: false },
    Mode { name: "user-info", verb: "impersonate:user-info", fits: is_other, any_node: false },
];

/// The right that is not constrained, behind the modes.
const LEGACY: Mode = Mode { name: "legacy", verb: "impersonate", fits: |_, _| true, any_node: false };

fn is_bare(user: &User) -> bool {
    user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty()
}

fn node(name: &str) -> Option<&str> {
    name.strip_prefix("system:node:").filter(|name| names::dns_subdomain(name).is_empty())
}

/// Namespace and name of a service account that there may be.
fn account(name: &str) -> Option<(&str, &str)> {
    let fits = |(namespace, account): &(&str, &str)| {
        names::dns_label(namespace).is_empty() && names::dns_subdomain(account).is_empty()
    };
    split_service_account(name).filter(fits)
}

fn is_own_node(wanted: &User, requestor: &User) -> bool {
    let own = match requestor.extra.get(NODE_NAME).map(Vec::as_slice) {
        Some([own]) => own.as_str(),
        _ => "",
    };
    is_bare(wanted) && account(&requestor.name).is_some() && node(&wanted.name) == Some(own)
}

fn is_node(wanted: &User, _: &User) -> bool {
    is_bare(wanted) && node(&wanted.name).is_some()
}

fn is_account(wanted: &User, _: &User) -> bool {
    is_bare(wanted) && account(&wanted.name).is_some()
}

fn is_other(wanted: &User, _: &User) -> bool {
    node(&wanted.name).is_none() && account(&wanted.name).is_none()
}

/// As whom a request acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    /// The user, whole.
    pub(crate) user: User,
    /// The verb of the mode that allowed it; empty for the right that is not constrained.
    pub(crate) constraint: &'static str,
}

/// What a mode remembers.
struct Memory {
    /// By who, as whom and what the request is.
    whole: Remembered<User>,
    /// By who and as whom.
    acting: Remembered<User>,
}

/// The gate is on.
struct Constrained {
    memory: [Memory; MODES.len()],
    /// The place of the mode that held last, by a hash of the requestor's name: a collision costs time.
    last: Mutex<HashMap<u64, usize>>,
    hash: RandomState,
    counted: Counted,
}

/// Judges who acts as whom.
pub(crate) struct Impersonation(Option<Constrained>);

/// One check of a mode: who asks, as whom they want to act, and in what words.
struct Check<'a> {
    authz: &'a Authorizers,
    counted: Option<&'a Counted>,
    mode: &'a Mode,
    requestor: &'a User,
    wanted: &'a User,
}

impl Impersonation {
    /// With the gate `ConstrainedImpersonation` on, or with the unconstrained right alone.
    ///
    /// # Errors
    /// When two metrics share a name: a mistake in this file.
    pub(crate) fn new(constrained: bool, registry: &Registry) -> Result<Impersonation, prometheus::Error> {
        if !constrained {
            return Ok(Impersonation(None));
        }
        let memory = || Memory { whole: Remembered::new(REMEMBERED), acting: Remembered::new(REMEMBERED) };
        Ok(Impersonation(Some(Constrained {
            memory: std::array::from_fn(|_| memory()),
            last: Mutex::default(),
            hash: RandomState::new(),
            counted: Counted::new(registry)?,
        })))
    }

    /// As whom the request acts whose author, `request.user`, wants to act as `wanted`, at this Unix second.
    ///
    /// # Errors
    /// 403 with the first refusal.
    pub(crate) async fn judge(
        &self,
        authz: &Authorizers,
        wanted: &User,
        request: &Attributes,
        now: i64,
    ) -> Result<Granted, Status> {
        let Some(constrained) = &self.0 else {
            let check = Check { authz, counted: None, mode: &LEGACY, requestor: &request.user, wanted };
            return check.acting().await.map(|user| Granted { user, constraint: "" });
        };
        let start = Instant::now();
        let outcome = constrained.judge(authz, wanted, request, now).await;
        let mode = |verb: &str| MODES.iter().find(|mode| mode.verb == verb).unwrap_or(&LEGACY).name;
        // A refusal is no mode's own.
        let (mode, decision) = match &outcome {
            Ok(granted) => (mode(granted.constraint), "allowed"),
            Err(_) => ("", "denied"),
        };
        constrained.counted.attempt(mode, decision, start);
        outcome
    }
}

impl Constrained {
    async fn judge(
        &self,
        authz: &Authorizers,
        wanted: &User,
        request: &Attributes,
        now: i64,
    ) -> Result<Granted, Status> {
        let requestor = self.hash.hash_one(&request.user.name);
        let last = self.last.lock().get(&requestor).copied();
        let others = (0..=MODES.len()).filter(|place| Some(*place) != last);
        let mut refused = None;
        for place in last.into_iter().chain(others) {
            match self.tried(place, authz, wanted, request, now).await {
                Ok(Some(granted)) => {
                    if last != Some(place) {
                        let mut known = self.last.lock();
                        if known.len() >= REMEMBERED {
                            known.clear();
                        }
                        known.insert(requestor, place);
                    }
                    return Ok(granted);
                }
                Ok(None) => {}
                Err(status) => drop(refused.get_or_insert(status)),
            }
        }
        // The last one is for everybody and has refused.
        Err(refused.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
    }

    /// One mode; none where it is not for this.
    async fn tried(
        &self,
        place: usize,
        authz: &Authorizers,
        wanted: &User,
        request: &Attributes,
        now: i64,
    ) -> Result<Option<Granted>, Status> {
        let counted = Some(&self.counted);
        let (Some(mode), Some(memory)) = (MODES.get(place), self.memory.get(place)) else {
            let check = Check { authz, counted, mode: &LEGACY, requestor: &request.user, wanted };
            return Ok(Some(Granted { user: check.acting().await?, constraint: "" }));
        };
        if !(mode.fits)(wanted, &request.user) {
            return Ok(None);
        }
        let requestor =
            if mode.any_node { Cow::Owned(without_place(&request.user)) } else { Cow::Borrowed(&request.user) };
        let known_as = if mode.any_node { Cow::Owned(User::new("system:node:*", &[])) } else { Cow::Borrowed(wanted) };
        let granted = |user: User| {
            let name = wanted.name.clone();
            Some(Granted { user: User { name, ..user }, constraint: mode.verb })
        };
        let whole = fingerprint(&known_as, &requestor, Some(request));
        if let Some(user) = memory.whole.get(&whole, now) {
            return Ok(granted(user));
        }
        let check = Check { authz, counted, mode, requestor: &requestor, wanted };
        let on = Attributes {
            user: requestor.clone().into_owned(),
            verb: format!("impersonate-on:{}:{}", mode.name, request.verb),
            resource: request.resource.clone(),
            path: request.path.clone(),
        };
        check.may(&on).await?;
        let acting = fingerprint(&known_as, &requestor, None);
        let user = match memory.acting.get(&acting, now) {
            Some(user) => user,
            None => {
                let user = check.acting().await?;
                memory.acting.put(acting, user.clone(), now, now + BELIEVED);
                user
            }
        };
        memory.whole.put(whole, user.clone(), now, now + BELIEVED);
        Ok(granted(user))
    }
}

/// A service account without what tells its pods and their nodes apart.
fn without_place(user: &User) -> User {
    let keys = user.extra.keys().cloned().collect();
    User { extra: [(NODE_KEYS.to_owned(), keys)].into(), ..user.clone() }
}

impl Check<'_> {
    fn constrained(&self) -> bool {
        self.mode.verb != LEGACY.verb
    }

    /// The user as whom to act, when all that is wanted of them may be had.
    async fn acting(&self) -> Result<User, Status> {
        let wanted = self.wanted;
        let mut user = wanted.clone();
        let group = if self.constrained() { GROUP } else { "" };
        let of_node = node(&wanted.name).filter(|_| self.constrained());
        let of_account = account(&wanted.name);
        let mut about = match (of_node, of_account) {
            (Some(node), _) => self.about(group, "nodes", if self.mode.any_node { "*" } else { node }),
            (None, Some((_, account))) => self.about(group, "serviceaccounts", account),
            (None, None) => self.about(group, "users", &wanted.name),
        };
        if of_node.is_some() {
            user.groups = vec![NODES.to_owned()];
        } else if let Some((namespace, _)) = of_account {
            if wanted.groups.is_empty() {
                user.groups = User::service_account(namespace, "", "").groups;
            }
            if let Some(about) = &mut about.resource {
                namespace.clone_into(&mut about.namespace);
            }
        }
        self.may(&about).await?;
        if !wanted.uid.is_empty() {
            self.may(&self.about(GROUP, "uids", &wanted.uid)).await?;
        }
        self.groups(group).await?;
        self.extra().await?;
        // Who asks to be nobody in particular is not made somebody.
        let everybody = if user.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        if !user.is_in(everybody) && !user.is_in(UNAUTHENTICATED) {
            user.groups.push(everybody.to_owned());
        }
        Ok(user)
    }

    async fn groups(&self, group: &str) -> Result<(), Status> {
        let wanted = &self.wanted.groups;
        if self.constrained() {
            if wanted.iter().any(String::is_empty) {
                let why = "impersonating the empty string group is not allowed";
                return Err(refused(&self.about(group, "groups", ""), why));
            }
            if self.wanted.is_in(MASTERS) {
                let why = "impersonating the system:masters group is not allowed";
                return Err(refused(&self.about(group, "groups", MASTERS), why));
            }
            if wanted.len() >= MANY && self.may(&self.about(group, "groups", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for name in wanted {
            self.may(&self.about(group, "groups", name)).await?;
        }
        Ok(())
    }

    async fn extra(&self) -> Result<(), Status> {
        let wanted = &self.wanted.extra;
        let about = |key: &str, value: &str| {
            let mut about = self.about(GROUP, "userextras", value);
            if let Some(about) = &mut about.resource {
                key.clone_into(&mut about.subresource);
            }
            about
        };
        if self.constrained() {
            for (key, values) in wanted {
                unfit(key, values).map_or(Ok(()), |why| Err(refused(&about("", ""), &why)))?;
            }
            let many = wanted.len() >= MANY || wanted.values().map(Vec::len).sum::<usize>() >= MANY;
            if many && self.may(&about("*", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in wanted {
            for value in values {
                self.may(&about(key, value)).await?;
            }
        }
        Ok(())
    }

    fn about(&self, group: &str, resource: &str, name: &str) -> Attributes {
        Attributes {
            user: self.requestor.clone(),
            verb: self.mode.verb.to_owned(),
            resource: Some(ResourceAttributes {
                group: group.to_owned(),
                version: "v1".to_owned(),
                resource: resource.to_owned(),
                name: name.to_owned(),
                ..ResourceAttributes::default()
            }),
            path: String::new(),
        }
    }

    async fn may(&self, attributes: &Attributes) -> Result<(), Status> {
        let start = Instant::now();
        let decision = self.authz.authorize(attributes).await;
        if let Some(counted) = self.counted {
            counted.check(self.mode.name, if decision.is_allowed() { "allowed" } else { "denied" }, start);
        }
        match decision {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(refused(attributes, &reason)),
        }
    }
}

fn refused(attributes: &Attributes, reason: &str) -> Status {
    let none = ResourceAttributes::default();
    let about = attributes.resource.as_ref().unwrap_or(&none);
    let resource = ResourceName { group: &about.group, plural: &about.resource };
    Status::refused(resource, &about.name, forbidden(attributes, reason))
}

/// Why a key of extra with its values may be wanted of nobody.
fn unfit(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let mut errors = Errors::new();
    references::domain_prefixed_path(&mut errors, key, &Path::new("extra").child("key"));
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match errors.as_slice() {
        [] => {}
        [one] => return Some(format!("impersonating an invalid key in extra is not allowed: {one}")),
        all => return Some(format!("impersonating an invalid key in extra is not allowed: [{}]", all.join(", "))),
    }
    if key.chars().any(char::is_uppercase) {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {}", quoted(key)));
    }
    if values.is_empty() {
        return Some("impersonating empty values in extra is not allowed".to_owned());
    }
    let empty = values.iter().any(String::is_empty);
    empty.then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}

/// What tells one question from all others. The requestor, whose name nobody chooses for himself, is part of it.
fn fingerprint(wanted: &User, requestor: &User, request: Option<&Attributes>) -> [u8; 32] {
    struct Print(Sha256);
    impl Print {
        fn count(&mut self, count: usize) {
            self.0.update(u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes());
        }
        fn text(&mut self, text: &str) {
            self.count(text.len());
            self.0.update(text);
        }
        fn texts(&mut self, texts: &[String]) {
            self.count(texts.len());
            texts.iter().for_each(|text| self.text(text));
        }
        fn user(&mut self, user: &User) {
            self.text(&user.name);
            self.text(&user.uid);
            self.texts(&user.groups);
            self.count(user.extra.len());
            for (key, values) in &user.extra {
                self.text(key);
                self.texts(values);
            }
        }
    }
    let mut print = Print(Sha256::new());
    print.user(requestor);
    print.user(wanted);
    if let Some(Attributes { user: _, verb, resource, path }) = request {
        print.text(verb);
        print.text(path);
        if let Some(about) = resource {
            let ResourceAttributes { group, version, resource, subresource, namespace, name, fields, labels } = about;
            for text in [group, version, resource, subresource, namespace, name] {
                print.text(text);
            }
            for parts in [fields, labels] {
                print.count(parts.len());
                for part in parts {
                    print.text(&part.key);
                    print.text(&part.operator);
                    print.texts(&part.values);
                }
            }
        }
    }
    print.0.finalize().into()
}

/// What is counted, by upstream's names.
struct Counted {
    attempts: IntCounterVec,
    attempts_took: HistogramVec,
    checks: IntCounterVec,
    checks_took: HistogramVec,
}

impl Counted {
    fn new(registry: &Registry) -> Result<Counted, prometheus::Error> {
        let labels = ["mode", "decision"];
        let counter = |name: &str, help: &str| {
            let made = IntCounterVec::new(Opts::new(format!("apiserver_impersonation_{name}"), help), &labels)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(format!("apiserver_impersonation_{name}"), help);
            let made = HistogramVec::new(options.buckets(exponential_buckets(0.001, 2.0, 15)?), &labels)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        Ok(Counted {
            attempts: counter("attempts_total", "Requests that wanted to act as somebody else.")?,
            attempts_took: histogram("attempts_duration_seconds", "Time to judge as whom a request acts.")?,
            checks: counter("authorization_attempts_total", "Rights that were asked for to act as somebody else.")?,
            checks_took: histogram("authorization_attempts_duration_seconds", "Time to judge one such right.")?,
        })
    }

    fn attempt(&self, mode: &str, decision: &str, start: Instant) {
        self.attempts.with_label_values(&[mode, decision]).inc();
        self.attempts_took.with_label_values(&[mode, decision]).observe(start.elapsed().as_secs_f64());
    }

    fn check(&self, mode: &str, decision: &str, start: Instant) {
        self.checks.with_label_values(&[mode, decision]).inc();
        self.checks_took.with_label_values(&[mode, decision]).observe(start.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests;
