//! Discovery and OpenAPI documents, built when they are first asked for and kept as bytes with their ETags.
//!
//! Custom resources make new documents beside those of the native kinds, which are shared. Never reads a request.

use api::json::Value;
use api::kind::Kind;
use api::schema::native;
use bytes::Bytes;
use openapi::discovery::{self, Group};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

/// A document and its ETag.
#[derive(Clone)]
pub struct Document {
    /// JSON.
    pub bytes: Bytes,
    /// Hexadecimal digest, upper case.
    pub etag: String,
}

impl Document {
    /// A document of discovery: a line of JSON, fields in Go's order where there is a schema that knows it.
    pub(crate) fn discovery(value: &Value) -> Document {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
        let bytes = match native().schema(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")) {
            Some(schema) => api::codec::json::encode(value, schema),
            None => value.to_string().into_bytes(),
        };
        Document::of([bytes.as_slice(), b"\n"].concat().into())
    }

    pub(crate) fn new(value: &Value) -> Document {
        Document::of(value.to_string().into())
    }

    fn of(bytes: Bytes) -> Document {
        let digest = Sha256::digest(&bytes);
        let etag = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Document { bytes, etag }
    }
}

/// Every document by path.
pub struct Documents {
    native: Arc<Native>,
    /// Kinds of custom resource definitions.
    custom: Vec<&'static Kind>,
    plain: OnceLock<HashMap<String, Document>>,
    aggregated: OnceLock<HashMap<(&'static str, &'static str), Document>>,
    v2: OnceLock<[Form; 2]>,
    index: OnceLock<Form>,
    /// By path below `/openapi/v3/`. Those of definitions that did not change are kept from before.
    v3: HashMap<String, Arc<Described>>,
    /// `/version`.
    pub version: Value,
}

/// What native kinds give: built once.
struct Native {
    kinds: Vec<&'static Kind>,
    v2: OnceLock<(Value, [Form; 2])>,
    v3: OnceLock<HashMap<String, Form>>,
}

/// The v3 document of a version of a group of custom resources.
struct Described {
    kinds: Vec<&'static Kind>,
    /// Of what the document is made from, so that the index needs no documents.
    etag: String,
    form: OnceLock<Form>,
}

/// One encoding of a document.
pub struct Form {
    /// What `Accept` says to get it.
    accepted: &'static [&'static str],
    /// `Content-Type` of the answer.
    pub media: &'static str,
    /// The bytes; encodings of one document share its ETag.
    pub document: Document,
}

impl Form {
    fn json(value: &Value) -> Form {
        Form { accepted: &["application/json"], media: "application/json", document: Document::new(value) }
    }
}

