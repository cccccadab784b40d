//! `certificatesigningrequests` of certificates.k8s.io: somebody asks a signer for a certificate.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::judgement::{Check, Judgement};
use crate::kind::{Column, Gvk, Hooks, Kind, NameRule, Occasion, Part, Selectable, Subresource, Verb, describe};
use crate::kinds::shared::{cells, conditions, difference, parts, rules, signers};
use crate::x509::{self, Request};
use crate::{meta, value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The description.
pub static KIND: Kind = Kind {
    group: "certificates.k8s.io",
    version: "v1",
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    namespaced: false,
    subresources: &[view("approval", with_approval), view("status", with_status)],
    resets: &[
        ("", &[&["spec"], &["status"]]),
        ("approval", &[&["spec"], &["status", "certificate"]]),
        ("status", &[&["spec"], &["status", "conditions"]]),
    ],
    columns: &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName").says("Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. If empty, it will be defaulted:\n 1. If it's a kubelet client certificate, it is assigned\n    \"kubernetes.io/kube-apiserver-client-kubelet\".\n 2. If it's a kubelet serving certificate, it is assigned\n    \"kubernetes.io/kubelet-serving\".\n 3. Otherwise, it is assigned \"kubernetes.io/legacy-unknown\".\nDistribution of trust for signers happens out of band. You can select on this field using `spec.signerName`."),
        Column::text("Requestor").says("Base64-encoded PKCS#10 CSR data"),
        Column::text("RequestedDuration").of("spec.expirationSeconds"),
        Column::text("Condition").says("Conditions applied to the request, such as approval or denial."),
    ],
    selectable: &[Selectable {
        name: "spec.signerName",
        value: |request| value::text(request, "spec.signerName").to_owned(),
    }],
    describe: describe::<k8s_openapi::api::certificates::v1::CertificateSigningRequest>,
    judgement: Judgement::NEW_THEN_CHANGE.of_part(&[Check::Metadata, Check::MetadataChange, Check::Object]),
    hooks: &CertificateSigningRequest,
    ..Kind::BASE
};

const fn view(name: &'static str, merge: fn(Value, &Value) -> Value) -> Subresource {
    Subresource {
        name,
        gvk: Gvk { group: "certificates.k8s.io", version: "v1", kind: "CertificateSigningRequest" },
        verbs: Verb::PART,
        part: Part::View { merge },
    }
}

const CONDITIONS: &str = "status.conditions";
const CERTIFICATE: &str = "status.certificate";
const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
/// Conditions that hold or are absent, and that nobody takes back.
const FINAL: [&str; 3] = [APPROVED, DENIED, "Failed"];
/// Whom a request of before v1 asked that named nobody.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
/// The least that may be asked for, in seconds.
const SHORTEST: i64 = 600;

/// What a certificate may be used for.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

struct CertificateSigningRequest;

