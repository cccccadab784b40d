//! A key service on the other end of a real socket: it wraps seeds under keys of its own, changes them, falls ill and dies.

use super::super::ciphers::Cipher;
use super::super::wire::key_management_service_server::{KeyManagementService, KeyManagementServiceServer};
use super::super::wire::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
};
use super::*;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

/// What the service says and does.
#[derive(Clone)]
pub(super) struct Manner {
    /// Of the status.
    key_id: String,
    /// Of answers to Encrypt; the status' if empty.
    wraps_under: String,
    version: String,
    healthz: String,
    annotations: BTreeMap<String, Vec<u8>>,
    /// Bytes that are put before each wrapped seed.
    padding: usize,
    encrypted: usize,
    decrypted: usize,
}

#[derive(Clone)]
pub(super) struct Vault(Arc<Mutex<Manner>>);

impl Vault {
    pub(super) fn new() -> Vault {
        Vault(Arc::new(Mutex::new(Manner {
            key_id: "kek-1".into(),
            wraps_under: String::new(),
            version: "v2".into(),
            healthz: "ok".into(),
            annotations: [("vault.example".to_owned(), b"a".to_vec())].into(),
            padding: 0,
            encrypted: 0,
            decrypted: 0,
        })))
    }

    fn change(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.0.lock());
    }

    fn counts(&self) -> (usize, usize) {
        let manner = self.0.lock();
        (manner.encrypted, manner.decrypted)
    }

    /// Each key is made from its name.
    fn cipher(key_id: &str) -> Cipher {
        Cipher::gcm(&<[u8; 32]>::from(Sha256::digest(key_id.as_bytes()))).unwrap()
    }

    /// Serves on the socket until the set is dropped.
    pub(super) fn serve(&self, path: &Path) -> JoinSet<()> {
        drop(std::fs::remove_file(path));
        let listener = UnixListener::bind(path).unwrap();
        let service = TowerToHyperService::new(KeyManagementServiceServer::new(self.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                connections.spawn(async move {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        tasks
    }
}

#[tonic::async_trait]
impl KeyManagementService for Vault {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let manner = self.0.lock().clone();
        Ok(Response::new(StatusResponse { version: manner.version, healthz: manner.healthz, key_id: manner.key_id }))
    }

    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        let request = request.into_inner();
        assert!(!request.uid.is_empty());
        let mut manner = self.0.lock();
        manner.encrypted += 1;
        let key_id = if manner.wraps_under.is_empty() { &manner.key_id } else { &manner.wraps_under }.clone();
        let mut ciphertext = vec![0; manner.padding];
        Vault::cipher(&key_id).seal(b"", &request.plaintext, &mut ciphertext).map_err(Status::internal)?;
        Ok(Response::new(EncryptResponse { ciphertext, key_id, annotations: manner.annotations.clone() }))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let request = request.into_inner();
        let mut manner = self.0.lock();
        manner.decrypted += 1;
        if request.annotations != manner.annotations {
            return Err(Status::invalid_argument("these are not my annotations"));
        }
        let plaintext =
            Vault::cipher(&request.key_id).open(b"", &request.ciphertext).map_err(Status::invalid_argument)?;
        Ok(Response::new(DecryptResponse { plaintext }))
    }
}

pub(super) fn provider(file: &File) -> Vec<String> {
    let socket = file.directory.path().join("kms.sock");
    vec![
        format!("kms: {{apiVersion: v2, name: vault, endpoint: 'unix://{}', timeout: 500ms}}", socket.display()),
        identity(),
    ]
}

pub(super) fn socket(file: &File) -> PathBuf {
    file.directory.path().join("kms.sock")
}

fn plain() -> Bytes {
    Bytes::from_static(b"{\"kind\":\"Secret\"}")
}

/// Lets time pass at once; sockets keep their own.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn one_seed_serves_all_objects_and_is_unwrapped_once() {
    let (file, vault) = (File::new(), Vault::new());
    let _server = vault.serve(&socket(&file));
    let encryption = file.load(&provider(&file)).await;
    assert!(encryption.has_check());
    encryption.check().await.unwrap();
    let sealed: Vec<Bytes> =
        ["a", "b", "c"].iter().map(|name| encryption.seal(&secret(name), &plain()).unwrap()).collect();
    assert!(sealed.iter().all(|sealed| sealed.starts_with(b"k8s:enc:kms:v2:vault:")));
    for (name, sealed) in ["a", "b", "c"].iter().zip(&sealed) {
        let opened = encryption.open(&secret(name), sealed).unwrap();
        assert_eq!(opened, Opened { plain: plain(), stale: false });
    }
    assert_eq!(vault.counts(), (1, 0), "one seed, wrapped once, never unwrapped");
    // Another process, or a restart.
    let other = file.load(&provider(&file)).await;
    for (name, sealed) in ["a", "b", "c"].iter().zip(&sealed) {
        let opened = open(&other, &secret(name), sealed).await.unwrap();
        assert_eq!(opened, Opened { plain: plain(), stale: false }, "another seed under the same key is as good");
    }
    assert_eq!(vault.counts(), (2, 1));
    let value = |name: &str| metric(&other, name);
    assert_eq!(value("apiserver_storage_envelope_transformation_cache_misses_total").as_deref(), Some("1"));
    assert_eq!(value("apiserver_storage_data_key_generation_duration_seconds_count").as_deref(), Some("1"));
    assert_eq!(
        value("apiserver_envelope_encryption_dek_source_cache_size{provider_name=\"vault\"}").as_deref(),
        Some("2")
    );
    let hash = envelope::hash("kek-1");
    let used = value("apiserver_envelope_encryption_key_id_hash_total{").unwrap();
    let labels = format!("key_id_hash=\"{hash}\",provider_name=\"vault\",transformation_type=\"from_storage\"}} 3");
    assert!(used.ends_with(&labels), "{used}");
    for method in ["Status", "Encrypt", "Decrypt"] {
        let line = format!(
            "apiserver_envelope_encryption_kms_operations_latency_seconds_count{{grpc_status_code=\"OK\",method_name=\"/v2.KeyManagementService/{method}\",provider_name=\"vault\"}}"
        );
        assert_eq!(value(&line).as_deref(), Some("1"), "{line}");
    }
    // Rows that were moved or damaged.
    assert!(open(&other, &secret("b"), &sealed[0]).await.is_err());
    let mut damaged = sealed[0].to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(open(&other, &secret("a"), &damaged.into()).await.is_err());
    assert!(open(&other, &secret("a"), &sealed[0].slice(..40)).await.is_err());
}

