//! The Pod Security Standards: levels, what a namespace's labels ask for, and the configuration that fills in the rest.
//!
//! Never refuses a request: the plugin of this name does. Source: KEP-2579.

pub(crate) mod checks;

use api::field_path::{Errors, FieldError, Path};
use api::json::Value;
use api::value;
use checks::{Pod, findings};
use std::fmt;

/// How strict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing is refused.
    #[default]
    Privileged,
    /// What escapes a container is refused.
    Baseline,
    /// Good practice is demanded.
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Result<Level, &'static str> {
        match text {
            "privileged" => Ok(Level::Privileged),
            "baseline" => Ok(Level::Baseline),
            "restricted" => Ok(Level::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }
}

/// A level as it was at a version; without one as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standard {
    pub(crate) level: Level,
    /// Of Kubernetes 1.
    pub(crate) minor: Option<u32>,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Standard {
    /// What it has against a pod: the reasons alone and with their details.
    pub(crate) fn against(self, pod: Pod<'_>) -> Option<(String, String)> {
        let findings = findings(self.level, self.minor, pod);
        if findings.is_empty() {
            return None;
        }
        let reasons: Vec<&str> = findings.iter().map(|finding| finding.reason.as_str()).collect();
        let details: Vec<String> =
            findings.iter().map(|finding| format!("{} ({})", finding.reason, finding.detail)).collect();
        Some((reasons.join(", "), details.join(", ")))
    }
}

fn version(text: &str) -> Result<Option<u32>, &'static str> {
    const WHY: &str = "must be \"latest\" or \"v1.x\"";
    if text == "latest" {
        return Ok(None);
    }
    let digits = text.strip_prefix("v1.").ok_or(WHY)?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (digits.len() > 1 && digits.starts_with('0')) {
        return Err(WHY);
    }
    digits.parse().map(Some).map_err(|_| WHY)
}

/// What is refused, noted for the audit log and warned of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) enforce: Standard,
    pub(crate) audit: Standard,
    pub(crate) warn: Standard,
}

impl Policy {
    pub(crate) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|standard| standard.level == Level::Privileged)
    }

    /// What labels of a namespace say, and these defaults where they say nothing.
    pub(crate) fn of_labels(self, namespace: &Value) -> (Policy, Errors) {
        let mut errors = Errors::new();
        let label = |name: &str| api::meta::label(namespace, &format!("pod-security.kubernetes.io/{name}"));
        let mut policy = self;
        let root = Path::new("metadata").child("labels");
        let mut read = |standard: &mut Standard, mode: &str, open: bool| {
            let mut level_given = false;
            if let Some(text) = label(mode) {
                match Level::parse(text) {
                    Ok(level) => (standard.level, level_given) = (level, true),
                    Err(why) => {
                        // What refuses fails closed, what only speaks fails open.
                        standard.level = if open { Level::Privileged } else { Level::Restricted };
                        let path = root.key(&format!("pod-security.kubernetes.io/{mode}"));
                        errors.push(FieldError::invalid(&path, text, why));
                    }
                }
            }
            let name = format!("{mode}-version");
            if let Some(text) = label(&name) {
                match version(text) {
                    Ok(minor) => standard.minor = minor,
                    Err(why) => {
                        standard.minor = None;
                        let path = root.key(&format!("pod-security.kubernetes.io/{name}"));
                        errors.push(FieldError::invalid(&path, text, why));
                    }
                }
            }
            level_given
        };
        let enforced = read(&mut policy.enforce, "enforce", false);
        read(&mut policy.audit, "audit", true);
        read(&mut policy.warn, "warn", true);
        if label("warn").is_none() && enforced && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if label("warn-version").is_none() {
                policy.warn.minor = policy.enforce.minor;
            }
        }
        (policy, errors)
    }
}

/// `PodSecurityConfiguration`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    pub(crate) defaults: Policy,
    pub(crate) users: Vec<String>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) runtime_classes: Vec<String>,
}