/// The JSON of the v2 document and its protobuf form, which kubectl asks for under an older name.
pub(crate) fn v2(value: &Value) -> [Form; 2] {
    let json = Form::json(value);
    let bytes = Bytes::from(openapi::gnostic::encode(value));
    let protobuf = Form {
        accepted: &[openapi::gnostic::MEDIA_TYPE, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"],
        media: openapi::gnostic::MEDIA_TYPE,
        document: Document { bytes, etag: json.document.etag.clone() },
    };
    [json, protobuf]
}

impl Native {
    fn v2(&self, version: &str) -> &(Value, [Form; 2]) {
        self.v2.get_or_init(|| {
            let sentences = openapi::schemas::Sentences::of(&self.kinds);
            let value = openapi::document::v2(&self.kinds, native(), &sentences, version);
            let forms = v2(&value);
            (value, forms)
        })
    }

    fn v3(&self, version: &str) -> &HashMap<String, Form> {
        self.v3.get_or_init(|| {
            let sentences = openapi::schemas::Sentences::of(&self.kinds);
            let documents = openapi::document::v3(&self.kinds, native(), &sentences, version);
            documents.into_iter().map(|(name, value)| (name, Form::json(&value))).collect()
        })
    }
}

impl Described {
    fn new(kinds: Vec<&'static Kind>, version: &str) -> Described {
        let mut digest = Sha256::new();
        digest.update(version);
        for kind in &kinds {
            digest.update(format!("\0{}\0{}\0{}\0", kind.plural, kind.kind, kind.namespaced));
            for part in kind.subresources {
                digest.update(part.name);
            }
            if let Some(custom) = kind.custom {
                digest.update(custom.text());
            }
        }
        let etag = digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
        Described { kinds, etag, form: OnceLock::new() }
    }

    fn form(&self, version: &str) -> &Form {
        self.form.get_or_init(|| {
            let mut form = Form::json(&openapi::custom::v3(&self.kinds, version));
            form.document.etag.clone_from(&self.etag);
            form
        })
    }

    fn same(&self, kinds: &[&'static Kind]) -> bool {
        self.kinds.len() == kinds.len() && self.kinds.iter().zip(kinds).all(|(a, b)| std::ptr::eq(*a, *b))
    }
}

/// Where a v3 document is found for good: the hash names its content.
#[must_use]
pub(crate) fn v3_url(name: &str, etag: &str) -> String {
    format!("/openapi/v3/{name}?hash={etag}")
}

/// The offer that an `Accept` header prefers, by quality and then by order; `None` when none is acceptable.
#[must_use]
pub(crate) fn choose<'a>(offers: &'a [Form], accept: Option<&str>) -> Option<&'a Form> {
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
        let wanted = |offer: &&Form| offer.accepted.contains(&media) || matches!(media, "*/*" | "application/*");
        offers.iter().find(wanted)
    })
}

