//! Configuration files of the API server (`apiserver.config.k8s.io`), read strictly.
//!
//! Never judges what the fields say; those who ask for a file do.

use api::codec::yaml;
use api::json::Value;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use std::time::Duration;

/// Reads a file of this kind in one of these versions.
///
/// # Errors
/// One sentence.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8], kind: &str, versions: &[&str]) -> Result<T, String> {
    let mut given = yaml::parse(text).map_err(|error| error.to_string())?;
    let own = api::value::text(&given, "kind").to_owned();
    let version = api::value::text(&given, "apiVersion").to_owned();
    if own.is_empty() {
        return Err("Object 'Kind' is missing".to_owned());
    }
    if own != kind || !versions.contains(&version.as_str()) {
        return Err(format!(
            "no kind {own:?} is registered for version {version:?}, expected {kind} of {}",
            versions.join(" or ")
        ));
    }
    without_nulls(&mut given);
    if let Some(fields) = given.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    api::json::from_value(given).map_err(|error| format!("strict decoding error: {error}"))
}

/// `null` is the absence of a field.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Go's text of a duration; negative ones are refused.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let nanos = crate::encryption::nanoseconds(&text).map_err(serde::de::Error::custom)?;
    let nanos = u64::try_from(nanos).map_err(|_| serde::de::Error::custom(format!("{text:?} is negative")))?;
    Ok(Some(Duration::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        names: Vec<String>,
        #[serde(deserialize_with = "duration")]
        timeout: Option<Duration>,
    }

    #[test]
    fn files_are_read_strictly() {
        let read = |text: &str| parse::<Example>(text.as_bytes(), "Example", &["a/v1", "a/v1beta1"]);
        let good = read("kind: Example\napiVersion: a/v1beta1\nnames: [x]\ntimeout: 1m30s\n").unwrap();
        assert_eq!((good.names.as_slice(), good.timeout), (["x".to_owned()].as_slice(), Some(Duration::from_secs(90))));
        assert!(read("kind: Example\napiVersion: a/v1\nnames: null\n").unwrap().names.is_empty());
        for (text, want) in [
            ("apiVersion: a/v1\n", "Object 'Kind' is missing"),
            ("kind: Example\napiVersion: a/v2\n", "no kind \"Example\" is registered for version \"a/v2\""),
            ("kind: Example\napiVersion: a/v1\nnamez: []\n", "unknown field `namez`"),
            ("kind: Example\napiVersion: a/v1\ntimeout: -1s\n", "negative"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(want), "{why}");
        }
    }
}
