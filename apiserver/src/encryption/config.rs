//! The file of `--encryption-provider-config`: `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`, read strictly.
//!
//! Never judges what the fields say; `validate.rs` does. Source: upstream's "Encrypting Confidential Data at Rest".

use api::codec::{Strictness, yaml};
use api::json::Value;
use api::schema::{Field, ListKind, PatchStrategy, Shape, TypeDef, TypeId, Types};
use std::sync::LazyLock;

/// Group and version of the file.
const API_VERSION: &str = "apiserver.config.k8s.io/v1";
const KIND: &str = "EncryptionConfiguration";

/// What the file says, with upstream's defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    pub(crate) resources: Vec<Resources>,
}

/// One entry of `resources`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resources {
    /// `secrets`, `deployments.apps`, `*.apps`, `*.`, `*.*`.
    pub(crate) resources: Vec<String>,
    pub(crate) providers: Vec<Provider>,
}

/// One entry of `providers`; a valid one has exactly one field set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Provider {
    pub(crate) aesgcm: Option<Vec<Key>>,
    pub(crate) aescbc: Option<Vec<Key>>,
    pub(crate) secretbox: Option<Vec<Key>>,
    pub(crate) identity: bool,
    pub(crate) kms: Option<Kms>,
}

/// A named key.
#[derive(Clone, Default)]
pub(crate) struct Key {
    pub(crate) name: String,
    /// Base64.
    pub(crate) secret: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?}, REDACTED)", self.name)
    }
}

/// A key service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kms {
    /// `v1` unless said otherwise.
    pub(crate) api_version: String,
    pub(crate) name: String,
    pub(crate) endpoint: String,
    /// Nanoseconds; three seconds unless said otherwise.
    pub(crate) timeout: i64,
    pub(crate) cache_size: Option<i64>,
}

/// Three seconds.
const TIMEOUT: i64 = 3_000_000_000;
/// Of `v1` alone.
const CACHE_SIZE: i64 = 1000;

/// Reads the bytes of the file.
///
/// # Errors
/// One sentence that follows "error decoding encryption provider configuration file".
pub(crate) fn parse(text: &[u8]) -> Result<Configuration, String> {
    // What the file is comes first: fields of another kind are not worth naming.
    let given = yaml::parse(text).map_err(|error| error.to_string())?;
    let (version, kind) = (api::value::text(&given, "apiVersion"), api::value::text(&given, "kind"));
    if kind.is_empty() {
        return Err("Object 'Kind' is missing".to_owned());
    }
    if version != API_VERSION || kind != KIND {
        return Err(format!(
            "no kind {kind:?} is registered for version {version:?}, expected {KIND} of {API_VERSION}"
        ));
    }
    let schema = SCHEMA.schema(KIND).ok_or("the schema of the file is missing")?;
    let decoded = yaml::decode(text, schema, Strictness::Strict).map_err(|error| error.to_string())?;
    let resources = list(&decoded.value, "resources")
        .map(|entry| {
            Ok(Resources {
                resources: list(entry, "resources").filter_map(Value::as_str).map(str::to_owned).collect(),
                providers: list(entry, "providers").map(provider).collect::<Result<_, String>>()?,
            })
        })
        .collect::<Result<_, String>>()?;
    Ok(Configuration { resources })
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn provider(entry: &Value) -> Result<Provider, String> {
    let keys = |field: &str| {
        let given = entry.get(field).filter(|given| !given.is_null())?;
        Some(
            list(given, "keys")
                .map(|key| Key {
                    name: api::value::text(key, "name").to_owned(),
                    secret: api::value::text(key, "secret").to_owned(),
                })
                .collect(),
        )
    };
    let kms = entry.get("kms").filter(|given| !given.is_null()).map(|kms| {
        let text = |field: &str| api::value::text(kms, field).to_owned();
        let api_version = match text("apiVersion") {
            none if none.is_empty() => "v1".to_owned(),
            given => given,
        };
        let cache_size = kms.get("cachesize").and_then(Value::as_i64);
        let timeout = kms.get("timeout").and_then(Value::as_str).map_or(Ok(TIMEOUT), nanoseconds)?;
        Ok::<_, String>(Kms {
            name: text("name"),
            endpoint: text("endpoint"),
            timeout,
            cache_size: cache_size.or_else(|| (api_version == "v1").then_some(CACHE_SIZE)),
            api_version,
        })
    });
    Ok(Provider {
        aesgcm: keys("aesgcm"),
        aescbc: keys("aescbc"),
        secretbox: keys("secretbox"),
        identity: entry.get("identity").is_some_and(|given| !given.is_null()),
        kms: kms.transpose()?,
    })
}

/// A duration as Go writes it, such as `1m30.5s`, in nanoseconds.
pub(crate) fn nanoseconds(text: &str) -> Result<i64, String> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let invalid = || format!("time: invalid duration {text:?}");
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let digit = |c: char| c.is_ascii_digit() || c == '.';
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c| !digit(c)).ok_or_else(invalid)?);
        let (unit, tail) = tail.split_at(tail.find(digit).unwrap_or(tail.len()));
        let scale = match unit {
            "h" => 3.6e12,
            "m" => 6e10,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" | "μs" => 1e3,
            "ns" => 1.0,
            _ => return Err(invalid()),
        };
        total += number.parse::<f64>().map_err(|_| invalid())? * scale;
        rest = tail;
    }
    // Saturates; a timeout of centuries is as good as any other.
    let total = total as i64;
    Ok(if negative { -total } else { total })
}