impl Documents {
    /// Of the native kinds that are served; `version` is the `gitVersion`.
    #[must_use]
    pub fn new(kinds: &[&'static Kind], version: &str) -> Documents {
        let native = Native { kinds: kinds.to_vec(), v2: OnceLock::new(), v3: OnceLock::new() };
        let (major, minor) = version.trim_start_matches('v').split_once('.').unwrap_or(("1", "36"));
        let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
        let version = api::json::json!({
            "major": major, "minor": minor, "gitVersion": version, "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
            "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
            "emulationMajor": major, "emulationMinor": minor, "minCompatibilityMajor": major,
            "minCompatibilityMinor": minor,
        });
        Documents::of(Arc::new(native), Vec::new(), HashMap::new(), version)
    }

    fn of(
        native: Arc<Native>,
        custom: Vec<&'static Kind>,
        v3: HashMap<String, Arc<Described>>,
        version: Value,
    ) -> Documents {
        Documents {
            native,
            custom,
            plain: OnceLock::new(),
            aggregated: OnceLock::new(),
            v2: OnceLock::new(),
            index: OnceLock::new(),
            v3,
            version,
        }
    }

    /// The same with these custom kinds in place of those that were there.
    #[must_use]
    pub fn with(&self, custom: &[&'static Kind]) -> Documents {
        let mut versions: BTreeMap<String, Vec<&'static Kind>> = BTreeMap::new();
        for kind in custom {
            versions.entry(format!("apis/{}/{}", kind.group, kind.version)).or_default().push(*kind);
        }
        let described = versions.into_iter().map(|(name, kinds)| {
            let before = self.v3.get(&name).filter(|before| before.same(&kinds)).cloned();
            let described = before.unwrap_or_else(|| Arc::new(Described::new(kinds, self.git_version())));
            (name, described)
        });
        Documents::of(Arc::clone(&self.native), custom.to_vec(), described.collect(), self.version.clone())
    }

    fn git_version(&self) -> &str {
        self.version.get("gitVersion").and_then(Value::as_str).unwrap_or_default()
    }

    fn groups(&self) -> Vec<Group> {
        let all: Vec<&'static Kind> = self.native.kinds.iter().chain(&self.custom).copied().collect();
        discovery::groups(&all)
    }

    fn plain_documents(&self) -> &HashMap<String, Document> {
        self.plain.get_or_init(|| {
            let groups = self.groups();
            let mut plain = HashMap::new();
            plain.insert("/apis".to_owned(), Document::discovery(&discovery::group_list(&groups)));
            for group in &groups {
                Documents::add_group(&mut plain, group);
            }
            plain
        })
    }

    fn aggregated_documents(&self) -> &HashMap<(&'static str, &'static str), Document> {
        self.aggregated.get_or_init(|| {
            let groups = self.groups();
            let mut aggregated = HashMap::new();
            for version in ["v2", "v2beta1"] {
                aggregated
                    .insert(("/api", version), Document::discovery(&discovery::aggregated(&groups, true, version)));
                aggregated
                    .insert(("/apis", version), Document::discovery(&discovery::aggregated(&groups, false, version)));
            }
            aggregated
        })
    }

    fn v2_document(&self) -> &[Form; 2] {
        let native = self.native.v2(self.git_version());
        if self.custom.is_empty() {
            return &native.1;
        }
        self.v2.get_or_init(|| {
            let mut value = native.0.clone();
            openapi::custom::add_v2(&mut value, &self.custom);
            v2(&value)
        })
    }

    /// The index of the v3 documents.
    fn v3_index(&self) -> &Form {
        self.index.get_or_init(|| {
            let native = self.native.v3(self.git_version()).iter().map(|(name, form)| (name, &form.document.etag));
            let custom = self.v3.iter().map(|(name, described)| (name, &described.etag));
            let index: api::json::Map = native
                .chain(custom)
                .map(|(name, etag)| (name.clone(), api::json::json!({"serverRelativeURL": v3_url(name, etag)})))
                .collect();
            Form::json(&api::json::json!({ "paths": index }))
        })
    }

    fn add_group(plain: &mut HashMap<String, Document>, group: &Group) {
        let root = if group.name.is_empty() { "/api".to_owned() } else { format!("/apis/{}", group.name) };
        if !group.name.is_empty() {
            plain.insert(root.clone(), Document::discovery(&discovery::single_group(group)));
        }
        for (version, kinds) in &group.versions {
            let list = discovery::resource_list(group.name, version, kinds);
            plain.insert(format!("{root}/{version}"), Document::discovery(&list));
        }
    }

    /// The encodings of an OpenAPI document by its path below `/openapi/`: `v2`, `v3`, `v3/apis/apps/v1`. Built when
    /// first asked for.
    #[must_use]
    pub fn openapi(&self, path: &str) -> Option<&[Form]> {
        let name = match path {
            "v2" => return Some(self.v2_document()),
            "v3" => return Some(std::slice::from_ref(self.v3_index())),
            _ => path.strip_prefix("v3/").filter(|name| !name.is_empty())?,
        };
        let form = match self.v3.get(name) {
            Some(described) => described.form(self.git_version()),
            None => self.native.v3(self.git_version()).get(name)?,
        };
        Some(std::slice::from_ref(form))
    }

    /// A discovery document in the old form.
    #[must_use]
    pub fn plain(&self, path: &str) -> Option<&Document> {
        self.plain_documents().get(path)
    }

    /// The aggregated document for `/api` or `/apis`.
    #[must_use]
    pub fn aggregated(&self, path: &str, version: &str) -> Option<&Document> {
        let mut all = self.aggregated_documents().iter();
        all.find(|((at, v), _)| *at == path && *v == version).map(|(_, document)| document)
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
        let index: Value = api::json::from_slice(&index.bytes).unwrap();
        let paths = index["paths"].as_object().unwrap();
        for name in ["api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "version"] {
            let url = paths[name]["serverRelativeURL"].as_str().unwrap();
            let document = &documents.openapi(&format!("v3/{name}")).unwrap().first().unwrap().document;
            assert_eq!(url, v3_url(name, &document.etag));
        }
    }
}
