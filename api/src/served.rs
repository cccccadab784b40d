//! What of the table of kinds a server offers: `--runtime-config` and the feature gates as one filter.
//!
//! Routes, discovery, OpenAPI and caches ask it and nothing else. Never knows a kind.

use crate::features::{Gates, boolean};
use crate::kind::Kind;
use crate::kinds;
use crate::schema::native;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// What is wrong with `--runtime-config`, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfigError(String);

impl fmt::Display for RuntimeConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RuntimeConfigError {}

type Outcome<T> = Result<T, RuntimeConfigError>;

fn wrong<T>(sentence: impl Into<String>) -> Outcome<T> {
    Err(RuntimeConfigError(sentence.into()))
}

/// How mature a version is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Stable,
    Beta,
    Alpha,
}

/// `v1` is stable, `v1beta2` is not.
fn level(version: &str) -> Option<Level> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let rest = version.strip_prefix('v')?;
    let (level, major, minor) = match (rest.split_once("alpha"), rest.split_once("beta")) {
        (Some((major, minor)), _) => (Level::Alpha, major, Some(minor)),
        (_, Some((major, minor))) => (Level::Beta, major, Some(minor)),
        _ => (Level::Stable, rest, None),
    };
    (digits(major) && minor.is_none_or(digits)).then_some(level)
}

/// The keys that stand for many versions, in the order in which they are heeded, with the level that they mean.
const MANY: &[(&str, Option<Level>)] = &[
    ("api/all", None),
    ("api/ga", Some(Level::Stable)),
    ("api/beta", Some(Level::Beta)),
    ("api/alpha", Some(Level::Alpha)),
];

/// Every group and version that has types, served or not: all in which a deletion's options can be sent.
fn registered() -> BTreeSet<(&'static str, &'static str)> {
    let options = native().schema("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
    let gvks = options.into_iter().flat_map(|options| &options.def().gvks);
    gvks.map(|(group, version, _)| (group.as_str(), version.as_str())).collect()
}

/// The kinds that a server offers.
#[derive(Clone, Debug)]
pub struct Served {
    kinds: Vec<&'static Kind>,
    by_resource: HashMap<(&'static str, &'static str, &'static str), &'static Kind>,
    versions: BTreeSet<(&'static str, &'static str)>,
}

impl Default for Served {
    /// Without any flag: the stable versions.
    fn default() -> Served {
        Served::filter(&Preferences::default(), &Gates::default())
    }
}

impl Served {
    /// The whole table.
    #[must_use]
    pub fn all() -> Served {
        Served::of(kinds::ALL.to_vec())
    }

    fn of(kinds: Vec<&'static Kind>) -> Served {
        let mut by_resource = HashMap::with_capacity(kinds.len());
        for kind in &kinds {
            by_resource.entry((kind.group, kind.version, kind.plural)).or_insert(*kind);
        }
        let versions = kinds.iter().map(|kind| (kind.group, kind.version)).collect();
        Served { kinds, by_resource, versions }
    }

    /// These and others, which give way where a resource is there already.
    #[must_use]
    pub fn with(&self, others: impl IntoIterator<Item = &'static Kind>) -> Served {
        let mut kinds = self.kinds.clone();
        let new = |kind: &&'static Kind| self.by_resource(kind.group, kind.version, kind.plural).is_none();
        kinds.extend(others.into_iter().filter(new));
        Served::of(kinds)
    }

    /// By the values of `--runtime-config`, each `group/version[/resource]=true|false` or `api/beta=true`, with commas
    /// between them; a later one wins.
    ///
    /// # Errors
    /// A key or value that cannot be read, a group or version that does not exist.
    pub fn by_flags<S: AsRef<str>>(flags: &[S], gates: &Gates) -> Outcome<Served> {
        let mut said = BTreeMap::new();
        for pair in flags.iter().flat_map(|flag| flag.as_ref().split(',')).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            said.insert(key.trim(), value.trim());
        }
        Ok(Served::filter(&Preferences::read(&said)?, gates))
    }

    fn filter(preferences: &Preferences<'_>, gates: &Gates) -> Served {
        let on = |kind: &&Kind| preferences.allow(kind) && kind.gate.is_none_or(|gate| gates.enabled(gate));
        Served::of(kinds::ALL.iter().copied().filter(|kind| on(kind)).collect())
    }

    /// The kinds, in the table's order.
    #[must_use]
    pub fn kinds(&self) -> &[&'static Kind] {
        &self.kinds
    }

    /// The kind served under this group, version and resource name.
    #[must_use]
    pub fn by_resource(&self, group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
        self.by_resource.get(&(group, version, plural)).copied()
    }

    /// Some kind of this group and version is served.
    #[must_use]
    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.versions.contains(&(group, version))
    }

    /// Some kind of this group is served that no definition made.
    #[must_use]
    pub fn has_native_group(&self, group: &str) -> bool {
        self.kinds.iter().any(|kind| kind.group == group && kind.custom.is_none())
    }

    /// The kinds whose objects are kept: those of which some version is served, and the stable ones in any case, because
    /// the server itself reads them (namespaces, roles, service accounts).
    pub fn kept(&self) -> impl Iterator<Item = &'static Kind> {
        let some_version =
            |kind: &'static Kind| self.kinds.iter().any(|served| std::ptr::eq::<Kind>(served.stored(), kind));
        kinds::ALL.iter().copied().filter(move |kind| {
            let wanted = level(kind.version) == Some(Level::Stable) || some_version(kind);
            wanted && kind.is_stored() && kind.stored_as.is_none()
        })
    }
}

