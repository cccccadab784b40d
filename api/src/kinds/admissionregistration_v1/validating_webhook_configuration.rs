//! `validatingwebhookconfigurations` of admissionregistration.k8s.io: who else is asked whether a write may happen.
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
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    categories: &["api-extensions"],
    namespaced: false,
    generation: true,
    tells_empty: true,
    unconditional_update: false,
    columns: COLUMNS,
    describe: describe::<k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration>,
    judgement: Judgement::ONLY_AS_NEW.any_finalizer(),
    hooks: &Configuration { mutating: false },
    ..Kind::BASE
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field_path::Path;
    use crate::json::{Value, json};
    use crate::kinds::shared::{testing, webhooks};

    fn hook(name: &str) -> Value {
        json!({"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 10,
            "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "*"}],
            "clientConfig": {"service": {"namespace": "n", "name": "s", "path": "/a", "port": 443}}})
    }

    #[test]
    fn defaults_of_a_short_one() {
        let short = json!({"webhooks": [{"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "clientConfig": {"service": {"namespace": "n", "name": "s", "path": "/a"}}}]});
        testing::defaults(&KIND, short, &json!({"webhooks": [hook("a.b.c")]}));
    }

    #[test]
    fn rules() {
        testing::invalid(&KIND, &json!({"webhooks": [hook("a.b.c"), hook("b.b.c")]}), &[]);
        let object = json!({"metadata": {"name": "x"}, "webhooks": [hook("a.b.c"), hook("b.b.c")]});
        testing::row(&KIND, &object, &json!(["x", 2, "<unknown>"]));
        let mut wrong = hook("a.b");
        for (name, value) in [
            ("failurePolicy", json!("Never")),
            ("matchPolicy", json!("Some")),
            ("sideEffects", json!("Some")),
            ("timeoutSeconds", json!(31)),
            ("admissionReviewVersions", json!(["v2", "v2", "V"])),
            ("clientConfig", json!({})),
            (
                "matchConditions",
                json!([{"name": "", "expression": " "}, {"name": "a", "expression": "true"},
                {"name": "a", "expression": "true"}]),
            ),
        ] {
            wrong[name] = value;
        }
        testing::invalid(
            &KIND,
            &json!({"webhooks": [wrong]}),
            &[
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
                "webhooks[0].failurePolicy: Unsupported value: \"Never\": supported values: \"Fail\", \"Ignore\"",
                "webhooks[0].matchPolicy: Unsupported value: \"Some\": supported values: \"Equivalent\", \"Exact\"",
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                "webhooks[0].matchConditions[0].expression: Required value",
                "webhooks[0].matchConditions[0].name: Required value",
                "webhooks[0].matchConditions[2].name: Duplicate value: \"a\"",
                "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v2\": duplicate version",
                "webhooks[0].admissionReviewVersions[2]: Invalid value: \"V\": a DNS-1035 label must consist of lower case \
                 alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character \
                 (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
                "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\",\"v2\",\"V\"]: must include at least one of v1, \
                 v1beta1",
            ],
        );
        testing::invalid(
            &KIND,
            &json!({"webhooks": [hook("a.b.c"), hook("a.b.c")]}),
            &["webhooks[1].name: Duplicate value: \"a.b.c\""],
        );
    }

    #[test]
    fn what_was_wrong_before_may_stay() {
        let mut old = hook("a.b.c");
        old["sideEffects"] = json!("Some");
        old["admissionReviewVersions"] = json!(["v9"]);
        let old = json!({"webhooks": [old.clone(), old]});
        let errors = KIND.hooks.revalidate(&old, &old);
        assert_eq!(testing::shown(&errors), [""; 0]);
        assert!(!KIND.hooks.validate(&old).is_empty());
    }

    #[test]
    fn addresses() {
        let check = |text: &str, sentences: &[&str]| {
            let mut errors = crate::field_path::Errors::new();
            webhooks::url(&mut errors, text, &Path::new("url"));
            assert_eq!(testing::shown(&errors), sentences, "{text}");
        };
        check("https://example.com", &[]);
        check("https://example.com:9443/a/b", &[]);
        check(
            "http://u:p@example.com/?a=b#c",
            &[
                "url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "url: Invalid value: \"u:p\": user information is not permitted in the URL",
                "url: Invalid value: \"c\": fragments are not permitted in the URL",
                "url: Invalid value: \"a=b\": query parameters are not permitted in the URL",
            ],
        );
        check(
            "",
            &[
                "url: Invalid value: \"\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "url: Invalid value: \"\": host must be specified; desired format: https://host[/path]",
            ],
        );
    }

    #[test]
    fn services() {
        let check = |given: Value, sentences: &[&str]| {
            let mut errors = crate::field_path::Errors::new();
            webhooks::service(&mut errors, &given, &Path::new("s"));
            assert_eq!(testing::shown(&errors), sentences, "{given}");
        };
        check(json!({"name": "a", "namespace": "b", "port": 1}), &[]);
        check(json!({"name": "a", "namespace": "b", "port": 1, "path": "/a/b/"}), &[]);
        check(
            json!({"port": 0, "path": "a//b_"}),
            &[
                "s.name: Required value",
                "s.namespace: Required value",
                "s.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "s.path: Invalid value: \"a//b_\": must start with a '/'",
                "s.path: Invalid value: \"a//b_\": segment[0] may not be empty",
                "s.path: Invalid value: \"a//b_\": segment[1] may not be empty",
                "s.path: Invalid value: \"a//b_\": segment[2]: a lowercase RFC 1123 subdomain must consist of lower case \
                 alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        );
    }
}