#[tokio::test]
async fn another_key_of_the_service_makes_objects_stale() {
    let (file, vault) = (File::new(), Vault::new());
    let _server = vault.serve(&socket(&file));
    let encryption = file.load(&provider(&file)).await;
    let old = encryption.seal(&secret("a"), &plain()).unwrap();
    vault.change(|manner| manner.key_id = "kek-2".into());
    encryption.check().await.unwrap();
    assert!(!encryption.open(&secret("a"), &old).unwrap().stale, "a recent answer is given again");
    pass(Duration::from_secs(21)).await;
    encryption.check().await.unwrap();
    assert!(encryption.open(&secret("a"), &old).unwrap().stale);
    let new = encryption.seal(&secret("a"), &plain()).unwrap();
    assert!(!encryption.open(&secret("a"), &new).unwrap().stale);
    // While it is between two keys, the old seed goes on.
    vault.change(|manner| {
        manner.key_id = "kek-3".into();
        manner.wraps_under = "kek-2".into();
    });
    pass(Duration::from_secs(21)).await;
    assert!(encryption.check().await.is_err_and(|error| error.contains("failed to rotate DEK")));
    let between = encryption.seal(&secret("a"), &plain()).unwrap();
    assert!(!encryption.open(&secret("a"), &between).unwrap().stale);
    let other = file.load(&provider(&file)).await;
    assert_eq!(
        other.seal(&secret("a"), &plain()),
        Err("the KMS provider vault has not given a data key yet".to_owned())
    );
    assert_eq!(open(&other, &secret("a"), &old).await.unwrap().plain, plain(), "reading takes the old key alone");
}

#[tokio::test]
async fn a_service_that_dies_stops_writes_in_time_and_reads_of_new_seeds() {
    let (file, vault) = (File::new(), Vault::new());
    let server = vault.serve(&socket(&file));
    let encryption = file.load(&provider(&file)).await;
    let sealed = encryption.seal(&secret("a"), &plain()).unwrap();
    drop(server);
    tokio::task::yield_now().await;
    pass(Duration::from_secs(21)).await;
    let said = encryption.check().await.expect_err("it is dead");
    assert!(said.contains("failed to perform status section of the healthz check for KMS Provider vault"), "{said}");
    assert!(encryption.seal(&secret("a"), &plain()).is_ok(), "the seed lasts for a while");
    pass(Duration::from_secs(180)).await;
    let said = encryption.seal(&secret("a"), &plain()).expect_err("not for ever");
    assert!(said.contains("expired") && said.contains("sha256:"), "{said}");
    assert_eq!(encryption.open(&secret("a"), &sealed).unwrap().plain, plain(), "what is known opens");
    // A start without the service: nothing opens and nothing is sealed until it comes.
    let other = file.load(&provider(&file)).await;
    let said = open(&other, &secret("a"), &sealed).await.expect_err("nobody unwraps it");
    assert!(said.starts_with("failed to decrypt DEK, error: rpc error: code = Unavailable"), "{said}");
    let _server = vault.serve(&socket(&file));
    // Who waits for many seeds waits once, and not for long after the service has come.
    assert_eq!(open(&other, &secret("a"), &sealed).await, Err(said));
    pass(Duration::from_secs(1)).await;
    assert_eq!(open(&other, &secret("a"), &sealed).await.unwrap().plain, plain());
    // The next look of its own makes both whole again.
    pass(Duration::from_secs(11)).await;
    for encryption in [&encryption, &other] {
        let healthy = async {
            while encryption.seal(&secret("a"), &plain()).is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), healthy).await.expect("it is found again");
    }
}

