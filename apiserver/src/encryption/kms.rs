//! A key service that speaks KMS v2 over its Unix socket, and the seeds that it wraps for us.
//!
//! One seed seals until the service names another key. Its wrapped form lies beside every object, so that the service is asked once for
//! each seed and not for each object. While the service fails, reads of known seeds go on, and writes for [`TTL`]. Source:
//! KEP-3299 and upstream's `encryptionconfig` and `envelope/kmsv2`, whose stored form and limits these are.

use super::ciphers::{self, Cipher};
use super::envelope::{self, EncryptedObject, SourceType};
use super::metrics::{Direction, LOCAL, Metrics, OK};
use super::wire::key_management_service_client::KeyManagementServiceClient;
use super::wire::{DecryptRequest, EncryptRequest, StatusRequest, StatusResponse};
use crate::sockets;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use storage::transform::OpenError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// How often a healthy service is asked for its key.
const EVERY: Duration = Duration::from_secs(60);
/// How often one that fails is.
const EVERY_FAILING: Duration = Duration::from_secs(10);
/// How long a seed may seal after the last good status.
const TTL: Duration = Duration::from_secs(180);
/// How long a good answer to a health check holds.
const GOOD_FOR: Duration = Duration::from_secs(20);
/// How long a bad one does.
const BAD_FOR: Duration = Duration::from_secs(3);
/// How long a seed is kept in memory after its last use.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// How long a service that did not answer is not asked to open another seed: who waits for many of them waits once.
const SILENT_FOR: Duration = Duration::from_secs(1);
/// Pause before a socket that nobody listens on is tried again.
const REDIAL: Duration = Duration::from_millis(100);
/// What a service says that is not there, or does not come to an answer in time.
const SILENT: [&str; 2] = ["Unavailable", "DeadlineExceeded"];
/// Protocol versions of a service; equal in what they do.
const VERSIONS: [&str; 2] = ["v2", "v2beta1"];

/// A wrapped seed and the cipher that it is for.
#[derive(Debug)]
struct State {
    cipher: Arc<Cipher>,
    /// What lies beside each object; its data are empty.
    object: EncryptedObject,
    /// Of `object`.
    digest: [u8; 32],
    /// Of the key's name.
    key_hash: String,
    /// From then on it seals no more.
    expires: Instant,
}

/// What the last question to the service gave.
struct Checked {
    /// When, for how long it holds, and what it was.
    last: Option<(Instant, Duration, Result<(), String>)>,
    /// The version of the first answer; it must not change.
    version: Option<String>,
}

/// Why a service did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The name of its gRPC status; [`LOCAL`] when it was not the service that refused.
    pub(crate) status: &'static str,
    /// One sentence.
    pub(crate) why: String,
}

impl Refusal {
    fn local(why: String) -> Refusal {
        Refusal { status: LOCAL, why }
    }