/// The schema of the file.
static SCHEMA: LazyLock<Types> = LazyLock::new(|| {
    let mut types = Types::default();
    let key = add(&mut types, "Key", vec![field("name", Shape::String), field("secret", Shape::String)]);
    let keys = field("keys", many(Shape::Struct(key)));
    let ciphers = add(&mut types, "Keys", vec![keys]);
    let identity = add(&mut types, "Identity", Vec::new());
    let kms = add(
        &mut types,
        "KMS",
        vec![
            field("apiVersion", Shape::String),
            field("name", Shape::String),
            field("cachesize", Shape::Int32),
            field("endpoint", Shape::String),
            field("timeout", Shape::Duration),
        ],
    );
    let provider = add(
        &mut types,
        "Provider",
        vec![
            field("aesgcm", Shape::Struct(ciphers)),
            field("aescbc", Shape::Struct(ciphers)),
            field("secretbox", Shape::Struct(ciphers)),
            field("identity", Shape::Struct(identity)),
            field("kms", Shape::Struct(kms)),
        ],
    );
    let resources = add(
        &mut types,
        "Resources",
        vec![field("resources", many(Shape::String)), field("providers", many(Shape::Struct(provider)))],
    );
    add(
        &mut types,
        KIND,
        vec![
            field("kind", Shape::String),
            field("apiVersion", Shape::String),
            field("resources", many(Shape::Struct(resources))),
        ],
    );
    types
});

fn add(types: &mut Types, name: &str, fields: Vec<Field>) -> TypeId {
    let by_name = fields.iter().enumerate().map(|(at, field)| (field.name.clone(), at)).collect();
    types.add(TypeDef {
        name: name.into(),
        gvks: Vec::new(),
        fields,
        atomic: false,
        preserve_unknown: false,
        free: !name.starts_with("io.k8s."),
        by_name,
    })
}

fn many(items: Shape) -> Shape {
    Shape::List { items: Box::new(items), kind: ListKind::Atomic }
}

fn field(name: &str, shape: Shape) -> Field {
    Field {
        name: name.into(),
        number: 0,
        shape,
        required: false,
        omit_empty: true,
        pointer: true,
        patch: PatchStrategy::default(),
        atomic: false,
        default: None,
        allowed: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_strictly() {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";
        let check = |body: &str, words: &[&str]| {
            let said = parse(body.as_bytes()).expect_err(body);
            for word in words {
                assert!(said.contains(word), "{body}: no {word:?} in {said:?}");
            }
        };
        check("resources: []\n", &["Object 'Kind' is missing"]);
        check("apiVersion: v1\nkind: Pod\n", &["\"Pod\"", "\"v1\""]);
        check(&format!("{head}resourcesX: []\n"), &["strict decoding error", "unknown field \"resourcesX\""]);
        check(&format!("{head}resources:\n- provider: []\n"), &["unknown field \"resources[0].provider\""]);
        check(
            &format!("{head}resources:\n- providers:\n  - aescbc: {{keys: [{{name: a, secrets: b}}]}}\n"),
            &["unknown field \"resources[0].providers[0].aescbc.keys[0].secrets\""],
        );
        check(&format!("{head}resources: []\nresources: []\n"), &["strict decoding error", "already set"]);
        check(&format!("{head}resources:\n- providers:\n  - kms: {{timeout: soon}}\n"), &["soon"]);
        check("{", &["yaml"]);
    }

    #[test]
    fn defaults_are_upstreams() {
        let text = r"
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, '*.apps']
  providers:
  - kms: {name: a, endpoint: 'unix:///a'}
  - kms: {apiVersion: v2, name: b, endpoint: 'unix:///b', timeout: 1m0.5s}
  - aescbc: {keys: [{name: k, secret: c2VjcmV0}]}
  - aesgcm: {}
  - identity: {}
";
        let configuration = parse(text.as_bytes()).unwrap();
        let [entry] = &configuration.resources[..] else { panic!("{configuration:?}") };
        assert_eq!(entry.resources, ["secrets", "*.apps"]);
        let kms: Vec<_> = entry.providers.iter().filter_map(|p| p.kms.as_ref()).collect();
        assert_eq!((kms[0].api_version.as_str(), kms[0].timeout, kms[0].cache_size), ("v1", TIMEOUT, Some(1000)));
        assert_eq!((kms[1].api_version.as_str(), kms[1].timeout, kms[1].cache_size), ("v2", 60_500_000_000, None));
        assert!(entry.providers[2].aescbc.as_ref().is_some_and(|keys| keys[0].name == "k"));
        assert!(entry.providers[3].aesgcm.as_ref().is_some_and(Vec::is_empty) && entry.providers[4].identity);
        assert!(!format!("{configuration:?}").contains("c2VjcmV0"), "keys are not for logs");
    }

    #[test]
    fn durations_are_nanoseconds() {
        for (text, nanos) in
            [("3s", TIMEOUT), ("-1s", -1_000_000_000), ("1h2m3s", 3_723_000_000_000), ("250ms", 250_000_000), ("0s", 0)]
        {
            assert_eq!(nanoseconds(text), Ok(nanos), "{text}");
        }
    }
}
