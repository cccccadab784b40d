//! Feature gates: which v1.36 knows, their stage and default, and what `--feature-gates` makes of them.
//!
//! Most gates are known and change nothing: what they guard is always there or not there yet. A kind that is served only
//! behind a gate names it in its description. Never decides what a gate guards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

/// How mature a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off by default; may go without notice.
    Alpha,
    /// May go with notice.
    Beta,
    /// General availability: stays.
    Stable,
    /// On its way out.
    Deprecated,
}

impl Stage {
    /// The label of the metric `kubernetes_feature_enabled`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
            Stage::Stable => "",
            Stage::Deprecated => "DEPRECATED",
        }
    }

    fn read(text: &str) -> Option<Stage> {
        match text {
            "alpha" => Some(Stage::Alpha),
            "beta" => Some(Stage::Beta),
            "stable" => Some(Stage::Stable),
            "deprecated" => Some(Stage::Deprecated),
            _ => None,
        }
    }
}

/// A gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// As the flag names it.
    pub name: &'static str,
    /// Its stage in v1.36.
    pub stage: Stage,
    /// On without a flag.
    pub default: bool,
    /// The default cannot be changed any more.
    pub locked: bool,
    /// Gates that must be on when this one is.
    pub needs: Vec<&'static str>,
}

impl Feature {
    fn read(line: &'static str) -> Option<Feature> {
        let mut words = line.split(' ');
        let (name, stage, default) = (words.next()?, Stage::read(words.next()?)?, words.next()? == "on");
        let mut feature = Feature { name, stage, default, locked: false, needs: Vec::new() };
        for word in words {
            match word.split_once('=') {
                Some(("needs", names)) => feature.needs = names.split(',').collect(),
                _ => feature.locked = word == "locked",
            }
        }
        Some(feature)
    }
}

/// The gates that stand for all of a stage.
const OF_A_STAGE: &[(&str, Stage)] = &[("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)];

static KNOWN: LazyLock<BTreeMap<&'static str, Feature>> = LazyLock::new(|| {
    let lines = include_str!("features.txt").lines().filter(|line| !line.starts_with('#'));
    let general = OF_A_STAGE.iter().map(|(name, stage)| Feature {
        name,
        stage: *stage,
        default: false,
        locked: false,
        needs: Vec::new(),
    });
    lines.filter_map(Feature::read).chain(general).map(|feature| (feature.name, feature)).collect()
});

/// Every gate, by name.
pub fn known() -> impl Iterator<Item = &'static Feature> {
    KNOWN.values()
}

/// What is wrong with the flag, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateError(Vec<String>);

impl GateError {
    fn one(sentence: impl Into<String>) -> GateError {
        GateError(vec![sentence.into()])
    }
}

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

impl std::error::Error for GateError {}

/// Which gates are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    changed: BTreeMap<&'static str, bool>,
    unknown: BTreeSet<String>,
}

impl Gates {
    /// Reads the values of `--feature-gates`, each `Name=true,kube:Other=false`; a later one wins.
    ///
    /// # Errors
    /// A value that is no boolean, another component than `kube`, a locked gate, a gate without those that it needs.
    pub fn parse<S: AsRef<str>>(flags: &[S]) -> Result<Gates, GateError> {
        let mut said: BTreeMap<String, bool> = BTreeMap::new();
        let (mut plain, mut prefixed) = (false, false);
        let pairs = flags.iter().flat_map(|flag| flag.as_ref().split(',')).filter(|pair| !pair.is_empty());
        for pair in pairs {
            let pair = match pair.split_once(':') {
                Some((component, pair)) if component.trim() == "kube" => {
                    prefixed = true;
                    pair
                }
                Some((component, _)) if !component.trim().is_empty() => {
                    return Err(GateError::one(format!("component not registered: {}", component.trim())));
                }
                Some((_, pair)) => {
                    plain = true;
                    pair
                }
                None => {
                    plain = true;
                    pair
                }
            };
            let Some((name, value)) = pair.split_once('=') else {
                return Err(GateError::one(format!("missing bool value for {}", pair.trim())));
            };
            let (name, value) = (name.trim(), value.trim());
            let on =
                boolean(value).map_err(|why| GateError::one(format!("invalid value of {name}={value}, err: {why}")))?;
            said.insert(name.to_owned(), on);
        }
        if plain && prefixed {
            return Err(GateError::one(
                "set kube feature gates with default empty prefix or kube: prefix consistently, do not mix use",
            ));
        }
        Gates::of(&said)
    }