impl Hooks for CertificateSigningRequest {
    fn prepare_create(&self, object: &mut Value) {
        for field in ["username", "uid", "groups", "extra"] {
            value::remove(object, &format!("spec.{field}"));
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        parts::copy(new, old, "spec");
    }

    fn stamp(&self, part: &str, new: &mut Value, old: Option<&Value>, occasion: &Occasion<'_>) {
        match (part, old) {
            ("", None) => {
                let writer = &occasion.writer;
                let spec = value::map_mut(new, "spec");
                for (field, text) in [("username", writer.name), ("uid", writer.uid)] {
                    if !text.is_empty() {
                        spec.insert(field.to_owned(), text.into());
                    }
                }
                if !writer.groups.is_empty() {
                    spec.insert("groups".to_owned(), writer.groups.into());
                }
                if !writer.extra.is_empty() {
                    spec.insert("extra".to_owned(), json!(writer.extra));
                }
            }
            ("approval" | "status", Some(old)) => times(new, old, occasion.now),
            _ => {}
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        validate(object, &Tolerance::default())
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        validate(new, &Tolerance::of(new, old))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        validate_change("", new, old)
    }

    fn validate_part(&self, part: &str, new: &Value, old: &Value) -> Errors {
        let mut errors = self.revalidate(new, old);
        errors.extend(validate_change(part, new, old));
        errors
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let duration = value::int(object, "spec.expirationSeconds").map(meta::human_duration);
        vec![
            cells::name(object),
            cells::age(object, now),
            cells::text_or(object, "spec.signerName", "<none>"),
            cells::text(object, "spec.username"),
            duration.unwrap_or_else(|| "<none>".to_owned()).into(),
            state(object).into(),
        ]
    }
}

/// The PKCS#10 request of an object.
///
/// # Errors
/// Why there is none.
pub fn request(object: &Value) -> Result<Request, String> {
    Request::read(&STANDARD.decode(value::text(object, "spec.request")).unwrap_or_default())
}

fn state(object: &Value) -> String {
    let has = |kind: &str| !of_type(object, kind).is_empty();
    let mut out = if has(DENIED) {
        "Denied"
    } else if has(APPROVED) {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        out.push_str(",Failed");
    }
    if !value::text(object, CERTIFICATE).is_empty() {
        out.push_str(",Issued");
    }
    out
}

fn of_type<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    value::items(object, CONDITIONS).iter().filter(|condition| value::text(condition, "type") == kind).collect()
}

/// `/approval`: conditions and metadata.
fn with_approval(new: Value, old: &Value) -> Value {
    let mut object = parts::status_of_new(new, old);
    let conditions = value::get(&object, CONDITIONS).cloned();
    parts::copy(&mut object, old, "status");
    match conditions {
        Some(conditions) => value::set(&mut object, CONDITIONS, conditions),
        None => drop(value::remove(&mut object, CONDITIONS)),
    }
    object
}

/// `/status`: status and metadata. The approval stays what it was, unless conditions came or went, which validation refuses.
fn with_status(new: Value, old: &Value) -> Value {
    let mut object = parts::status_of_new(new, old);
    for kind in [APPROVED, DENIED] {
        let before: Vec<Value> = of_type(old, kind).into_iter().cloned().collect();
        if before.len() == of_type(&object, kind).len() {
            let conditions = value::items_mut(&mut object, CONDITIONS).iter_mut();
            let own = conditions.filter(|condition| value::text(condition, "type") == kind);
            own.zip(before).for_each(|(own, before)| *own = before);
        }
    }
    object
}

/// Conditions without times get them.
fn times(new: &mut Value, old: &Value, now: &str) {
    for condition in value::items_mut(new, CONDITIONS) {
        let same = |other: &&Value| {
            ["type", "status"].iter().all(|field| value::text(other, field) == value::text(condition, field))
                && !value::text(other, "lastTransitionTime").is_empty()
        };
        let before = value::items(old, CONDITIONS).iter().find(same);
        let since = before.map_or(now, |condition| value::text(condition, "lastTransitionTime"));
        for (field, time) in [("lastUpdateTime", now), ("lastTransitionTime", since)] {
            if condition.is_object() && value::text(condition, field).is_empty() {
                value::set(condition, field, time);
            }
        }
    }
}

/// What an object may go on doing wrong because it did before.
#[derive(Default)]
struct Tolerance {
    legacy_signer: bool,
    approved_and_denied: bool,
    duplicate_types: bool,
    empty_type: bool,
    any_certificate: bool,
    duplicate_usages: bool,
    unknown_usages: bool,
}

impl Tolerance {
    fn of(new: &Value, old: &Value) -> Tolerance {
        let conditions = value::items(old, CONDITIONS);
        let usages = value::items(old, "spec.usages");
        let has = |kind: &str| !of_type(old, kind).is_empty();
        let kind = |condition: &'_ Value| value::text(condition, "type").to_owned();
        let certificate = value::text(old, CERTIFICATE);
        Tolerance {
            legacy_signer: value::text(old, "spec.signerName") == LEGACY_SIGNER,
            approved_and_denied: has(APPROVED) && has(DENIED),
            duplicate_types: (1..)
                .zip(conditions)
                .any(|(i, one)| conditions.iter().skip(i).any(|c| kind(c) == kind(one))),
            empty_type: conditions.iter().any(|condition| kind(condition).is_empty()),
            any_certificate: value::text(new, CERTIFICATE) == certificate || check_certificate(old).is_err(),
            duplicate_usages: (1..).zip(usages).any(|(i, one)| usages.iter().skip(i).any(|usage| usage == one)),
            unknown_usages: usages.iter().any(|usage| !is_usage(usage)),
        }
    }
}

fn is_usage(usage: &Value) -> bool {
    usage.as_str().is_some_and(|usage| USAGES.contains(&usage))
}

fn check_certificate(object: &Value) -> Result<(), String> {
    match STANDARD.decode(value::text(object, CERTIFICATE)).unwrap_or_default() {
        text if text.is_empty() => Ok(()),
        text => x509::check_certificates(&text),
    }
}

fn validate(object: &Value, tolerance: &Tolerance) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec");
    if let Err(why) = request(object).and_then(|request| request.check_signature()) {
        let shown = value::get(object, "spec.request").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&field.child("request"), shown, why));
    }
    let usages = value::items(object, "spec.usages");
    if usages.is_empty() {
        errors.push(FieldError::required(&field.child("usages"), ""));
    }
    let each = || usages.iter().enumerate().map(|(i, usage)| (field.child("usages").index(i), i, usage));
    if !tolerance.unknown_usages {
        let unknown = each().filter(|(_, _, usage)| !is_usage(usage));
        errors.extend(unknown.map(|(field, _, usage)| FieldError::not_supported(&field, usage.clone(), USAGES)));
    }
    if !tolerance.duplicate_usages {
        let again = each().filter(|(_, i, usage)| usages.iter().take(*i).any(|other| other == *usage));
        errors.extend(again.map(|(field, _, usage)| FieldError::duplicate(&field, usage.clone())));
    }
    let signer = value::text(object, "spec.signerName");
    if signer == LEGACY_SIGNER && !tolerance.legacy_signer {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(&field.child("signerName"), signer, detail));
    } else {
        signers::name(&mut errors, signer, &field.child("signerName"));
    }
    if let Some(seconds) = value::int(object, "spec.expirationSeconds").filter(|seconds| *seconds < SHORTEST) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(&field.child("expirationSeconds"), seconds, detail));
    }
    validate_conditions(&mut errors, object, tolerance);
    if !tolerance.any_certificate
        && let Err(why) = check_certificate(object)
    {
        errors.push(FieldError::invalid(&Path::new(CERTIFICATE), "<certificate data>", why));
    }
    errors
}

