//! What a component was told: flags over the configuration file over defaults, read by the names of the table.
//!
//! Never acts, and opens no file but the one that `--config` names.

use super::table::{Component, Line, Takes, Verdict};
use anyhow::Context as _;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What was asked of us instead of a start.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To run with these settings.
    Run(Settings),
    /// For the list of flags.
    Help,
    /// For the version.
    Version,
}

/// The settings of a component.
#[derive(Debug)]
pub(crate) struct Settings {
    lines: Vec<Line>,
    given: BTreeMap<&'static str, Value>,
    file: Value,
    /// Which were looked at: a test compares them with what the table promises.
    read: RefCell<BTreeSet<&'static str>>,
    /// What is taken and has no effect, in sentences.
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// Reads a command line, and the file that it names.
    ///
    /// # Errors
    /// An unknown flag or field, with a suggestion; a value that cannot be; what is refused.
    pub(crate) fn parse(component: &Component, words: &[String]) -> anyhow::Result<Asked> {
        let lines = component.lines()?;
        let mut given: BTreeMap<&'static str, Value> = BTreeMap::new();
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let (name, value) = match word {
                "-h" | "--help" => return Ok(Asked::Help),
                "--version" => return Ok(Asked::Version),
                _ => {
                    let text = if word == "-v" { Some("v") } else { word.strip_prefix("--") };
                    let text = text.or_else(|| word.strip_prefix('-').filter(|text| text.starts_with("v=")));
                    let text = text.with_context(|| {
                        format!("{word:?} is not a flag, and `{}` takes nothing else", component.name)
                    })?;
                    match text.split_once('=') {
                        Some((name, value)) => (name, Some(value)),
                        None => (text, None),
                    }
                }
            };
            // Upstream takes either.
            let name = name.replace('_', "-");
            let line = lines.iter().find(|line| line.flag == name).with_context(|| {
                unknown(
                    "flag",
                    &format!("--{name}"),
                    lines.iter().filter(|line| !line.flag.is_empty()).map(Line::shown),
                )
            })?;
            let value = match value {
                Some(value) => value,
                None if line.takes == Takes::Bool => "true",
                None => words.next().with_context(|| format!("flag needs an argument: --{name}"))?,
            };
            let value =
                read(line.takes, value).with_context(|| format!("invalid argument {value:?} for \"--{name}\" flag"))?;
            match (given.get_mut(line.flag), value) {
                (Some(Value::Array(old)), Value::Array(new)) => old.extend(new),
                (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
                (_, value) => {
                    given.insert(line.flag, value);
                }
            }
        }
        let mut settings = Settings { lines, given, file: Value::Null, read: RefCell::default(), warnings: Vec::new() };
        if let Some((versions, kind)) = component.document
            && let Some(path) = settings.path("config")
        {
            settings.file = file(&path, versions, kind).with_context(|| format!("--config {}", path.display()))?;
            known(&settings.lines, "", &settings.file).with_context(|| format!("--config {}", path.display()))?;
            if component.file_alone {
                let lines = &settings.lines;
                settings.given.retain(|flag, _| lines.iter().any(|line| line.flag == *flag && line.field.is_empty()));
            }
        }
        settings.judge()?;
        Ok(Asked::Run(settings))
    }

    /// Refuses what is refused and notes what has no effect.
    fn judge(&mut self) -> anyhow::Result<()> {
        for line in &self.lines {
            if self.explicit(line).is_none_or(|value| is_default(line, &value)) {
                continue;
            }
            match line.verdict {
                Verdict::Same | Verdict::Own => {}
                Verdict::Ignored => self.warnings.push(format!("{} has no effect: {}", line.shown(), line.why)),
                Verdict::Refused => anyhow::bail!("{}: {}", line.shown(), line.why),
            }
        }
        Ok(())
    }