    fn of(said: &BTreeMap<String, bool>) -> Result<Gates, GateError> {
        let (mut gates, mut errors) = (Gates::default(), Vec::new());
        for (name, on) in said {
            match KNOWN.get(name.as_str()) {
                None => drop(gates.unknown.insert(name.clone())),
                Some(gate) if gate.locked && gate.default != *on => errors
                    .push(format!("cannot set feature gate {name} to {on}, feature is locked to {}", gate.default)),
                Some(gate) => drop(gates.changed.insert(gate.name, *on)),
            }
        }
        if !errors.is_empty() {
            return Err(GateError(errors));
        }
        for (name, stage) in OF_A_STAGE {
            let Some(on) = said.get(*name) else { continue };
            for gate in known().filter(|gate| gate.stage == *stage) {
                gates.changed.entry(gate.name).or_insert(*on);
            }
        }
        for gate in known().filter(|gate| gates.enabled(gate.name)) {
            let off: Vec<&str> = gate.needs.iter().copied().filter(|name| !gates.enabled(name)).collect();
            if !off.is_empty() {
                let name = gate.name;
                errors
                    .push(format!("{name} is enabled, but depends on features that are disabled: [{}]", off.join(" ")));
            }
        }
        if errors.is_empty() { Ok(gates) } else { Err(GateError(errors)) }
    }

    /// Whether a gate is on; one that nobody knows is off.
    #[must_use]
    pub fn enabled(&self, name: &str) -> bool {
        let default = || KNOWN.get(name).is_some_and(|gate| gate.default);
        self.changed.get(name).copied().unwrap_or_else(default)
    }

    /// Names that no gate has. Upstream warns of them and goes on.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.unknown.iter().map(String::as_str)
    }
}

/// A boolean as Go's flags read it.
///
/// # Errors
/// Go's sentence.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let lines = include_str!("features.txt").lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(known().count(), lines + OF_A_STAGE.len(), "a line cannot be read, or a name is there twice");
        for gate in known() {
            assert!(gate.needs.iter().all(|name| KNOWN.contains_key(name)), "{gate:?}");
        }
        let kinds = crate::kinds::ALL.iter().filter_map(|kind| kind.gate);
        assert!(kinds.into_iter().all(|name| KNOWN.contains_key(name)));
        assert_eq!(Gates::parse::<&str>(&[]), Ok(Gates::default()), "the defaults agree with each other");
    }

    #[test]
    fn flags() {
        let check = |flags: &[&str], name: &str, wanted: Result<bool, &str>| {
            let found = Gates::parse(flags).map(|gates| gates.enabled(name)).map_err(|error| error.to_string());
            assert_eq!(found, wanted.map_err(str::to_owned), "{flags:?}");
        };
        check(&[], "ClusterTrustBundle", Ok(false));
        check(&[""], "ImageVolumeWithDigest", Ok(false));
        check(&["ClusterTrustBundle=true"], "ClusterTrustBundle", Ok(true));
        check(&["kube: ClusterTrustBundle = 1 ,"], "ClusterTrustBundle", Ok(true));
        check(&["ClusterTrustBundle=true", "ClusterTrustBundle=F"], "ClusterTrustBundle", Ok(false));
        check(
            &["AllBeta=true,ClusterTrustBundle=false,ClusterTrustBundleProjection=false"],
            "PodCertificateRequest",
            Ok(true),
        );
        check(&["AllAlpha=true"], "GenericWorkload", Ok(true));
        check(&["AllAlpha=true"], "ClusterTrustBundle", Ok(false));
        check(&["Nonsense=true"], "Nonsense", Ok(false));
        check(&["ClusterTrustBundle"], "", Err("missing bool value for ClusterTrustBundle"));
        check(
            &["ClusterTrustBundle=yes"],
            "",
            Err("invalid value of ClusterTrustBundle=yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax"),
        );
        check(&["wardle:A=true"], "", Err("component not registered: wardle"));
        check(
            &["kube:AllAlpha=true,AllBeta=true"],
            "",
            Err("set kube feature gates with default empty prefix or kube: prefix consistently, do not mix use"),
        );
        check(
            &["MultiCIDRServiceAllocator=false"],
            "",
            Err("cannot set feature gate MultiCIDRServiceAllocator to false, feature is locked to true"),
        );
        check(
            &["GangScheduling=true"],
            "",
            Err("GangScheduling is enabled, but depends on features that are disabled: [GenericWorkload]"),
        );
        let gates = Gates::parse(&["Nonsense=true,Other=false"]).unwrap();
        assert_eq!(gates.unknown().collect::<Vec<_>>(), ["Nonsense", "Other"]);
    }
}
