//! Puts a token into each secret that asks for one of its service account, deletes those whose account is gone, and takes deleted ones off
//! their account's list. It never makes a secret and looks at no other kind of them.
//!
//! Without a key that signs it does nothing. Acts as the controller manager itself, as upstream's does.

use std::{borrow::Cow, fmt::Debug, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{
    ByteString, NamespaceResourceScope,
    api::core::v1::{Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, api::PostParams};
use serde::Deserialize;

use crate::{
    controller::{COMPONENT, Context, Controller, Error, Next, delete, is_conflict, is_not_found},
    informer::{Change, Key, Watched},
    object,
    queue::Queue,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "serviceaccount-token-controller",
    aliases: &["serviceaccount-token"],
    service_account: COMPONENT,
    reporter: "serviceaccount-token-controller",
    watches: &["v1.ServiceAccount", "v1.Secret"],
    rules: &[],
    start,
};

const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const CA: &str = "ca.crt";
const NAMESPACE: &str = "namespace";
const TOKEN: &str = "token";

/// Whom a token in a secret speaks for.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names of claims")]
pub struct Spoken<'a> {
    pub namespace: &'a str,
    pub account: &'a str,
    pub account_uid: &'a str,
    pub secret: &'a str,
}

type Sign = dyn Fn(Spoken<'_>) -> Result<String, String> + Send + Sync;

/// Signs tokens that go into secrets.
#[derive(Clone)]
pub struct Signer(Arc<Sign>);

impl Signer {
    /// One that asks this function; an error is one sentence.
    pub fn new(sign: impl Fn(Spoken<'_>) -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(sign))
    }
}

impl Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// A secret of the type that asks for a token; of the others none are held.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
struct Asking(Secret);

impl Watched for Asking {
    const FIELDS: Option<&'static str> = Some("type=kubernetes.io/service-account-token");
}

impl Resource for Asking {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(dynamic: &()) -> Cow<'_, str> {
        Secret::kind(dynamic)
    }

    fn group(dynamic: &()) -> Cow<'_, str> {
        Secret::group(dynamic)
    }

    fn version(dynamic: &()) -> Cow<'_, str> {
        Secret::version(dynamic)
    }

    fn plural(dynamic: &()) -> Cow<'_, str> {
        Secret::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// The secrets of an account that was there once.
    Gone { account: Key, uid: String },
    /// A secret that is or was there.
    Secret { secret: Key, uid: String, account: Key, account_uid: String },
}

impl Work {
    fn of_account(meta: &ObjectMeta) -> Work {
        Work::Gone { account: Key::of(meta), uid: object::uid(meta).to_owned() }
    }

    fn of_secret(meta: &ObjectMeta) -> Work {
        Work::Secret {
            secret: Key::of(meta),
            uid: object::uid(meta).to_owned(),
            account: Key::new(object::namespace(meta), object::annotation(meta, ACCOUNT).unwrap_or_default()),
            account_uid: object::annotation(meta, ACCOUNT_UID).unwrap_or_default().to_owned(),
        }
    }
}

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        if context.options.sign.is_none() {
            tracing::info!("no key signs tokens for secrets: they get none");
            context.stop.cancelled().await;
            return;
        }
        let accounts = context.informers.of::<ServiceAccount>();
        let secrets = context.informers.of::<Asking>();
        if !accounts.synced(&context.stop).await {
            return;
        }
        let queue: Arc<Queue<Work>> = Arc::default();
        accounts.subscribe({
            let queue = queue.clone();
            move |change| {
                if let Some(meta) = replaced(change) {
                    queue.add(Work::of_account(meta));
                }
            }
        });
        secrets.subscribe({
            let queue = queue.clone();
            move |change| {
                if let (Some(meta), Change::Applied { .. }) = (replaced(change), change) {
                    queue.add(Work::of_secret(meta));
                }
                queue.add(Work::of_secret(change.object().meta()));
            }
        });
        if secrets.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, 5, reconcile).await;
        }
    }
    .boxed()
}

