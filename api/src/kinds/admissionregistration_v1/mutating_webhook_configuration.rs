//! `mutatingwebhookconfigurations` of admissionregistration.k8s.io: who else may change what is written.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::judgement::Judgement;
use crate::kind::{Kind, describe};
use crate::kinds::shared::admission_rules::GROUP;
use crate::kinds::shared::webhooks::{COLUMNS, Configuration};

/// The description.
pub static KIND: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    categories: &["api-extensions"],
    namespaced: false,
    generation: true,
    tells_empty: true,
    unconditional_update: false,
    columns: COLUMNS,
    describe: describe::<k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration>,
    judgement: Judgement::ONLY_AS_NEW.any_finalizer(),
    hooks: &Configuration { mutating: true },
    ..Kind::BASE
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn a_mutating_webhook_says_whether_it_is_called_again() {
        let hook = json!({"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
            "failurePolicy": "Fail", "matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {},
            "clientConfig": {"url": "https://example.com"}});
        let mut full = json!({"webhooks": [hook]});
        let before = full.clone();
        full["webhooks"][0]["reinvocationPolicy"] = json!("Never");
        testing::defaults(&KIND, before, &full);
        full["webhooks"][0]["reinvocationPolicy"] = json!("Always");
        testing::invalid(
            &KIND,
            &full,
            &[
                "webhooks[0].reinvocationPolicy: Unsupported value: \"Always\": supported values: \"IfNeeded\", \"Never\"",
            ],
        );
    }
}