    fn before(self, said: &str) -> Refusal {
        Refusal { why: format!("{said}, error: {}", self.why), ..self }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

/// Opened seeds by the digest of their wrapped form, with their last use.
type Seeds = HashMap<[u8; 32], (Arc<Cipher>, Instant)>;

/// See the file.
pub(crate) struct Kms {
    name: String,
    prefix: String,
    timeout: Duration,
    client: KeyManagementServiceClient<Channel>,
    state: ArcSwapOption<State>,
    seeds: Mutex<Seeds>,
    checked: tokio::sync::Mutex<Checked>,
    /// When it last gave no answer about a seed, and how that was put.
    silent: Mutex<Option<(Instant, Refusal)>>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Kms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kms").field(&self.name).finish()
    }
}

/// A status by its name in Go.
fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => OK,
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

fn refusal(code: tonic::Code, message: &str) -> Refusal {
    let status = code_name(code);
    Refusal { status, why: format!("rpc error: code = {status} desc = {message}") }
}

impl Kms {
    /// A client of the service; nothing is asked yet.
    pub(crate) fn new(
        name: &str,
        endpoint: &str,
        timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Kms>, String> {
        let channel = sockets::unix(endpoint);
        Ok(Arc::new(Kms {
            name: name.to_owned(),
            prefix: format!("k8s:enc:kms:v2:{name}:"),
            timeout,
            client: KeyManagementServiceClient::new(channel),
            state: ArcSwapOption::empty(),
            seeds: Mutex::new(HashMap::new()),
            checked: tokio::sync::Mutex::new(Checked { last: None, version: None }),
            silent: Mutex::new(None),
            metrics,
        }))
    }

    /// What its sealed bytes begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The longest wait for one answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Keeps the seed and its key fresh until `stop`. Asks at once.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let pause = match self.check().await {
                Ok(()) => EVERY,
                Err(error) => {
                    tracing::warn!(kms = self.name, error, "the key service failed its health check");
                    EVERY_FAILING
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Whether the service is well; takes up its current key on the way. Recent answers are given again.
    ///
    /// # Errors
    /// One sentence.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let mut checked = self.checked.lock().await;
        if let Some((at, holds, outcome)) = &checked.last
            && at.elapsed() < *holds
        {
            return outcome.clone();
        }
        let outcome = self.ask(&mut checked.version).await;
        let holds = if outcome.is_ok() { GOOD_FOR } else { BAD_FOR };
        checked.last = Some((Instant::now(), holds, outcome.clone()));
        outcome
    }

    async fn ask(&self, version: &mut Option<String>) -> Result<(), String> {
        let name = &self.name;
        // The clock starts before the question: the bound is one on the whole.
        let expires = Instant::now() + TTL;
        let status = self
            .call("Status", |mut client| async move { client.status(StatusRequest {}).await })
            .await
            .map_err(|error| {
                format!("failed to perform status section of the healthz check for KMS Provider {name}, error: {error}")
            })?;
        let mut errors = Vec::new();
        if status.healthz != "ok" {
            errors.push(format!("got unexpected healthz status: {}", status.healthz));
        }
        if let Err(error) = same_version(&status, version) {
            errors.push(error);
        }
        match envelope::validate_key_id(&status.key_id) {
            Err(error) => {
                self.metrics.misnamed(name, status.key_id.is_empty());
                errors.push(format!("got invalid KMSv2 KeyID hash {:?}: {error}", envelope::hash(&status.key_id)));
            }
            Ok(()) => {
                self.metrics.named(name, &envelope::hash(&status.key_id));
                errors.extend(self.take_up(&status.key_id, expires).await.err());
            }
        }
        match &errors[..] {
            [] => Ok(()),
            [error] => Err(format!("kmsv2 Provider {name} is not healthy, error: {error}")),
            errors => Err(format!("kmsv2 Provider {name} is not healthy, error: [{}]", errors.join(", "))),
        }
    }

    /// Goes on with the seed in use when its key is still the service's, and has a new one wrapped otherwise.
    async fn take_up(&self, key_id: &str, expires: Instant) -> Result<(), String> {
        if let Some(state) = self.state.load_full()
            && state.object.key_id == key_id
        {
            let (cipher, object) = (Arc::clone(&state.cipher), state.object.clone());
            let (digest, key_hash) = (state.digest, state.key_hash.clone());
            self.state.store(Some(Arc::new(State { cipher, object, digest, key_hash, expires })));
            return Ok(());
        }
        let begun = Instant::now();
        let seed = ciphers::random::<{ ciphers::SEED }>();
        self.metrics.made(begun.elapsed(), seed.is_ok());
        let seed = seed?;
        let request = EncryptRequest { plaintext: seed.to_vec(), uid: uuid::Uuid::new_v4().to_string() };
        let wrapped = self
            .call("Encrypt", |mut client| {
                let request = request.clone();
                async move { client.encrypt(request).await }
            })
            .await
            .map_err(|error| format!("failed to encrypt DEK, error: {error}"))?;
        let object = EncryptedObject {
            encrypted_data: Vec::new(),
            key_id: wrapped.key_id,
            encrypted_dek_source: wrapped.ciphertext,
            annotations: wrapped.annotations,
            encrypted_dek_source_type: SourceType::HkdfSha256XnonceAesGcmSeed.into(),
        };
        envelope::validate_source(&object)?;
        if object.key_id != key_id {
            // The service is between two keys: the next question finds it on one of them.
            return Err(format!(
                "failed to rotate DEK, statusKeyIDHash={:?}, encryptKeyIDHash={:?}",
                envelope::hash(key_id),
                envelope::hash(&object.key_id)
            ));
        }
        let cipher = Arc::new(Cipher::extended(&seed)?);
        let (digest, key_hash) = (envelope::digest(&object), envelope::hash(&object.key_id));
        self.remember(digest, Arc::clone(&cipher));
        self.state.store(Some(Arc::new(State { cipher, object, digest, key_hash, expires })));
        tracing::info!(kms = self.name, "a new data key is in use");
        Ok(())
    }

    /// Asks the service. Waits for it to listen, all in all for no longer than its timeout.
    async fn call<T, F>(
        &self,
        method: &str,
        ask: impl Fn(KeyManagementServiceClient<Channel>) -> F,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let begun = Instant::now();
        let mut last = None;
        let answer = tokio::time::timeout(self.timeout, async {
            loop {
                match ask(self.client.clone()).await {
                    Err(status) if status.code() == tonic::Code::Unavailable => last = Some(status),
                    answer => return answer,
                }
                tokio::time::sleep(REDIAL).await;
            }
        })
        .await;
        let answer = match (answer, last) {
            (Ok(Ok(answer)), _) => Ok(answer.into_inner()),
            (Ok(Err(status)), _) | (Err(_), Some(status)) => Err(refusal(status.code(), status.message())),
            (Err(_), None) => Err(refusal(tonic::Code::DeadlineExceeded, "context deadline exceeded")),
        };
        let status = answer.as_ref().map_or_else(|refusal| refusal.status, |_| OK);
        let method = format!("/v2.KeyManagementService/{method}");
        self.metrics.asked(&self.name, &method, begun.elapsed(), status);
        answer
    }

    fn remember(&self, digest: [u8; 32], cipher: Arc<Cipher>) {
        let now = Instant::now();
        let mut seeds = self.seeds.lock();
        seeds.retain(|_, (_, used)| now.duration_since(*used) < KEEP);
        seeds.insert(digest, (cipher, now));
        self.metrics.held(&self.name, seeds.len());
    }

    fn known(&self, digest: &[u8; 32]) -> Option<Arc<Cipher>> {
        // The seed in use is known as long as it is in use, whether anybody reads or not.
        if let Some(state) = self.state.load().as_ref()
            && state.digest == *digest
        {
            return Some(Arc::clone(&state.cipher));
        }
        let mut seeds = self.seeds.lock();
        let (cipher, used) = seeds.get_mut(digest)?;
        *used = Instant::now();
        Some(Arc::clone(cipher))
    }

    /// Appends what is to be stored of `plain`, without the prefix.
    ///
    /// # Errors
    /// The service never gave a key, or has failed for too long.
    pub(crate) fn seal(&self, context: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let state = self.state.load();
        let Some(state) = state.as_ref() else {
            return Err(format!("the KMS provider {} has not given a data key yet", self.name));
        };
        if Instant::now() > state.expires {
            return Err(format!(
                "encryptedDEKSource with keyID hash {:?} expired: the KMS provider {} has failed for too long",
                envelope::hash(&state.object.key_id),
                self.name
            ));
        }
        let mut object = state.object.clone();
        state.cipher.seal(context, plain, &mut object.encrypted_data)?;
        envelope::validate(&object)?;
        self.metrics.used(Direction::ToStorage, &self.name, &state.key_hash);
        object.encode(out).map_err(|error| error.to_string())
    }

    /// What `stored`, without the prefix, was made from, and whether it is under another key than the service's current one.
    ///
    /// # Errors
    /// `Locked` when its seed is not in memory.
    pub(crate) fn open(&self, context: &[u8], stored: &Bytes) -> Result<(Bytes, bool), OpenError> {
        let object = envelope::decode(stored).map_err(OpenError::Failed)?;
        let cipher = self.known(&envelope::digest(&object)).ok_or(OpenError::Locked)?;
        let state = self.state.load();
        match state.as_ref().filter(|state| state.object.key_id == object.key_id) {
            Some(state) => self.metrics.used(Direction::FromStorage, &self.name, &state.key_hash),
            None => self.metrics.used(Direction::FromStorage, &self.name, &envelope::hash(&object.key_id)),
        }
        let plain = cipher.open(context, &object.encrypted_data).map_err(OpenError::Failed)?;
        let fresh = state.as_ref().is_some_and(|state| {
            state.object.key_id == object.key_id
                && state.object.encrypted_dek_source_type == object.encrypted_dek_source_type
        });
        Ok((plain.into(), !fresh))
    }

    /// Has the service unwrap the seed of `stored`.
    ///
    /// # Errors
    /// What it said; the same again for a moment when it said nothing.
    pub(crate) async fn unlock(&self, stored: &Bytes) -> Result<(), Refusal> {
        let object = envelope::decode(stored).map_err(Refusal::local)?;
        let digest = envelope::digest(&object);
        if self.known(&digest).is_some() {
            return Ok(());
        }
        if let Some((at, refusal)) = self.silent.lock().as_ref()
            && at.elapsed() < SILENT_FOR
        {
            return Err(refusal.clone());
        }
        self.metrics.missed();
        let request = DecryptRequest {
            ciphertext: object.encrypted_dek_source.clone(),
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone(),
        };
        let answer = self
            .call("Decrypt", |mut client| {
                let request = request.clone();
                async move { client.decrypt(request).await }
            })
            .await
            .map_err(|refusal| refusal.before("failed to decrypt DEK"));
        let silent = answer.as_ref().err().filter(|refusal| SILENT.contains(&refusal.status));
        *self.silent.lock() = silent.map(|refusal| (Instant::now(), refusal.clone()));
        let seed = answer?.plaintext;
        let cipher = match object.encrypted_dek_source_type() {
            SourceType::AesGcmKey => Cipher::gcm(&seed),
            SourceType::HkdfSha256XnonceAesGcmSeed => Cipher::extended(&seed),
        }
        .map_err(Refusal::local)?;
        self.remember(digest, Arc::new(cipher));
        Ok(())
    }
}

fn same_version(status: &StatusResponse, version: &mut Option<String>) -> Result<(), String> {
    let given = &status.version;
    if !VERSIONS.contains(&given.as_str()) {
        return Err(format!("expected KMSv2 API version v2, got {given}"));
    }
    let first = version.get_or_insert_with(|| given.clone());
    if first != given {
        return Err(format!(
            "KMSv2 API version should not change after the initial status response version {first}, got {given}"
        ));
    }
    Ok(())
}
