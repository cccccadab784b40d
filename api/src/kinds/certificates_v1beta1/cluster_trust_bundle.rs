//! `clustertrustbundles` of certificates.k8s.io: certificates that pods may trust, of a signer or of nobody.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-3257.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, Selectable, describe};
use crate::kinds::shared::labels::invalid;
use crate::kinds::shared::{cells, rules, signers};
use crate::x509::{self, keys};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "certificates.k8s.io",
    version: "v1beta1",
    kind: "ClusterTrustBundle",
    plural: "clustertrustbundles",
    singular: "clustertrustbundle",
    namespaced: false,
    unconditional_update: false,
    gate: Some("ClusterTrustBundle"),
    columns: &[Column::NAME, Column::text("SignerName").of("spec.signerName")],
    selectable: &[Selectable { name: SIGNER, value: |bundle| value::text(bundle, SIGNER).to_owned() }],
    describe: describe::<k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &ClusterTrustBundle,
    ..Kind::BASE
};

struct ClusterTrustBundle;

const SIGNER: &str = "spec.signerName";
const BUNDLE: &str = "spec.trustBundle";
/// The longest bundle, in bytes.
const LONGEST: usize = 1024 * 1024;
/// What stands in errors for the bundle.
const OMITTED: &str = "<value omitted>";

impl Hooks for ClusterTrustBundle {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = signer(object);
        errors.extend(bundle(value::text(object, BUNDLE)));
        errors
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        let name = meta::name(new);
        invalid(&mut errors, &Path::new("metadata.name"), name, self.name_errors(new, name, false));
        errors.extend(signer(new));
        if value::text(new, BUNDLE) != value::text(old, BUNDLE) {
            errors.extend(bundle(value::text(new, BUNDLE)));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_text(&mut errors, new, old, SIGNER);
        errors
    }

    fn name_errors(&self, object: &Value, name: &str, prefix: bool) -> Vec<String> {
        let signer = value::text(object, SIGNER);
        if signer.is_empty() {
            if name.contains(':') {
                return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
            }
            return crate::meta_validation::name(self.name_rule(), name, prefix);
        }
        let start = format!("{}:", signer.replace('/', ":"));
        match name.strip_prefix(&start) {
            Some(rest) => crate::meta_validation::name(self.name_rule(), rest, prefix),
            None => vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {start}")],
        }
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        vec![cells::name(object), cells::text_or(object, SIGNER, "<none>")]
    }
}

fn signer(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let name = value::text(object, SIGNER);
    if !name.is_empty() {
        signers::name(&mut errors, name, &Path::new(SIGNER));
    }
    errors
}

