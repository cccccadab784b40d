//! Finalizers that hold an object while something uses it: put on what lacks them, taken off what may go. It knows no kind, and never
//! judges whether an object is in use.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    controller::{Error, is_conflict, is_not_found},
    object,
};

/// How an object stands to the finalizer that protects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// It is there to stay and lacks it.
    Bare,
    /// It is to go, and has it.
    Held,
    /// Nothing is to do.
    Settled,
}

/// See [`Stand`].
pub(crate) fn stand(meta: &ObjectMeta, finalizer: &str) -> Stand {
    let has = meta.finalizers.iter().flatten().any(|one| one == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (false, false) => Stand::Bare,
        (true, true) => Stand::Held,
        (false, true) | (true, false) => Stand::Settled,
    }
}

/// Puts the finalizer on the object, or takes it off.
pub(crate) async fn turn<K>(api: &Api<K>, held: &K, finalizer: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let mut written = held.clone();
    let finalizers = written.meta_mut().finalizers.get_or_insert_default();
    if finalizers.iter().any(|one| one == finalizer) {
        finalizers.retain(|one| one != finalizer);
    } else {
        finalizers.push(finalizer.to_owned());
    }
    match api.replace(object::name(held.meta()), &PostParams::default(), &written).await {
        Ok(_) => Ok(()),
        Err(gone) if is_not_found(&gone) => Ok(()),
        Err(error) if is_conflict(&error) => Err(Error::NotYet("the object has changed".to_owned())),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_stand_three_ways() {
        for (deleted, finalizers, wanted) in [
            (None, json!(null), Stand::Bare),
            (None, json!(["other"]), Stand::Bare),
            (None, json!(["other", "f"]), Stand::Settled),
            (Some("2026-01-01T00:00:00Z"), json!(["f"]), Stand::Held),
            (Some("2026-01-01T00:00:00Z"), json!(["other"]), Stand::Settled),
        ] {
            let meta: ObjectMeta =
                serde_json::from_value(json!({"deletionTimestamp": deleted, "finalizers": finalizers})).unwrap();
            assert_eq!(stand(&meta, "f"), wanted, "{deleted:?} {finalizers}");
        }
    }
}
