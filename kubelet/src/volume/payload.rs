//! The files of configMap, secret, downwardAPI and projected volumes. Pure.

use k8s_openapi::api::core::v1 as core;

use super::atomic::{File, Files, allowed};
use crate::downward::{self, Facts};

/// Permission bits when the volume names none.
pub(crate) const DEFAULT_MODE: i32 = 0o644;

fn mode(own: Option<i32>, default: i32) -> u32 {
    u32::try_from(own.unwrap_or(default)).unwrap_or(0o644)
}

fn add(files: &mut Files, path: &str, data: Vec<u8>, mode: u32) -> Result<(), String> {
    if !allowed(path) {
        return Err(format!("invalid path {path:?} in volume"));
    }
    files.insert(path.to_owned(), File { data, mode });
    Ok(())
}

/// Adds chosen keys of a source, or all when `items` is absent.
fn keyed(
    files: &mut Files,
    what: &str,
    data: &[(String, Vec<u8>)],
    items: Option<&[core::KeyToPath]>,
    default_mode: i32,
    optional: bool,
) -> Result<(), String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, value) in data {
            add(files, key, value.clone(), mode(None, default_mode))?;
        }
        return Ok(());
    };
    for item in items {
        match data.iter().find(|(key, _)| *key == item.key) {
            Some((_, value)) => add(files, &item.path, value.clone(), mode(item.mode, default_mode))?,
            None if optional => {}
            None => return Err(format!("{what} references non-existent config key: {}", item.key)),
        }
    }
    Ok(())
}

/// Files of a ConfigMap; `None` for one that does not exist.
pub(crate) fn config_map(
    files: &mut Files,
    name: &str,
    map: Option<&core::ConfigMap>,
    items: Option<&[core::KeyToPath]>,
    default_mode: i32,
    optional: bool,
) -> Result<(), String> {
    let Some(map) = map else {
        return if optional { Ok(()) } else { Err(format!("configmap {name:?} not found")) };
    };
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    let data: Vec<(String, Vec<u8>)> = text.chain(binary).collect();
    keyed(files, "configmap", &data, items, default_mode, optional)
}

/// Files of a Secret; `None` for one that does not exist.
pub(crate) fn secret(
    files: &mut Files,
    name: &str,
    secret: Option<&core::Secret>,
    items: Option<&[core::KeyToPath]>,
    default_mode: i32,
    optional: bool,
) -> Result<(), String> {
    let Some(secret) = secret else {
        return if optional { Ok(()) } else { Err(format!("secret {name:?} not found")) };
    };
    let data: Vec<(String, Vec<u8>)> =
        secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
    keyed(files, "secret", &data, items, default_mode, optional)
}

/// Files of the pod's own fields.
pub(crate) fn downward_api(
    files: &mut Files,
    pod: &core::Pod,
    items: &[core::DownwardAPIVolumeFile],
    default_mode: i32,
    facts: &Facts,
) -> Result<(), String> {
    for item in items {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward::field(pod, &field.field_path, facts)?,
            (None, Some(selector)) => downward::resource(pod, None, selector, facts)?,
            (None, None) => String::new(),
        };
        add(files, &item.path, value.into_bytes(), mode(item.mode, default_mode))?;
    }
    Ok(())
}

/// The file of a service-account token.
pub(crate) fn token(files: &mut Files, path: &str, token: String, default_mode: i32) -> Result<(), String> {
    add(files, path, token.into_bytes(), mode(None, default_mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_become_files() {
        let map: core::ConfigMap =
            serde_json::from_value(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}})).unwrap();
        let items: Vec<core::KeyToPath> =
            serde_json::from_value(json!([{"key": "b", "path": "d/e", "mode": 0o400}])).unwrap();
        let mut files = Files::new();
        config_map(&mut files, "m", Some(&map), None, 0o644, false).unwrap();
        assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        let mut files = Files::new();
        config_map(&mut files, "m", Some(&map), Some(&items), 0o644, false).unwrap();
        assert_eq!(files.get("d/e"), Some(&File { data: b"2".to_vec(), mode: 0o400 }));
        assert_eq!(files.len(), 1);
    }

    #[test]
    fn what_is_missing_is_an_error_unless_optional() {
        let items: Vec<core::KeyToPath> = serde_json::from_value(json!([{"key": "x", "path": "x"}])).unwrap();
        let empty = core::Secret::default();
        let run = |present: bool, optional: bool| {
            let mut files = Files::new();
            secret(&mut files, "s", present.then_some(&empty), Some(&items), 0o644, optional)
        };
        assert_eq!(run(false, false), Err("secret \"s\" not found".to_owned()));
        assert_eq!(run(true, false), Err("secret references non-existent config key: x".to_owned()));
        assert_eq!(run(true, true), Ok(()));
        assert_eq!(run(false, true), Ok(()));
    }
}