impl Configuration {
    /// Reads the plugin's part of the file of `--admission-control-config-file`; `Null` is the default.
    ///
    /// # Errors
    /// One sentence.
    pub(crate) fn read(given: &Value) -> Result<Configuration, String> {
        if given.is_null() {
            return Ok(Configuration::default());
        }
        let versions =
            ["v1", "v1beta1", "v1alpha1"].map(|version| format!("pod-security.admission.config.k8s.io/{version}"));
        if value::text(given, "kind") != "PodSecurityConfiguration"
            || !versions.iter().any(|version| version == value::text(given, "apiVersion"))
        {
            return Err(format!("expected PodSecurityConfiguration of {}", versions.join(" or ")));
        }
        let known = |object: &Value, names: &[&str], place: &str| {
            let unknown = object.as_object().into_iter().flatten().find(|(name, _)| !names.contains(&name.as_str()));
            unknown.map_or(Ok(()), |(name, _)| Err(format!("unknown field \"{place}{name}\"")))
        };
        known(given, &["kind", "apiVersion", "defaults", "exemptions"], "")?;
        let nothing = Value::Null;
        let defaults = given.get("defaults").unwrap_or(&nothing);
        let exemptions = given.get("exemptions").unwrap_or(&nothing);
        let modes = ["enforce", "enforce-version", "audit", "audit-version", "warn", "warn-version"];
        known(defaults, &modes, "defaults.")?;
        known(exemptions, &["usernames", "namespaces", "runtimeClasses"], "exemptions.")?;
        let standard = |mode: &str| -> Result<Standard, String> {
            let text = |name: &str| defaults.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            let name = format!("{mode}-version");
            let level = Level::parse(text(mode).unwrap_or("privileged"));
            let minor = version(text(&name).unwrap_or("latest"));
            Ok(Standard {
                level: level.map_err(|why| format!("defaults.{mode}: {why}"))?,
                minor: minor.map_err(|why| format!("defaults.{name}: {why}"))?,
            })
        };
        let list = |name: &str| -> Vec<String> {
            value::items(exemptions, name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Ok(Configuration {
            defaults: Policy { enforce: standard("enforce")?, audit: standard("audit")?, warn: standard("warn")? },
            users: list("usernames"),
            namespaces: list("namespaces"),
            runtime_classes: list("runtimeClasses"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn labels_ask() {
        let check = |labels: Value, want: &str, wrong: usize| {
            let namespace = json!({"metadata": {"labels": labels}});
            let (policy, errors) = Policy::default().of_labels(&namespace);
            let got = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
            assert_eq!((got.as_str(), errors.len()), (want, wrong), "{namespace}");
        };
        let key = |name: &str| format!("pod-security.kubernetes.io/{name}");
        check(json!({}), "privileged:latest privileged:latest privileged:latest", 0);
        check(json!({key("enforce"): "baseline"}), "baseline:latest privileged:latest baseline:latest", 0);
        check(
            json!({key("enforce"): "restricted", key("enforce-version"): "v1.30", key("audit"): "baseline"}),
            "restricted:v1.30 baseline:latest restricted:v1.30",
            0,
        );
        check(
            json!({key("enforce"): "restricted", key("warn"): "baseline"}),
            "restricted:latest privileged:latest baseline:latest",
            0,
        );
        check(json!({key("enforce"): "strict"}), "restricted:latest privileged:latest privileged:latest", 1);
        check(
            json!({key("warn"): "strict", key("warn-version"): "v2.0"}),
            "privileged:latest privileged:latest privileged:latest",
            2,
        );
        check(json!({key("audit-version"): "v1.07"}), "privileged:latest privileged:latest privileged:latest", 1);
    }

    #[test]
    fn configurations() {
        let read = |defaults: Value, exemptions: Value| {
            Configuration::read(
                &json!({"kind": "PodSecurityConfiguration", "apiVersion": "pod-security.admission.config.k8s.io/v1",
                "defaults": defaults, "exemptions": exemptions}),
            )
        };
        let good =
            read(json!({"enforce": "baseline", "warn-version": "v1.20"}), json!({"namespaces": ["kube-system"]}))
                .unwrap();
        assert_eq!((good.defaults.enforce.level, good.defaults.warn.minor), (Level::Baseline, Some(20)));
        assert_eq!(good.namespaces, ["kube-system"]);
        assert!(
            read(json!({"enforce": "strict"}), json!({})).unwrap_err().contains("defaults.enforce: must be one of")
        );
        assert!(
            read(json!({"enfroce": "baseline"}), json!({})).unwrap_err().contains("unknown field \"defaults.enfroce\"")
        );
        assert!(Configuration::read(&json!({"kind": "Pod"})).is_err());
    }
}