/// Certificates of authorities, each of them once, and nothing else.
fn bundle(text: &str) -> Errors {
    let field = Path::new(BUNDLE);
    if text.len() > LONGEST {
        return vec![FieldError::too_long(&field, LONGEST)];
    }
    let wrong = |detail: String| FieldError::invalid(&field, OMITTED, detail);
    let blocks = x509::pem(text.as_bytes());
    let mut errors = Errors::new();
    for (i, block) in blocks.iter().enumerate() {
        if block.label != "CERTIFICATE" {
            errors.push(wrong(format!("entry {i} has bad block type: {}", block.label)));
        } else if block.has_headers {
            errors.push(wrong(format!("entry {i} has PEM block headers")));
        } else if let Err(why) = keys::check_authority(&block.contents) {
            errors.push(wrong(format!("entry {i} {why}")));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    if blocks.is_empty() {
        errors.push(wrong("at least one trust anchor must be provided".to_owned()));
    }
    for (i, block) in blocks.iter().enumerate() {
        let same = |at: &usize| blocks.get(*at).is_some_and(|other| other.contents == block.contents);
        if (0..i).any(|at| same(&at)) {
            continue;
        }
        let all: Vec<String> = (i..blocks.len()).filter(same).map(|at| at.to_string()).collect();
        if all.len() > 1 {
            errors.push(wrong(format!("duplicate trust anchor (indices [{}])", all.join(" "))));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::{self, AUTHORITY};

    /// A certificate of somebody else.
    const LEAF: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBcjCCARigAwIBAgIUJOM6Hd0+N9l93ROuGaziWgMJ55swCgYIKoZIzj0EAwIw\n\
        DzENMAsGA1UEAwwEbGVhZjAgFw0yNjExMjExNzA1MzlaGA8yMTI2MTAyODE3MDUz\n\
        OVowDzENMAsGA1UEAwwEbGVhZjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABO5U\n\
        brgowlgHdJeTWKe+9WJbdeUvtEPmzWVX2WqDtA5cPHCd4ZkHylWdGvQACFPb5lv2\n\
        FtPMmupOh0Fo8GSMFEijUDBOMB0GA1UdDgQWBBQ0ZqT6AFhBNUlxmb24doLCA8hs\n\
        /zAfBgNVHSMEGDAWgBQ0ZqT6AFhBNUlxmb24doLCA8hs/zAMBgNVHRMBAf8EAjAA\n\
        MAoGCCqGSM49BAMCA0gAMEUCIH4VT29cOmrJPm5oOfo9rV5L99oJQ3h/8yFXQ2Vr\n\
        aS+aAiEAvdgTvUU6+CNzz/W3DR+2ya9pyRWi0JAAOH0p+pjr/gU=\n\
        -----END CERTIFICATE-----\n";

    fn of(signer: &str, bundle: &str) -> Value {
        json!({"metadata": {"name": "b"}, "spec": {"signerName": signer, "trustBundle": bundle}})
    }

    #[test]
    fn bundles() {
        let (twice, both) = (format!("{AUTHORITY}{AUTHORITY}"), format!("text\n{AUTHORITY}{LEAF}"));
        for (bundle, sentences) in [
            (AUTHORITY, &[][..]),
            ("", &["spec.trustBundle: Invalid value: \"<value omitted>\": at least one trust anchor must be provided"]),
            (
                "-----BEGIN X-----\nAA==\n-----END X-----\n-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
                &[
                    "spec.trustBundle: Invalid value: \"<value omitted>\": entry 0 has bad block type: X",
                    "spec.trustBundle: Invalid value: \"<value omitted>\": entry 1 does not parse as X.509",
                ],
            ),
            (
                "-----BEGIN CERTIFICATE-----\nA: b\n\nAA==\n-----END CERTIFICATE-----\n",
                &["spec.trustBundle: Invalid value: \"<value omitted>\": entry 0 has PEM block headers"],
            ),
            (&twice, &["spec.trustBundle: Invalid value: \"<value omitted>\": duplicate trust anchor (indices [0 1])"]),
            (&both, &["spec.trustBundle: Invalid value: \"<value omitted>\": entry 1 does not have the CA bit set"]),
        ] {
            testing::invalid(&KIND, &of("", bundle), sentences);
            assert!(KIND.hooks.revalidate(&of("", bundle), &of("", bundle)).is_empty());
        }
        testing::invalid(
            &KIND,
            &of("a", AUTHORITY),
            &["spec.signerName: Invalid value: \"a\": must be a fully qualified domain and path of the form \
                 'example.com/signer-name'"],
        );
        testing::invalid_update(
            &KIND,
            &of("a.b/c", ""),
            &of("", ""),
            &["spec.signerName: Invalid value: \"a.b/c\": field is immutable"],
        );
    }

    #[test]
    fn names_begin_with_the_signer() {
        for (signer, name, sentence) in [
            ("", "a.b", ""),
            ("", "a:b", "ClusterTrustBundle without signer name must not have \":\" in its name"),
            ("a.b/c", "a.b:c:d", ""),
            ("a.b/c", "d", "ClusterTrustBundle for signerName a.b/c must be named with prefix a.b:c:"),
            ("a.b/c", "a.b:c:D", "a lowercase RFC 1123 subdomain must consist"),
        ] {
            let object = json!({"metadata": {"name": name}, "spec": {"signerName": signer}});
            let found = testing::shown(&testing::metadata(&object, &KIND)).join("; ");
            assert!(found.contains(sentence) && found.is_empty() == sentence.is_empty(), "{name}: {found}");
        }
    }

    #[test]
    fn row() {
        testing::row(&KIND, &of("", ""), &json!(["b", "<none>"]));
        testing::row(&KIND, &of("a.b/c", ""), &json!(["b", "a.b/c"]));
    }
}
