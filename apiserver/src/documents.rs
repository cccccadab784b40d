//! Discovery and OpenAPI documents, built once and kept as bytes with their ETags.
//!
//! Custom resources will make them change; native kinds do not. Never reads a request.

use api::kind::Kind;
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
    kinds: Vec<&'static Kind>,
    plain: HashMap<String, Document>,
    aggregated: HashMap<(&'static str, &'static str), Document>,
    v2: OnceLock<[Offer; 2]>,
    v3: OnceLock<HashMap<String, Offer>>,
    /// `/version`.
    pub version: Value,
}

/// One encoding of a document.
pub struct Offer {
    /// What `Accept` says to get it.
    accepted: &'static [&'static str],
    /// `Content-Type` of the answer.
    pub media: &'static str,
    /// The bytes; encodings of one document share its ETag.
    pub document: Document,
}

impl Offer {
    fn json(value: &Value) -> Offer {
        Offer { accepted: &["application/json"], media: "application/json", document: Document::new(value) }
    }
}

/// The JSON of the v2 document and its protobuf form, which kubectl asks for under an older name.
fn v2(kinds: &[&'static Kind], version: &str) -> [Offer; 2] {
    let types = api::schema::native();
    let value = openapi::document::v2(kinds, types, &openapi::schemas::Sentences::of(kinds), version);
    let json = Offer::json(&value);
    let bytes = Bytes::from(openapi::gnostic::encode(&value));
    let protobuf = Offer {
        accepted: &[openapi::gnostic::MEDIA_TYPE, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"],
        media: openapi::gnostic::MEDIA_TYPE,
        document: Document { bytes, etag: json.document.etag.clone() },
    };
    [json, protobuf]
}

/// The v3 documents, and under the empty name the index of them.
fn v3(kinds: &[&'static Kind], version: &str) -> HashMap<String, Offer> {
    let types = api::schema::native();
    let sentences = openapi::schemas::Sentences::of(kinds);
    let documents = openapi::document::v3(kinds, types, &sentences, version);
    let mut out: HashMap<String, Offer> =
        documents.into_iter().map(|(name, value)| (name, Offer::json(&value))).collect();
    let index: serde_json::Map<String, Value> = out
        .iter()
        .map(|(name, offer)| (name.clone(), serde_json::json!({"serverRelativeURL": v3_url(name, &offer.document)})))
        .collect();
    out.insert(String::new(), Offer::json(&serde_json::json!({ "paths": index })));
    out
}

/// Where a v3 document is found for good: the hash names its content.
#[must_use]
pub fn v3_url(name: &str, document: &Document) -> String {
    format!("/openapi/v3/{name}?hash={}", document.etag)
}

/// The offer that an `Accept` header prefers, by quality and then by order; `None` when none is acceptable.
#[must_use]
pub fn choose<'a>(offers: &'a [Offer], accept: Option<&str>) -> Option<&'a Offer> {
    let accept = accept.filter(|accept| !accept.trim().is_empty()).unwrap_or("*/*");
    let mut clauses: Vec<(f32, &str)> = accept
        .split(',')
        .map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q=")).and_then(|text| text.parse().ok());
            (quality.unwrap_or(1.0), media)
        })
        .collect();
    clauses.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    clauses.into_iter().filter(|(quality, _)| *quality > 0.0).find_map(|(_, media)| {
        let wanted = |offer: &&Offer| offer.accepted.contains(&media) || matches!(media, "*/*" | "application/*");
        offers.iter().find(wanted)
    })
}

impl Documents {
    /// Builds them from the kinds that are served; `version` is the `gitVersion`.
    #[must_use]
    pub fn new(kinds: &[&'static Kind], version: &str) -> Documents {
        let groups = discovery::groups(kinds);
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
        Documents { kinds: kinds.to_vec(), plain, aggregated, v2: OnceLock::new(), v3: OnceLock::new(), version }
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

    /// The encodings of an OpenAPI document by its path below `/openapi/`: `v2`, `v3`, `v3/apis/apps/v1`. Built when
    /// first asked for.
    #[must_use]
    pub fn openapi(&self, path: &str) -> Option<&[Offer]> {
        let version = self.version.get("gitVersion").and_then(Value::as_str).unwrap_or_default();
        let name = match path {
            "v2" => return Some(self.v2.get_or_init(|| v2(&self.kinds, version))),
            "v3" => "",
            _ => path.strip_prefix("v3/").filter(|name| !name.is_empty())?,
        };
        self.v3.get_or_init(|| v3(&self.kinds, version)).get(name).map(std::slice::from_ref)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_chosen_by_accept() {
        let documents = Documents::new(api::kinds::ALL, "v1.36.0");
        let offers = documents.openapi("v2").unwrap();
        let old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        let (json, protobuf) = (Some("application/json"), Some(openapi::gnostic::MEDIA_TYPE));
        for (accept, media) in [
            (None, json),
            (Some("*/*"), json),
            (Some(old), protobuf),
            (Some("application/json;q=0.5, application/com.github.proto-openapi.spec.v2.v1.0+protobuf"), protobuf),
            (Some("text/plain, application/json;q=0.1"), json),
            (Some("text/plain"), None),
            (Some("application/json;q=0"), None),
        ] {
            assert_eq!(choose(offers, accept).map(|offer| offer.media), media, "{accept:?}");
        }
        assert_eq!(choose(documents.openapi("v3/apis/apps/v1").unwrap(), Some(old)).map(|offer| offer.media), None);
        assert!(documents.openapi("v3/").is_none() && documents.openapi("v3/apis/none").is_none());
    }

    #[test]
    fn the_index_names_every_document_by_its_hash() {
        let documents = Documents::new(api::kinds::ALL, "v1.36.0");
        let index = &documents.openapi("v3").unwrap().first().unwrap().document;
        let index: Value = serde_json::from_slice(&index.bytes).unwrap();
        let paths = index["paths"].as_object().unwrap();
        for name in ["api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "version"] {
            let url = paths[name]["serverRelativeURL"].as_str().unwrap();
            let document = &documents.openapi(&format!("v3/{name}")).unwrap().first().unwrap().document;
            assert_eq!(url, v3_url(name, document));
        }
    }
}
