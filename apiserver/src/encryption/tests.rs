//! What was sealed by upstream opens here, what the file says is what happens, and key services may come, go and change their keys.
//!
//! `vectors.json` was written by upstream's own packages (`apiserver/pkg/storage/value/encrypt` of v1.36), secrets included.

use super::ciphers::Cipher;
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use storage::clock::ManualClock;
use storage::kv::{Kv, RangeRead, Read};
use storage::sim::{Faults, Sim};
use storage::store::{Commit, Expect, Op, Store};

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";
/// 32 bytes each.
const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const TWO: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn secret(name: &str) -> Key {
    Key::new("secrets", "default", name)
}

/// A configuration for secrets with these providers, as the file that a server has read.
struct File {
    directory: tempfile::TempDir,
    stop: CancellationToken,
}

impl File {
    fn new() -> File {
        File { directory: tempfile::tempdir().unwrap(), stop: CancellationToken::new() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("encryption.yaml")
    }

    fn write(&self, resources: &str, providers: &[String]) {
        let mut text = format!("{HEAD}resources:\n- resources: [{resources}]\n  providers:\n");
        for provider in providers {
            text.push_str(&format!("  - {provider}\n"));
        }
        std::fs::write(self.path(), text).unwrap();
    }

    async fn load(&self, providers: &[String]) -> Arc<Encryption> {
        self.write("secrets", providers);
        Encryption::load(&self.path(), false, &self.stop).await.unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// `aescbc: {keys: [...]}` with these names, each with its secret.
fn keys(cipher: &str, keys: &[(&str, &str)]) -> String {
    let keys: Vec<String> = keys.iter().map(|(name, secret)| format!("{{name: {name}, secret: '{secret}'}}")).collect();
    format!("{cipher}: {{keys: [{}]}}", keys.join(", "))
}

fn identity() -> String {
    "identity: {}".to_owned()
}

/// Opens, asking key services if need be.
async fn open(encryption: &Encryption, key: &Key, stored: &Bytes) -> Result<Opened, String> {
    for _ in 0..2 {
        match encryption.open(key, stored) {
            Ok(opened) => return Ok(opened),
            Err(OpenError::Failed(why)) => return Err(why),
            Err(OpenError::Locked) => encryption.unlock(key, stored).await?,
        }
    }
    Err("locked".to_owned())
}

#[derive(Deserialize)]
struct Vector {
    provider: String,
    secret: String,
    context: String,
    plain: String,
    stored: String,
}

fn vectors() -> Vec<Vector> {
    api::json::from_str(include_str!("vectors.json")).unwrap()
}

fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

#[tokio::test]
async fn what_upstream_sealed_opens() {
    let file = File::new();
    let mut seen = std::collections::BTreeSet::new();
    for (number, vector) in vectors().iter().enumerate() {
        let stored = Bytes::from(decode(&vector.stored));
        assert_eq!(vector.context, "/registry/secrets/default/db");
        seen.insert(vector.provider.clone());
        let plain: Bytes = if vector.provider == "kms" {
            // The key service that wrapped this seed was one line of a test; its answer is in the vector.
            let object = envelope::decode(&stored.slice("k8s:enc:kms:v2:vault:".len()..)).unwrap();
            assert_eq!((object.key_id.as_str(), &object.encrypted_dek_source[..]), ("kek-1", &b"wrapped"[..]));
            let seed = decode(&vector.secret);
            let cipher = match object.encrypted_dek_source_type() {
                envelope::SourceType::AesGcmKey => Cipher::gcm(&seed),
                envelope::SourceType::HkdfSha256XnonceAesGcmSeed => Cipher::extended(&seed),
            };
            cipher.unwrap().open(vector.context.as_bytes(), &object.encrypted_data).unwrap().into()
        } else if vector.provider == "aescbc" && !decode(&vector.plain).starts_with(b"{") {
            // No object, which is how the provider tells noise; the cipher knows nothing of that.
            let sealed = stored.strip_prefix(b"k8s:enc:aescbc:v1:key1:").unwrap();
            Cipher::cbc(&decode(&vector.secret)).unwrap().open(b"", sealed).unwrap().into()
        } else {
            let encryption = file.load(&[keys(&vector.provider, &[("key1", &vector.secret)])]).await;
            let opened = open(&encryption, &secret("db"), &stored).await.unwrap();
            assert!(!opened.stale);
            let ours = encryption.seal(&secret("db"), &opened.plain).unwrap();
            assert_eq!(ours.len(), stored.len(), "{} {number}: the same layout", vector.provider);
            opened.plain
        };
        assert_eq!(plain, decode(&vector.plain), "{} {number}", vector.provider);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["aescbc", "aesgcm", "kms", "secretbox"]);
}

#[test]
fn sealed_bytes_open_as_they_were_and_not_otherwise() {
    let key = [7_u8; 32];
    let make = |name: &str, key: &[u8]| match name {
        "aescbc" => Cipher::cbc(key),
        "aesgcm" => Cipher::gcm(key),
        "secretbox" => Cipher::secretbox(key),
        _ => Cipher::extended(key),
    };
    // CBC notices damage only by its padding, and neither it nor secretbox knows where an object lies.
    for (name, authentic, placed) in
        [("aescbc", false, false), ("aesgcm", true, true), ("secretbox", true, false), ("extended", true, true)]
    {
        let cipher = make(name, &key).unwrap();
        for len in [0, 1, 15, 16, 17, 1000, 100_000] {
            let plain: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut sealed = Vec::new();
            cipher.seal(b"/a", &plain, &mut sealed).unwrap();
            assert_eq!(cipher.open(b"/a", &sealed).as_deref(), Ok(&plain[..]), "{name} {len}");
            assert_eq!(cipher.open(b"/b", &sealed).is_ok(), !placed, "{name} elsewhere");
            assert_ne!(make(name, &[8; 32]).unwrap().open(b"/a", &sealed).as_deref(), Ok(&plain[..]), "{name}");
            let mut again = Vec::new();
            cipher.seal(b"/a", &plain, &mut again).unwrap();
            assert_ne!(again, sealed, "{name}: nothing is sealed twice alike");
            for at in [0, sealed.len() / 2, sealed.len() - 1] {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                let opened = cipher.open(b"/a", &damaged);
                assert!(if authentic { opened.is_err() } else { opened.as_deref() != Ok(&plain[..]) }, "{name} {len}");
            }
            for short in [0, 1, 12, 20] {
                assert!(cipher.open(b"/a", &sealed[..short.min(sealed.len() - 1)]).is_err(), "{name} {len} {short}");
            }
        }
    }
    for (name, lengths) in
        [("aescbc", &[16, 24, 32][..]), ("aesgcm", &[16, 24, 32]), ("secretbox", &[32]), ("extended", &[32, 40])]
    {
        for len in [0, 15, 16, 24, 31, 32, 40] {
            assert_eq!(make(name, &vec![0; len]).is_ok(), lengths.contains(&len), "{name} {len}");
        }
    }
}

/// The steps of upstream's guide to rotating a key, and of turning encryption on and off.
#[tokio::test]
async fn keys_rotate_as_upstreams_guide_says() {
    let file = File::new();
    for cipher in ["aescbc", "aesgcm", "secretbox"] {
        let steps = [
            (vec![identity()], "{"),
            (vec![keys(cipher, &[("key1", ONE)]), identity()], "key1"),
            (vec![keys(cipher, &[("key1", ONE), ("key2", TWO)]), identity()], "key1"),
            (vec![keys(cipher, &[("key2", TWO), ("key1", ONE)]), identity()], "key2"),
            (vec![keys(cipher, &[("key2", TWO)])], "key2"),
            (vec![keys(cipher, &[("key3", ONE)]), keys(cipher, &[("key2", TWO)])], "key3"),
            (vec![identity(), keys(cipher, &[("key3", ONE)])], "{"),
        ];
        let plain = Bytes::from_static(b"{\"kind\":\"Secret\"}");
        let mut stored: Option<Bytes> = None;
        let mut form = String::new();
        for (step, (providers, name)) in steps.iter().enumerate() {
            let encryption = file.load(providers).await;
            if let Some(stored) = &stored {
                let opened = open(&encryption, &secret("a"), stored).await.unwrap();
                let changed = form != *name;
                assert_eq!((opened.plain, opened.stale), (plain.clone(), changed), "{cipher} step {step}");
            }
            let sealed = encryption.seal(&secret("a"), &plain).unwrap();
            let head = if *name == "{" { "{".to_owned() } else { format!("k8s:enc:{cipher}:v1:{name}:") };
            assert!(sealed.starts_with(head.as_bytes()), "{cipher} step {step}: {sealed:?}");
            stored = Some(sealed);
            form = (*name).to_owned();
        }
    }
}

#[tokio::test]
async fn what_does_not_open_says_why() {
    let file = File::new();
    let one = file.load(&[keys("aesgcm", &[("key1", ONE)])]).await;
    let sealed = one.seal(&secret("a"), &Bytes::from_static(b"{}")).unwrap();
    for (providers, why) in [
        (vec![identity()], "no matching prefix found"),
        (vec![keys("aescbc", &[("key1", ONE)])], "no matching prefix found"),
        (vec![keys("aesgcm", &[("key2", ONE)])], "no matching key was found for the provided AES transformer"),
        (vec![keys("aesgcm", &[("key1", TWO)])], "cipher: message authentication failed"),
        (
            vec![keys("aesgcm", &[("key1", TWO), ("key1", TWO)])],
            "[cipher: message authentication failed, cipher: message authentication failed]",
        ),
    ] {
        let encryption = file.load(&providers).await;
        assert_eq!(open(&encryption, &secret("a"), &sealed).await, Err(why.to_owned()), "{providers:?}");
    }
    assert_eq!(open(&one, &secret("b"), &sealed).await, Err("cipher: message authentication failed".to_owned()));
    let silent = "identity transformer tried to read encrypted data";
    assert_eq!(open(&Encryption::none(), &secret("a"), &sealed).await, Err(silent.to_owned()));
    let elsewhere = Key::new("configmaps", "default", "a");
    assert_eq!(open(&one, &elsewhere, &sealed).await, Err(silent.to_owned()));
    assert_eq!(one.seal(&elsewhere, &Bytes::from_static(b"{}")).unwrap(), "{}");
}

#[tokio::test]
async fn noise_is_no_object() {
    let file = File::new();
    let right = file.load(&[keys("aescbc", &[("key1", ONE)])]).await;
    let wrong = file.load(&[keys("aescbc", &[("key1", TWO)]), identity()]).await;
    let padded = "invalid PKCS7 data (empty or not padded)";
    // One in 256 seems well padded under the wrong key.
    let noise = (0..20_000).find_map(|_| {
        let sealed = right.seal(&secret("a"), &Bytes::from_static(b"{\"kind\":\"Secret\"}")).unwrap();
        match wrong.open(&secret("a"), &sealed) {
            Err(OpenError::Failed(said)) if said == padded => None,
            outcome => Some(outcome),
        }
    });
    let Some(Err(OpenError::Failed(said))) = noise else { panic!("{noise:?}") };
    assert!(said.starts_with("couldn't get version/kind; json parse error: "), "{said}");
}

#[test]
fn a_bad_configuration_is_refused_in_upstreams_words() {
    let check = |reload: bool, body: &str, want: &[&str]| {
        let configuration = config::parse(format!("{HEAD}{body}").as_bytes()).expect(body);
        let said: Vec<_> = validate::validate(&configuration, reload).iter().map(ToString::to_string).collect();
        assert_eq!(said, want, "{body}");
    };
    let resources = |names: &str, want: &[&str]| {
        check(false, &format!("resources: [{{resources: [{names}], providers: [{{identity: {{}}}}]}}]"), want);
    };
    let providers = |reload: bool, providers: &str, want: &[&str]| {
        check(reload, &format!("resources: [{{resources: [secrets], providers: [{providers}]}}]"), want);
    };
    check(false, "", &["resources: Required value: at least one resources is required"]);
    check(
        false,
        "resources: [{}]",
        &[
            "resources[0].resources: Required value: at least one resources[0].resources is required",
            "resources[0].providers: Required value: at least one resources[0].providers is required",
        ],
    );
    for fine in ["secrets", "secrets, configmaps", "'*.apps', secrets", "'*.'", "'*.*'", "secrets, events"] {
        resources(fine, &[]);
    }
    resources(
        "secrets, secrets",
        &[
            r#"resources[0].resources: Invalid value: ["secrets","secrets"]: the same resource cannot be specified multiple times"#,
        ],
    );
    for (names, shown) in [
        ("'*.', secrets", r#"["*.","secrets"]"#),
        ("'*.*', secrets", r#"["*.*","secrets"]"#),
        ("'*.apps', deployments.apps", r#"["*.apps","deployments.apps"]"#),
    ] {
        let why = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";
        resources(names, &[&format!("resources[0].resources: Invalid value: {shown}: {why}")]);
    }
    for (name, why) in [
        ("Secrets", "resource name should not contain capital letters"),
        ("*", "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"),
        ("serviceipallocations", "resources which do not have REST API/s cannot be encrypted"),
        (
            "events.events.k8s.io",
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        ),
        ("*.extensions", "'extensions' group has been removed and cannot be used for encryption"),
        ("secrets.*", "encrypting the same resource across groups is not supported"),
    ] {
        resources(&format!("'{name}'"), &[&format!("resources[0].resources[0]: Invalid value: \"{name}\": {why}")]);
    }
    let at = "resources[0].providers[0]";
    providers(
        false,
        "{}",
        &[&format!(
            "{at}: Invalid value: \"REDACTED\": provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity"
        )],
    );
    providers(
        false,
        &format!("{{identity: {{}}, aescbc: {{keys: [{{name: a, secret: '{ONE}'}}]}}}}"),
        &[&format!(
            "{at}: Invalid value: \"REDACTED\": more than one provider specified in a single element, should split into different list elements"
        )],
    );
    for cipher in ["aesgcm", "aescbc", "secretbox"] {
        let keys = format!("{at}.{cipher}.keys");
        providers(
            false,
            &format!("{{{cipher}: {{}}}}"),
            &[&format!("{keys}: Required value: at least one keys is required")],
        );
        let expected = if cipher == "secretbox" { "[32]" } else { "[16 24 32]" };
        for (key, want) in [
            (format!("{{name: a, secret: '{ONE}'}}"), vec![]),
            (
                format!("{{secret: '{ONE}'}}"),
                vec![format!("{keys}[0].name: Required value: name is a mandatory field for a key")],
            ),
            (
                "{name: a}".to_owned(),
                vec![format!("{keys}[0].secret: Required value: secret is a mandatory field for a key")],
            ),
            (
                "{name: a, secret: '!'}".to_owned(),
                vec![format!("{keys}[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded")],
            ),
            (
                "{name: a, secret: AAAA}".to_owned(),
                vec![format!(
                    "{keys}[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 3, expected one of {expected}"
                )],
            ),
        ] {
            let want: Vec<&str> = want.iter().map(String::as_str).collect();
            providers(false, &format!("{{{cipher}: {{keys: [{key}]}}}}"), &want);
        }
    }
    let kms = |reload: bool, fields: &[&str], want: &[&str]| {
        let entries: Vec<_> = fields.iter().map(|fields| format!("{{kms: {{{fields}}}}}")).collect();
        providers(reload, &entries.join(", "), want);
    };
    let fine = "apiVersion: v2, name: a, endpoint: 'unix:///a'";
    kms(true, &[fine], &[]);
    let at = "resources[0].providers[0].kms";
    kms(
        false,
        &["apiVersion: v2, endpoint: 'unix:///a'"],
        &[&format!("{at}.name: Required value: name is a mandatory field for a provider")],
    );
    kms(
        false,
        &["apiVersion: v2, name: 'a:b', endpoint: 'unix:///a'"],
        &[&format!("{at}.name: Invalid value: \"a:b\": invalid KMS provider name a:b, must not contain ':'")],
    );
    let twice =
        "resources[0].providers[1].kms.name: Invalid value: \"a\": duplicate KMS provider name a, names must be unique";
    kms(false, &[fine, fine], &[twice]);
    let old = "name: a, endpoint: 'unix:///a'";
    kms(false, &[old, old], &[]);
    kms(true, &[old, old], &[twice]);
    for (more, want) in [
        ("timeout: 0s", "timeout: Invalid value: \"0s\": timeout should be a positive value"),
        ("timeout: -3s", "timeout: Invalid value: \"-3s\": timeout should be a positive value"),
        ("cachesize: 5", "cachesize: Invalid value: 5: cachesize is not supported in v2"),
    ] {
        kms(false, &[&format!("{fine}, {more}")], &[&format!("{at}.{want}")]);
    }
    kms(
        false,
        &[&format!("{old}, cachesize: 0")],
        &[&format!("{at}.cachesize: Invalid value: 0: cachesize should be a positive value, or negative to disable")],
    );
    for (endpoint, want) in [
        ("", "\"\": endpoint is a mandatory field for a kms"),
        ("http://a", "\"http://a\": unsupported scheme \"http\" for KMS provider, only unix is supported"),
        ("/a", "\"/a\": unsupported scheme \"\" for KMS provider, only unix is supported"),
        (":a", "\":a\": invalid endpoint for kms provider, error: parse \":a\": missing protocol scheme"),
    ] {
        kms(
            false,
            &[&format!("apiVersion: v2, name: a, endpoint: '{endpoint}'")],
            &[&format!("{at}.endpoint: Invalid value: {want}")],
        );
    }
    kms(
        false,
        &["apiVersion: v3, name: a, endpoint: 'unix:///a'"],
        &[&format!(
            "{at}.apiVersion: Invalid value: \"v3\": unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported"
        )],
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_one_sentence() {
    let file = File::new();
    let load = async || match Encryption::load(&file.path(), false, &file.stop).await {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    };
    assert!(load().await.starts_with("error reading encryption provider configuration file"));
    std::fs::write(file.path(), "").unwrap();
    assert!(load().await.ends_with("is empty"));
    std::fs::write(file.path(), "{").unwrap();
    assert!(load().await.starts_with("error decoding encryption provider configuration file"));
    file.write("secrets", &[]);
    assert!(load().await.ends_with("at least one resources[0].providers is required"));
    file.write("secrets", &["kms: {name: a, endpoint: 'unix:///a'}".to_owned()]);
    assert!(load().await.contains("KMSv1 is deprecated"));
    let masked = format!(
        "{HEAD}resources:\n- {{resources: ['*.*'], providers: [{{identity: {{}}}}]}}\n- {{resources: [secrets], providers: [{{identity: {{}}}}]}}\n"
    );
    std::fs::write(file.path(), masked).unwrap();
    assert!(load().await.ends_with(r#"resource "secrets" is masked by earlier rule "*.*""#));
}

#[tokio::test]
async fn a_changed_file_takes_effect_and_a_bad_one_does_not() {
    let file = File::new();
    file.write("secrets", &[keys("aesgcm", &[("key1", ONE)])]);
    let encryption = Encryption::load(&file.path(), true, &file.stop).await.unwrap();
    assert!(encryption.has_check(), "with reload there may be key services one day");
    let look = async || encryption.look(&file.path(), &file.stop).await.map_err(|error| error.to_string());
    let form = || {
        String::from_utf8_lossy(&encryption.seal(&secret("a"), &Bytes::from_static(b"{}")).unwrap()[..23]).into_owned()
    };
    assert_eq!(look().await, Ok(false));
    let before = encryption.seal(&secret("a"), &Bytes::from_static(b"{}")).unwrap();
    file.write("secrets", &[keys("aesgcm", &[("key2", TWO), ("key1", ONE)])]);
    assert_eq!(look().await, Ok(true));
    assert_eq!(form(), "k8s:enc:aesgcm:v1:key2:");
    assert!(open(&encryption, &secret("a"), &before).await.unwrap().stale);
    file.write("secrets", &[keys("aesgcm", &[("key3", "short")])]);
    assert!(look().await.is_err_and(|error| error.contains("base64")));
    std::fs::remove_file(file.path()).unwrap();
    assert!(look().await.is_err());
    assert_eq!(form(), "k8s:enc:aesgcm:v1:key2:", "the last good one stays");
    file.write("secrets", &[keys("secretbox", &[("key4", ONE)])]);
    assert_eq!(look().await, Ok(true));
    assert_eq!(form(), "k8s:enc:secretbox:v1:ke");
}

/// Every value that the engine holds.
async fn rows(kv: &dyn Kv) -> Vec<Bytes> {
    let read = RangeRead::new(&b"\x00"[..], &b"\xff"[..]).limit(1_000_000);
    kv.begin().get_range(&read, Read::Snapshot).await.unwrap().rows.into_iter().map(|(_, value)| value).collect()
}

fn holds(rows: &[Bytes], needle: &str) -> bool {
    rows.iter().any(|row| row.windows(needle.len()).any(|window| window == needle.as_bytes()))
}

#[tokio::test]
async fn after_a_rewrite_no_row_is_under_the_old_key() {
    let file = File::new();
    let kv: Arc<dyn Kv> = Arc::new(Sim::new(1, Faults::NONE));
    let store = async |encryption: Arc<Encryption>| {
        Store::open_sealed(kv.clone(), Arc::new(ManualClock::new(1)), encryption).await.unwrap()
    };
    let put = async |store: &Store, name: &str, text: &str| {
        let op = Op::Put { key: secret(name), bytes: text.to_owned().into(), expect: Expect::Any, expires: None };
        store.commit(Commit { ops: vec![op], ..Commit::default() }).await.unwrap()
    };
    let first = store(file.load(&[keys("aescbc", &[("old", ONE)]), identity()]).await).await;
    let one = put(&first, "a", "\"PLAIN one\"").await;
    put(&first, "a", "\"PLAIN two\"").await;
    put(&first, "b", &format!("\"{}\"", "PLAIN".repeat(40_000))).await;
    let found = rows(kv.as_ref()).await;
    assert!(holds(&found, "k8s:enc:aescbc:v1:old:") && !holds(&found, "PLAIN"));

    let both = store(file.load(&[keys("aesgcm", &[("new", TWO)]), keys("aescbc", &[("old", ONE)])]).await).await;
    assert!(both.is_stale(&secret("a")).await.unwrap());
    let step = both.rewrite("secrets", None).await.unwrap();
    let step = both.rewrite("secrets", step.next).await.unwrap();
    assert_eq!((step.past, step.next), (1, None));
    assert!(!holds(&rows(kv.as_ref()).await, "k8s:enc:aescbc:v1:old:"));

    let only = store(file.load(&[keys("aesgcm", &[("new", TWO)])]).await).await;
    assert_eq!(only.get(&secret("a")).await.unwrap().unwrap().bytes, "\"PLAIN two\"");
    assert_eq!(only.get_at(&secret("a"), one).await.unwrap().unwrap().bytes, "\"PLAIN one\"");
    assert_eq!(only.history(&secret("a")).await.unwrap().len(), 2);
    assert!(!only.is_stale(&secret("b")).await.unwrap());
    // Without the configuration nothing can be read, and the error names the object.
    let blind = store(Encryption::none()).await;
    let said = blind.get(&secret("a")).await.expect_err("it is sealed").to_string();
    assert_eq!(
        said,
        "unable to transform key \"/registry/secrets/default/a\": identity transformer tried to read encrypted data"
    );
}

/// The line of `/metrics` that begins so, without that.
fn metric(encryption: &Encryption, begins: &str) -> Option<String> {
    let registry = prometheus::Registry::new();
    encryption.register(&registry);
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(begins)).map(|rest| rest.trim().to_owned())
}

#[tokio::test]
async fn what_is_transformed_is_counted() {
    let file = File::new();
    let encryption = file.load(&[keys("aesgcm", &[("key1", ONE)]), identity()]).await;
    let sealed = encryption.seal(&secret("a"), &Bytes::from_static(b"{}")).unwrap();
    for stored in [&sealed, &Bytes::from_static(b"{}"), &Bytes::from_static(b"k8s:enc:secretbox:v1:key1:x")] {
        drop(open(&encryption, &secret("a"), stored).await);
    }
    assert!(open(&encryption, &secret("b"), &sealed).await.is_err());
    let total = "apiserver_storage_transformation_operations_total{resource=\"secrets\"";
    for (status, direction, prefix) in [
        ("OK", "to_storage", "k8s:enc:aesgcm:v1:"),
        ("OK", "from_storage", "k8s:enc:aesgcm:v1:"),
        ("OK", "from_storage", "identity"),
        ("unknown-non-grpc", "from_storage", "unknown"),
        ("unknown-non-grpc", "from_storage", "k8s:enc:aesgcm:v1:"),
    ] {
        let line = format!(
            "{total},status=\"{status}\",transformation_type=\"{direction}\",transformer_prefix=\"{prefix}\"}}"
        );
        assert_eq!(metric(&encryption, &line).as_deref(), Some("1"), "{line}");
    }
    let count = "apiserver_storage_transformation_duration_seconds_count{transformation_type=\"from_storage\",transformer_prefix=\"k8s:enc:aesgcm:v1:\"}";
    assert_eq!(metric(&encryption, count).as_deref(), Some("1"), "what fails has no duration");
    // What the configuration does not speak about is not transformed.
    encryption.seal(&Key::new("configmaps", "default", "a"), &Bytes::from_static(b"{}")).unwrap();
    assert_eq!(metric(&encryption, "apiserver_storage_transformation_operations_total{resource=\"configmaps\""), None);
    let info = metric(&encryption, "apiserver_encryption_config_controller_last_config_info{").unwrap();
    let hash =
        Sha256::digest(std::fs::read(file.path()).unwrap()).iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert!(info.ends_with(&format!("hash=\"sha256:{hash}\"}} 1")), "{info}");
}

#[path = "service.rs"]
mod service;

#[path = "served.rs"]
mod served;