/// What the flag says, by how precise it is.
#[derive(Debug, Default)]
struct Preferences<'a> {
    many: Vec<(Option<Level>, bool)>,
    versions: BTreeMap<(&'a str, &'a str), bool>,
    resources: BTreeMap<(&'a str, &'a str, &'a str), bool>,
}

impl<'a> Preferences<'a> {
    fn read(said: &BTreeMap<&'a str, &'a str>) -> Outcome<Preferences<'a>> {
        if said.len() == 1 && said.get("api/all") == Some(&"false") {
            return wrong("invalid runtime-config with only api/all=false");
        }
        let registered = registered();
        let precise = || said.iter().filter(|(key, _)| MANY.iter().all(|(many, _)| many != *key));
        let mut strangers = BTreeSet::new();
        for (key, _) in precise() {
            let (group, version, _) = split(key)?;
            if !registered.iter().any(|(known, _)| *known == group) {
                strangers.insert(format!("{group}/{version}"));
            }
        }
        if !strangers.is_empty() {
            return wrong(format!("unknown api groups {}", strangers.into_iter().collect::<Vec<_>>().join(",")));
        }
        let mut out = Preferences::default();
        for (key, level) in MANY {
            match said.get(key) {
                None => {}
                Some(&"true") => out.many.push((*level, true)),
                Some(&"false") => out.many.push((*level, false)),
                Some(value) => return wrong(format!("invalid value {key}={value}")),
            }
        }
        for (key, value) in precise() {
            let (group, version, resource) = split(key)?;
            if !registered.contains(&(group, version)) {
                let shown = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
                return wrong(format!("group version {shown} that has not been registered"));
            }
            let on = match *value {
                "" => true,
                value => boolean(value).or_else(|why| wrong(format!("invalid value of {key}: {value}, err: {why}")))?,
            };
            match resource {
                None => drop(out.versions.insert((group, version), on)),
                Some(resource) if resource != resource.to_lowercase() => {
                    return wrong(format!(
                        "invalid key {key}: group/version/resource and resource is always lowercase plural, not \
                         {resource:?}"
                    ));
                }
                Some(resource) => drop(out.resources.insert((group, version, resource), on)),
            }
        }
        Ok(out)
    }

    /// The most precise word holds; of those about many versions the last.
    fn allow(&self, kind: &Kind) -> bool {
        let level = level(kind.version);
        let many = self.many.iter().rev().find(|(of, _)| of.is_none() || *of == level).map(|(_, on)| *on);
        let version = self.versions.get(&(kind.group, kind.version)).copied();
        let resource = self.resources.get(&(kind.group, kind.version, kind.plural)).copied();
        resource.or(version).or(many).unwrap_or(level == Some(Level::Stable))
    }
}

/// Group, version and perhaps resource.
fn split(key: &str) -> Outcome<(&str, &str, Option<&str>)> {
    let mut parts = key.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(group), Some(version), resource, None) => Ok((group, version, resource)),
        _ => wrong(format!("runtime-config invalid key {key}")),
    }
}

#[cfg(test)]
mod tests;