    fn explicit(&self, line: &Line) -> Option<Value> {
        let in_file = || {
            let field = (!line.field.is_empty()).then_some(line.field)?;
            let value = field.split('.').try_fold(&self.file, |value, part| value.get(part))?;
            // Tools write whole files: an empty text or no time at all is a field that says nothing.
            let none = value.is_null() || value.as_str().is_some_and(str::is_empty);
            let no_time = || value.as_str().and_then(duration) == Some(Duration::ZERO) || value.as_i64() == Some(0);
            let nothing = none || (line.takes == Takes::Duration && no_time());
            (!nothing).then(|| value.clone())
        };
        self.given.get(line.flag).cloned().or_else(in_file)
    }

    fn line(&self, key: &str) -> Option<&Line> {
        let line = self.lines.iter().find(|line| line.key() == key);
        debug_assert!(line.is_some(), "the table has no {key:?}");
        if let Some(line) = line {
            self.read.borrow_mut().insert(line.key());
        }
        line
    }

    /// The value of a flag or field, its default where neither says anything.
    fn value(&self, key: &str) -> Value {
        let Some(line) = self.line(key) else { return Value::Null };
        self.explicit(line).unwrap_or_else(|| {
            if line.default.is_empty() { Value::Null } else { read(line.takes, line.default).unwrap_or_default() }
        })
    }

    /// Whether the command line or the file says anything.
    pub(crate) fn is_given(&self, key: &str) -> bool {
        self.line(key).is_some_and(|line| self.explicit(line).is_some())
    }

    /// A text; empty when there is none.
    pub(crate) fn text(&self, key: &str) -> String {
        match self.value(key) {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    /// A path; none when it is empty.
    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.text(key)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// A path that must be there.
    pub(crate) fn required(&self, key: &str) -> anyhow::Result<PathBuf> {
        self.path(key).with_context(|| format!("--{key} is missing"))
    }

    /// Yes or no.
    pub(crate) fn bool(&self, key: &str) -> bool {
        self.value(key).as_bool().unwrap_or_default()
    }

    /// A whole number that fits.
    pub(crate) fn number<N: TryFrom<i64>>(&self, key: &str) -> anyhow::Result<N> {
        let value = self.value(key);
        let number = value.as_i64().with_context(|| format!("{key}: {value} is not a whole number"))?;
        N::try_from(number).ok().with_context(|| format!("{key}: {number} is out of range"))
    }

    /// Texts; empty when there are none.
    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        match self.value(key) {
            Value::Array(items) => items.iter().map(plain).collect(),
            Value::Null => Vec::new(),
            other => vec![plain(&other)],
        }
    }

    /// Keys and values; empty when there are none.
    pub(crate) fn map(&self, key: &str) -> BTreeMap<String, String> {
        match self.value(key) {
            Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
            _ => BTreeMap::new(),
        }
    }

    /// Keys and values as `key=value`, and bare keys.
    pub(crate) fn words(&self, key: &str) -> Vec<String> {
        let word = |(key, value): (String, String)| if value.is_empty() { key } else { format!("{key}={value}") };
        self.map(key).into_iter().map(word).collect()
    }

    /// What the file says there, or the flag's value, as it is.
    pub(crate) fn raw(&self, key: &str) -> Value {
        self.value(key)
    }

    /// A duration.
    pub(crate) fn duration(&self, key: &str) -> anyhow::Result<Duration> {
        let text = self.text(key);
        if text.is_empty() {
            return Ok(Duration::ZERO);
        }
        duration(&text).with_context(|| format!("{key}: {text:?} is not a duration such as 1h30m"))
    }

    /// An address; none when it is empty.
    pub(crate) fn ip(&self, key: &str) -> anyhow::Result<Option<IpAddr>> {
        let text = self.text(key);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).with_context(|| format!("{key}: {text:?} is not an IP address"))
    }