/// The object that is no more, even if another one has its name.
fn replaced<'a, K: Watched>(change: &Change<'a, K>) -> Option<&'a ObjectMeta> {
    match change {
        Change::Deleted(last) => Some(last.meta()),
        Change::Applied { old: Some(old), new } if object::uid(old.meta()) != object::uid(new.meta()) => {
            Some(old.meta())
        }
        Change::Applied { .. } => None,
    }
}

/// The object is the one with this uid, where one is named.
fn is_the_one(meta: &ObjectMeta, uid: &str) -> bool {
    uid.is_empty() || object::uid(meta) == uid
}

/// The secret with what it lacks, if it lacks anything.
fn filled(secret: &Secret, account: &ServiceAccount, ca: &str, sign: &Signer) -> Result<Option<Secret>, String> {
    let held = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |bytes| &bytes.0);
    let meta = &secret.metadata;
    let mut missing: Vec<(&str, String)> = Vec::new();
    if !ca.is_empty() && held(CA) != ca.as_bytes() {
        missing.push((CA, ca.to_owned()));
    }
    if held(NAMESPACE).is_empty() {
        missing.push((NAMESPACE, object::namespace(meta).to_owned()));
    }
    if held(TOKEN).is_empty() {
        let spoken = Spoken {
            namespace: object::namespace(meta),
            account: object::name(&account.metadata),
            account_uid: object::uid(&account.metadata),
            secret: object::name(meta),
        };
        missing.push((TOKEN, sign.0(spoken)?));
    }
    if missing.is_empty() {
        return Ok(None);
    }
    let mut secret = secret.clone();
    let data = secret.data.get_or_insert_default();
    data.extend(missing.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))));
    object::put(&mut secret.metadata.annotations, ACCOUNT, object::name(&account.metadata));
    object::put(&mut secret.metadata.annotations, ACCOUNT_UID, object::uid(&account.metadata));
    Ok(Some(secret))
}

/// The account without this secret on its list, if it is there.
fn without(account: &ServiceAccount, secret: &str) -> Option<ServiceAccount> {
    let mut account = account.clone();
    let list = account.secrets.as_mut()?;
    let before = list.len();
    list.retain(|one| one.name.as_deref() != Some(secret));
    (list.len() < before).then_some(account)
}

async fn reconcile(context: Context, work: Work) -> Result<Next, Error> {
    match work {
        Work::Gone { account, uid } => forget(&context, &account, &uid).await?,
        Work::Secret { secret: key, uid, account, account_uid } => {
            let held = context.informers.of::<Asking>().get(&key).filter(|held| is_the_one(held.meta(), &uid));
            match held {
                None => unlist(&context, &key, &account, &account_uid).await?,
                Some(secret) => fill(&context, &secret.0, &account, &account_uid).await?,
            }
        }
    }
    Ok(Next::Done)
}

/// Deletes the secrets of an account, unless the account is still there.
async fn forget(context: &Context, account: &Key, uid: &str) -> Result<(), Error> {
    let there = context.informers.of::<ServiceAccount>().get(account);
    if there.is_some_and(|there| is_the_one(&there.metadata, uid)) {
        return Ok(());
    }
    for secret in context.informers.of::<Asking>().in_namespace(&account.namespace) {
        let meta = secret.meta();
        let named = object::annotation(meta, ACCOUNT) == Some(account.name.as_str());
        let of_another = object::annotation(meta, ACCOUNT_UID).is_some_and(|own| !own.is_empty() && own != uid);
        if named && !of_another {
            delete(&context.api::<Secret>(&account.namespace), object::name(meta), meta.uid.as_deref()).await?;
        }
    }
    Ok(())
}

