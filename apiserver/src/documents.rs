//! Discovery and OpenAPI documents, built once and kept as bytes with their ETags.
//!
//! Custom resources will make them change; native kinds do not.

use bytes::Bytes;
use openapi::discovery::{self, Group};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::OnceLock;

/// A document and its ETag.
#[derive(Clone)]
pub struct Document {
    /// JSON.
    pub bytes: Bytes,
    /// Hexadecimal digest, upper case.
    pub etag: String,
}

impl Document {
    fn new(value: &Value) -> Document {
        let bytes = Bytes::from(value.to_string());
        let digest = Sha256::digest(&bytes);
        let etag = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Document { bytes, etag }
    }
}

/// Every document by path.
pub struct Documents {
    plain: HashMap<String, Document>,
    aggregated: HashMap<(&'static str, &'static str), Document>,
    openapi: OnceLock<OpenApi>,
    /// `/version`.
    pub version: Value,
}

/// OpenAPI, made at the first request for it.
struct OpenApi {
    v2: Document,
    v3: HashMap<String, Document>,
    index: Document,
}

impl OpenApi {
    fn new(version: &str) -> OpenApi {
        let (kinds, types) = (api::kinds::ALL, api::schema::native());
        let sentences = openapi::schemas::Sentences::of(kinds);
        let v3: HashMap<String, Document> = openapi::document::v3(kinds, types, &sentences, version)
            .into_iter()
            .map(|(name, value)| (name, Document::new(&value)))
            .collect();
        let paths: serde_json::Map<String, Value> = v3
            .iter()
            .map(|(name, document)| {
                let url = format!("/openapi/v3/{name}?hash={}", document.etag);
                (name.clone(), serde_json::json!({"serverRelativeURL": url}))
            })
            .collect();
        OpenApi {
            v2: Document::new(&openapi::document::v2(kinds, types, &sentences, version)),
            index: Document::new(&serde_json::json!({ "paths": paths })),
            v3,
        }
    }
}

impl Documents {
    /// Builds them from the table of kinds; `version` is the `gitVersion`.
    #[must_use]
    pub fn new(version: &str) -> Documents {
        let groups = discovery::groups(api::kinds::ALL);
        let mut plain = HashMap::new();
        plain.insert("/apis".to_owned(), Document::new(&discovery::group_list(&groups)));
        for group in &groups {
            Documents::add_group(&mut plain, group);
        }
        let mut aggregated = HashMap::new();
        for version in ["v2", "v2beta1"] {
            aggregated.insert(("/api", version), Document::new(&discovery::aggregated(&groups, true, version)));
            aggregated.insert(("/apis", version), Document::new(&discovery::aggregated(&groups, false, version)));
        }
        let (major, minor) = version.trim_start_matches('v').split_once('.').unwrap_or(("1", "36"));
        let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
        let version = serde_json::json!({
            "major": major, "minor": minor, "gitVersion": version, "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
            "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
            "emulationMajor": major, "emulationMinor": minor, "minCompatibilityMajor": major,
            "minCompatibilityMinor": minor,
        });
        Documents { plain, aggregated, openapi: OnceLock::new(), version }
    }

    fn add_group(plain: &mut HashMap<String, Document>, group: &Group) {
        let root = if group.name.is_empty() { "/api".to_owned() } else { format!("/apis/{}", group.name) };
        if !group.name.is_empty() {
            plain.insert(root.clone(), Document::new(&discovery::single_group(group)));
        }
        for (version, kinds) in &group.versions {
            let list = discovery::resource_list(group.name, version, kinds);
            plain.insert(format!("{root}/{version}"), Document::new(&list));
        }
    }

    /// An OpenAPI document by its path below `/openapi/`: `v2`, `v3`, `v3/apis/apps/v1`.
    #[must_use]
    pub fn openapi(&self, path: &str) -> Option<&Document> {
        let version = self.version.get("gitVersion").and_then(Value::as_str).unwrap_or_default();
        let documents = self.openapi.get_or_init(|| OpenApi::new(version));
        match path {
            "v2" => Some(&documents.v2),
            "v3" => Some(&documents.index),
            _ => documents.v3.get(path.strip_prefix("v3/")?),
        }
    }

    /// A discovery document in the old form.
    #[must_use]
    pub fn plain(&self, path: &str) -> Option<&Document> {
        self.plain.get(path)
    }

    /// The aggregated document for `/api` or `/apis`.
    #[must_use]
    pub fn aggregated(&self, path: &str, version: &str) -> Option<&Document> {
        self.aggregated.iter().find(|((at, v), _)| *at == path && *v == version).map(|(_, document)| document)
    }
}