fn validate_conditions(errors: &mut Errors, object: &Value, tolerance: &Tolerance) {
    let list = Path::new(CONDITIONS);
    let all = value::items(object, CONDITIONS);
    for (i, condition) in all.iter().enumerate() {
        let field = list.index(i);
        let kind = value::text(condition, "type");
        let earlier = |wanted: &str| all.iter().take(i).any(|other| value::text(other, "type") == wanted);
        if kind.is_empty() && !tolerance.empty_type {
            errors.push(FieldError::required(&field.child("type"), ""));
        }
        let supported = if FINAL.contains(&kind) { &["True"] } else { conditions::STATUSES };
        rules::required_one_of(errors, condition, "status", &field, supported);
        let opposite = [(APPROVED, DENIED), (DENIED, APPROVED)].into_iter().find(|(own, _)| *own == kind);
        if !tolerance.approved_and_denied && opposite.is_some_and(|(_, other)| earlier(other)) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(&list, kind, detail));
        }
        if !tolerance.duplicate_types && earlier(kind) {
            errors.push(FieldError::duplicate(&field.child("type"), kind));
        }
    }
}

/// What may change through which part: the approval through `approval`, the certificate through `status`, once.
fn validate_change(part: &str, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let list = Path::new(CONDITIONS);
    for kind in FINAL {
        if of_type(new, kind).len() < of_type(old, kind).len() {
            errors.push(FieldError::forbidden(&list, format!("updates may not remove a condition of type {kind:?}")));
        }
    }
    for kind in [APPROVED, DENIED].into_iter().filter(|_| part != "approval") {
        let (after, before) = (of_type(new, kind), of_type(old, kind));
        if after.len() > before.len() {
            errors.push(FieldError::forbidden(&list, format!("updates may not add a condition of type {kind:?}")));
        } else if after.len() == before.len() && after != before {
            let difference = difference::unified(&json!(before), &json!(after));
            let detail = format!("updates may not modify a condition of type {kind:?}\n{difference}");
            errors.push(FieldError::forbidden(&list, detail));
        }
    }
    if value::text(new, CERTIFICATE) != value::text(old, CERTIFICATE) {
        let field = Path::new(CERTIFICATE);
        if part != "status" {
            errors.push(FieldError::forbidden(&field, "updates may not set certificate content"));
        } else if !value::text(old, CERTIFICATE).is_empty() {
            errors.push(FieldError::forbidden(&field, "updates may not modify existing certificate content"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Writer;
    use crate::kinds::shared::testing;

    /// O=devs, O=ops, CN=jane, with a name, an address, an e-mail address and a URI; P-256.
    const PEM: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
        MIIBLDCB1AIBADAsMQ0wCwYDVQQKDARkZXZzMQwwCgYDVQQKDANvcHMxDTALBgNV\n\
        BAMMBGphbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARwti74M5CWeucgtE5Y\n\
        F32RhyL4FExT3c5PSsgRIc7IOV+tSCP42I139ILtywCCc2pW9FeipAWHyQ97vjyh\n\
        /n7ZoEYwRAYJKoZIhvcNAQkOMTcwNTAzBgNVHREELDAqgg1hLmV4YW1wbGUuY29t\n\
        hwQKAAABgQVhQGIuY4YMc3BpZmZlOi8veC95MAoGCCqGSM49BAMCA0cAMEQCIAcK\n\
        T5To4Ch5nCCAugPtCdul91QE+FWSTmqPIwwFAqO/AiBWHQi/h+PeUyUcNnqfYLCP\n\
        XNNQ3FPfGISpqSDQ/lgEsQ==\n\
        -----END CERTIFICATE REQUEST-----";

    fn sound() -> Value {
        json!({"metadata": {"name": "a:b"}, "spec": {"request": STANDARD.encode(PEM), "usages": ["client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client", "username": "anna"}})
    }

    fn with(conditions: Value, certificate: &str) -> Value {
        let mut object = sound();
        value::set(&mut object, "status.conditions", conditions);
        if !certificate.is_empty() {
            value::set(&mut object, CERTIFICATE, STANDARD.encode(certificate));
        }
        object
    }

    #[test]
    fn the_request_is_read_and_its_signature_checked() {
        let request = request(&sound()).unwrap();
        assert_eq!(request.common_name(), "jane");
        assert_eq!(request.attributes(x509::ORGANIZATION).collect::<Vec<_>>(), ["devs", "ops"]);
        assert_eq!(request.dns_names, ["a.example.com"]);
        assert_eq!(request.ip_addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!((request.emails.join(","), request.uris.join(",")), ("a@b.c".into(), "spiffe://x/y".into()));
        assert_eq!(request.check_signature(), Ok(()));
        // Another subject under the same signature.
        let mut der = x509::pem(PEM.as_bytes()).remove(0).contents;
        let at = der.windows(4).position(|window| window == b"jane").unwrap();
        der[at] = b'J';
        let forged =
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----", STANDARD.encode(der));
        let forged = Request::read(forged.as_bytes()).unwrap();
        assert_eq!(forged.common_name(), "Jane");
        assert!(forged.check_signature().unwrap_err().contains("signature does not match"));
    }

    #[test]
    fn who_asks_is_written_by_the_server_and_stays() {
        let (groups, extra) = (["ops".to_owned()], [("k".to_owned(), vec!["v".to_owned()])].into());
        let writer = Writer { name: "jane", uid: "7", groups: &groups, extra: &extra };
        let mut object = sound();
        value::set(&mut object, "spec.groups", json!(["system:masters"]));
        KIND.hooks.prepare_create(&mut object);
        KIND.hooks.stamp("", &mut object, None, &Occasion { now: "1", writer, verb: "create" });
        let mut wanted = sound();
        for (field, text) in [
            ("username", json!("jane")),
            ("uid", json!("7")),
            ("groups", json!(["ops"])),
            ("extra", json!({"k": ["v"]})),
        ] {
            value::set(&mut wanted, &format!("spec.{field}"), text);
        }
        assert_eq!(object, wanted);
        let mut new = json!({"metadata": {"name": "a:b"}, "spec": {"username": "mallory"}});
        KIND.hooks.prepare_update(&mut new, &object);
        assert_eq!(new, wanted);
    }

    #[test]
    fn validation() {
        testing::invalid(&KIND, &sound(), &[]);
        let mut bad = sound();
        value::set(&mut bad, "spec.request", "");
        value::set(&mut bad, "spec.usages", json!(["client auth", "flying", "client auth"]));
        value::set(&mut bad, "spec.signerName", LEGACY_SIGNER);
        value::set(&mut bad, "spec.expirationSeconds", 599);
        let supported: Vec<String> = USAGES.iter().map(|usage| format!("{usage:?}")).collect();
        testing::invalid(
            &KIND,
            &bad,
            &[
                "spec.request: Invalid value: \"\": PEM block type must be CERTIFICATE REQUEST",
                &format!("spec.usages[1]: Unsupported value: \"flying\": supported values: {}", supported.join(", ")),
                "spec.usages[2]: Duplicate value: \"client auth\"",
                "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via \
                 this API version",
                "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
            ],
        );
        // What was wrong before may go on.
        let errors = testing::shown(&KIND.hooks.revalidate(&bad, &bad));
        assert_eq!(errors.len(), 2, "{errors:?}");
        for (signer, why) in [
            ("", "spec.signerName: Required value"),
            (
                "a",
                "spec.signerName: Invalid value: \"a\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ),
            (
                "a/b/c",
                "spec.signerName: Invalid value: \"a/b/c\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ),
            (
                "a/b",
                "spec.signerName: Invalid value: \"a\": should be a domain with at least two segments separated by dots",
            ),
            (
                "A.b/c",
                "spec.signerName: Invalid value: \"A.b\": validating label \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
        ] {
            let mut object = sound();
            value::set(&mut object, "spec.signerName", signer);
            testing::invalid(&KIND, &object, &[why]);
        }
        testing::invalid(
            &KIND,
            &with(
                json!([{"type": "Approved", "status": "False"}, {"status": "x"}, {"type": "Denied", "status": "True"},
                {"type": "Denied"}]),
                "x",
            ),
            &[
                "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"",
                "status.conditions[1].type: Required value",
                "status.conditions[1].status: Unsupported value: \"x\": supported values: \"False\", \"True\", \"Unknown\"",
                "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
                "status.conditions[3].status: Required value",
                "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
                "status.conditions[3].type: Duplicate value: \"Denied\"",
                "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
            ],
        );
    }

    #[test]
    fn approval_and_certificate_have_their_own_ways() {
        let approved = json!([{"type": "Approved", "status": "True", "reason": "r"}]);
        let old = with(json!([]), "");
        let new = with(approved.clone(), "");
        let part = |part: &str, new: &Value, old: &Value| testing::shown(&KIND.hooks.validate_part(part, new, old));
        assert_eq!(part("approval", &new, &old), [""; 0]);
        let added = "status.conditions: Forbidden: updates may not add a condition of type \"Approved\"";
        assert_eq!(part("status", &new, &old), [added]);
        testing::invalid_update(&KIND, &new, &old, &[added]);
        let removed = "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"";
        assert_eq!(part("approval", &old, &new), [removed]);
        assert_eq!(part("status", &old, &new), [removed]);
        let mut other = new.clone();
        value::set(&mut other, CONDITIONS, json!([{"type": "Approved", "status": "True", "reason": "s"}]));
        assert!(
            part("status", &other, &new)[0].starts_with(
                "status.conditions: Forbidden: updates may not modify a condition of type \"Approved\"\n@@"
            )
        );
        // The status keeps the approval before it is judged.
        assert_eq!(with_status(other.clone(), &new), new);
        let (issued, renewed) = (with(approved.clone(), "x"), with(approved, "y"));
        let content = |why: &str| format!("status.certificate: Forbidden: updates may not {why} certificate content");
        assert_eq!(part("approval", &issued, &new).last(), Some(&content("set")));
        assert_eq!(part("status", &renewed, &issued), [content("modify existing")]);
        // The approval does not carry a certificate.
        assert_eq!(with_approval(issued, &new), new);
    }

    #[test]
    fn conditions_get_their_times() {
        let old = with(json!([{"type": "X", "status": "True", "lastTransitionTime": "1", "lastUpdateTime": "1"}]), "");
        let mut new = with(
            json!([{"type": "X", "status": "True"}, {"type": "Failed", "status": "True", "lastUpdateTime": "2"}]),
            "",
        );
        KIND.hooks.stamp("status", &mut new, Some(&old), &testing::occasion("3"));
        assert_eq!(
            new["status"]["conditions"],
            json!([{"type": "X", "status": "True", "lastTransitionTime": "1", "lastUpdateTime": "3"},
                {"type": "Failed", "status": "True", "lastTransitionTime": "3", "lastUpdateTime": "2"}])
        );
    }

    #[test]
    fn rows() {
        let mut object = sound();
        let signer = "kubernetes.io/kube-apiserver-client";
        testing::row(&KIND, &object, &json!(["a:b", "<unknown>", signer, "anna", "<none>", "Pending"]));
        value::set(&mut object, "spec.expirationSeconds", 86_400);
        value::set(&mut object, CERTIFICATE, "eA==");
        value::set(&mut object, CONDITIONS, json!([{"type": "Approved"}, {"type": "Failed"}]));
        let shown = json!(["a:b", "<unknown>", signer, "anna", "24h", "Approved,Failed,Issued"]);
        testing::row(&KIND, &object, &shown);
        value::set(&mut object, CONDITIONS, json!([{"type": "Approved"}, {"type": "Denied"}]));
        assert_eq!(state(&object), "Denied,Issued");
    }
}