/// Takes a secret that is gone off its account's list.
async fn unlist(context: &Context, secret: &Key, account: &Key, uid: &str) -> Result<(), Error> {
    let there = context.informers.of::<ServiceAccount>().get(account);
    if !there.is_some_and(|there| is_the_one(&there.metadata, uid)) {
        return Ok(());
    }
    let api = context.api::<ServiceAccount>(&account.namespace);
    let Some(there) = api.get_opt(&account.name).await? else { return Ok(()) };
    let Some(wanted) = without(&there, &secret.name).filter(|_| is_the_one(&there.metadata, uid)) else {
        return Ok(());
    };
    match api.replace(&account.name, &PostParams::default(), &wanted).await {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Puts into a secret what it lacks, or deletes it where it has no account.
async fn fill(context: &Context, secret: &Secret, account: &Key, uid: &str) -> Result<(), Error> {
    let Some(sign) = &context.options.sign else { return Ok(()) };
    let known = context.informers.of::<ServiceAccount>().get(account);
    let api = context.api::<ServiceAccount>(&account.namespace);
    let there = match known.filter(|known| is_the_one(&known.metadata, uid)) {
        Some(known) => Some(known),
        // It may have come a moment ago.
        None => api.get_opt(&account.name).await?.map(Arc::new),
    };
    let (api, name) = (context.api::<Secret>(&account.namespace), object::name(&secret.metadata));
    let Some(there) = there.filter(|there| is_the_one(&there.metadata, uid)) else {
        delete(&api, name, secret.metadata.uid.as_deref()).await?;
        return Ok(());
    };
    let wanted = filled(secret, &there, &context.options.cluster_ca_pem, sign);
    let Some(wanted) = wanted.map_err(Error::NotYet)? else { return Ok(()) };
    match api.replace(name, &PostParams::default(), &wanted).await {
        // Whoever was faster is heard of, and the secret looked at again.
        Err(error) if !is_conflict(&error) && !is_not_found(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn secret(data: &Value) -> Secret {
        let data: std::collections::BTreeMap<String, ByteString> = data
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, text)| (key.clone(), ByteString(text.as_str().unwrap().as_bytes().to_vec())))
            .collect();
        let meta = json!({"namespace": "shop", "name": "old", "uid": "2", "annotations": {ACCOUNT: "till", "a": "b"}});
        Secret { metadata: serde_json::from_value(meta).unwrap(), data: Some(data), ..Secret::default() }
    }

    fn account() -> ServiceAccount {
        let listed = json!([{"name": "old"}, {"name": "other"}]);
        serde_json::from_value(json!({"metadata": {"name": "till", "uid": "1"}, "secrets": listed})).unwrap()
    }

    #[test]
    fn a_secret_gets_what_it_lacks() {
        let sign = Signer::new(|of| Ok(format!("{}/{}/{}/{}", of.namespace, of.account, of.account_uid, of.secret)));
        let whole = json!({"ca.crt": "CA", "namespace": "shop", "token": "shop/till/1/old"});
        for (held, ca, wanted) in [
            (json!({}), "CA", Some(&whole)),
            (
                json!({"namespace": "elsewhere"}),
                "",
                Some(&json!({"namespace": "elsewhere", "token": "shop/till/1/old"})),
            ),
            (
                json!({"ca.crt": "old", "namespace": "shop", "token": "t"}),
                "CA",
                Some(&json!({"ca.crt": "CA", "namespace": "shop", "token": "t"})),
            ),
            (json!({"ca.crt": "old", "namespace": "shop", "token": "t"}), "", None),
            (whole.clone(), "CA", None),
        ] {
            let made = filled(&secret(&held), &account(), ca, &sign).unwrap();
            let data = made.as_ref().map(secret_data);
            assert_eq!(data.as_ref(), wanted, "{held}");
            if let Some(made) = made {
                let wanted = json!({ACCOUNT: "till", ACCOUNT_UID: "1", "a": "b"});
                assert_eq!(json!(made.metadata.annotations), wanted);
            }
        }
    }

    fn secret_data(secret: &Secret) -> Value {
        let text = |bytes: &ByteString| json!(std::str::from_utf8(&bytes.0).unwrap());
        secret
            .data
            .iter()
            .flatten()
            .map(|(key, bytes)| (key.clone(), text(bytes)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    #[test]
    fn a_deleted_secret_leaves_the_list() {
        let left = without(&account(), "old").unwrap();
        assert_eq!(json!(left.secrets), json!([{"name": "other"}]));
        assert_eq!(without(&left, "old"), None);
        assert_eq!(without(&ServiceAccount::default(), "old"), None);
    }
}