#[tokio::test]
async fn a_service_that_breaks_the_rules_gets_nothing_to_keep() {
    type Change = fn(&mut Manner);
    let cases: [(Change, &str); 7] = [
        (|m| m.healthz = "ill".into(), "got unexpected healthz status: ill"),
        (|m| m.version = "v1".into(), "expected KMSv2 API version v2, got v1"),
        (|m| m.key_id = String::new(), "keyID is empty"),
        (|m| m.key_id = "k".repeat(1025), "keyID is 1025 bytes, which exceeds the max size of 1024"),
        (|m| m.padding = 1024, "which exceeds the max size of 1024"),
        (|m| drop(m.annotations.insert("plain".into(), vec![])), "failed to validate annotations"),
        (|m| drop(m.annotations.insert("a.example".into(), vec![0; 33_000])), "exceeds the max size of 32768"),
    ];
    for (change, words) in cases {
        let (file, vault) = (File::new(), Vault::new());
        vault.change(change);
        let _server = vault.serve(&socket(&file));
        let encryption = file.load(&provider(&file)).await;
        let said = encryption.check().await.expect_err(words);
        assert!(said.starts_with("kms-provider-0: kmsv2 Provider vault is not healthy, error: "), "{said}");
        assert!(said.contains(words), "{said}");
        let sealed = encryption.seal(&secret("a"), &plain());
        assert_eq!(
            sealed.is_ok(),
            matches!(words, "got unexpected healthz status: ill" | "expected KMSv2 API version v2, got v1")
        );
    }
    // Its version is that of its first answer.
    let (file, vault) = (File::new(), Vault::new());
    let _server = vault.serve(&socket(&file));
    let encryption = file.load(&provider(&file)).await;
    vault.change(|manner| manner.version = "v2beta1".into());
    pass(Duration::from_secs(21)).await;
    assert!(encryption.check().await.is_err_and(|error| error.contains("should not change")));
}

#[tokio::test]
async fn a_store_waits_for_the_service_and_says_so() {
    let (file, vault) = (File::new(), Vault::new());
    let kv: Arc<dyn Kv> = Arc::new(Sim::new(1, Faults::NONE));
    let store = async || {
        let encryption = file.load(&provider(&file)).await;
        Store::open_sealed(kv.clone(), Arc::new(ManualClock::new(1)), encryption).await.unwrap()
    };
    let server = vault.serve(&socket(&file));
    let put = |name: &str| {
        let op = Op::Put { key: secret(name), bytes: plain(), expect: Expect::Any, expires: None };
        Commit { ops: vec![op], ..Commit::default() }
    };
    store().await.commit(put("a")).await.unwrap();
    drop(server);
    tokio::task::yield_now().await;
    let again = store().await;
    let said = again.list("secrets", None, None, 0).await.expect_err("nobody unwraps it").to_string();
    assert!(
        said.starts_with("unable to transform key \"/registry/secrets/default/a\": failed to decrypt DEK"),
        "{said}"
    );
    let said = again.commit(put("b")).await.expect_err("there is no seed").to_string();
    assert!(said.contains("/registry/secrets/default/b") && said.contains("has not given a data key yet"), "{said}");
    let _server = vault.serve(&socket(&file));
    pass(Duration::from_secs(1)).await;
    assert_eq!(again.list("secrets", None, None, 0).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_new_file_waits_for_its_service() {
    let (file, vault) = (File::new(), Vault::new());
    file.write("secrets", &[keys("aesgcm", &[("key1", ONE)])]);
    let encryption = Encryption::load(&file.path(), true, &file.stop).await.unwrap();
    file.write("secrets", &[provider(&file)[0].clone(), keys("aesgcm", &[("key1", ONE)])]);
    let path = file.path();
    let look = encryption.look(&path, &file.stop);
    let late = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        vault.serve(&socket(&file))
    };
    let (looked, _server) = tokio::join!(look, late);
    assert!(looked.unwrap());
    assert!(encryption.seal(&secret("a"), &plain()).unwrap().starts_with(b"k8s:enc:kms:v2:vault:"));
}