    /// What the settings were asked for.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> BTreeSet<&'static str> {
        self.read.borrow().clone()
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_default(line: &Line, value: &Value) -> bool {
    let empty = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    if empty || line.default.is_empty() {
        // Zero and false are what nothing would be.
        return empty || *value == Value::Bool(false) || value.as_f64() == Some(0.0);
    }
    let Ok(default) = read(line.takes, line.default) else { return false };
    let same_time = || Some(duration(value.as_str()?)? == duration(default.as_str()?)?);
    default == *value || (line.takes == Takes::Duration && same_time() == Some(true))
}

/// A value as its text says it.
fn read(takes: Takes, text: &str) -> anyhow::Result<Value> {
    Ok(match takes {
        Takes::Bool => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Value::Bool(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Value::Bool(false),
            _ => anyhow::bail!("it is neither true nor false"),
        },
        Takes::Int => text.parse::<i64>().context("it is not a whole number")?.into(),
        Takes::Float => serde_json::Number::from_f64(text.parse().context("it is not a number")?)
            .map(Value::Number)
            .context("it is not a number")?,
        Takes::Text => Value::from(text),
        Takes::Duration => {
            duration(text).context("it is not a duration such as 1h30m")?;
            Value::from(text)
        }
        Takes::Ip => {
            if !text.is_empty() {
                text.parse::<IpAddr>().context("it is not an IP address")?;
            }
            Value::from(text)
        }
        Takes::List => text.split(',').filter(|part| !part.is_empty()).map(Value::from).collect(),
        Takes::Each if text == "[]" => Value::Array(Vec::new()),
        Takes::Each => Value::Array(vec![Value::from(text)]),
        Takes::Map => {
            let mut map = Map::new();
            for part in text.split(',').filter(|part| !part.is_empty()) {
                // A bare key is one with nothing said about it.
                let (key, value) = part.split_once(['=', '<']).unwrap_or((part, ""));
                map.insert(key.trim().to_owned(), Value::from(value.trim()));
            }
            Value::Object(map)
        }
        Takes::Object => serde_json::from_str(text)?,
    })
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `100ms`, `0`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0.0_f64;
    let mut any = false;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        (any, rest) = (true, next);
    }
    // A negative one means "off" wherever upstream takes it.
    any.then(|| Duration::try_from_secs_f64((total * sign).max(0.0)).ok()).flatten()
}

/// "unknown flag: --x (did you mean --y?)".
fn unknown(what: &str, name: &str, names: impl Iterator<Item = String>) -> String {
    let near = names.map(|other| (strsim::damerau_levenshtein(name, &other), other)).min();
    match near {
        Some((distance, other)) if distance <= 2 + name.len() / 4 => {
            format!("unknown {what}: {name} (did you mean {other}?)")
        }
        _ => format!("unknown {what}: {name}"),
    }
}

/// The configuration file, of one of these versions and this kind.
fn file(path: &Path, versions: &[&str], kind: &str) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).context("it cannot be read")?;
    let value: Value = serde_yaml_ng::from_str(&text).context("it is not YAML")?;
    let said = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (version, found) = (said("apiVersion"), said("kind"));
    anyhow::ensure!(
        versions.contains(&version.as_str()) && found == kind,
        "no kind {found:?} is registered for version {version:?}; it must be a {kind} of {}",
        versions.join(" or ")
    );
    Ok(value)
}

/// Whether the table knows every field.
fn known(lines: &[Line], above: &str, value: &Value) -> anyhow::Result<()> {
    for (key, value) in value.as_object().into_iter().flatten() {
        let field = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        if matches!(field.as_str(), "apiVersion" | "kind" | "metadata") || lines.iter().any(|line| line.field == field)
        {
            continue;
        }
        let below = format!("{field}.");
        let parent = lines.iter().any(|line| line.field.starts_with(&below));
        if parent && value.is_null() {
            continue;
        }
        anyhow::ensure!(
            parent && value.is_object(),
            "{}",
            unknown(
                "field",
                &field,
                lines.iter().filter(|line| !line.field.is_empty()).map(|line| line.field.to_owned())
            )
        );
        known(lines, &field, value)?;
    }
    Ok(())
}
