//! `podcertificaterequests` of certificates.k8s.io: a kubelet asks a signer for a certificate of a pod.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-4317.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Text, Value, json};
use crate::kind::{Column, Hooks, Kind, Selectable, describe};
use crate::kinds::shared::labels::{self, invalid};
use crate::kinds::shared::{cells, conditions, names, parts, rules, signers};
use crate::x509::keys::{Key, KeyKind, Leaf};
use crate::{meta, value, x509};
use base64::Engine as _;

/// The description.
pub static KIND: Kind = Kind {
    group: "certificates.k8s.io",
    version: "v1beta1",
    kind: "PodCertificateRequest",
    plural: "podcertificaterequests",
    singular: "podcertificaterequest",
    unconditional_update: false,
    subresources: &[parts::status_only("certificates.k8s.io", "v1beta1", "PodCertificateRequest")],
    gate: Some("PodCertificateRequest"),
    columns: &[
        Column::NAME,
        Column::text("PodName").of("spec.podName"),
        Column::text("ServiceAccountName").of("spec.serviceAccountName"),
        Column::text("NodeName").of("spec.nodeName"),
        Column::text("SignerName").of("spec.signerName"),
        Column::text("State").says("Is the request Pending, Issued, Denied, or Failed?"),
        Column::text("UnverifiedUserAnnotations").of("spec.unverifiedUserAnnotations"),
    ],
    selectable: &[
        Selectable { name: "spec.signerName", value: |request| value::text(request, "spec.signerName").to_owned() },
        Selectable { name: "spec.podName", value: |request| value::text(request, "spec.podName").to_owned() },
        Selectable { name: "spec.nodeName", value: |request| value::text(request, "spec.nodeName").to_owned() },
    ],
    describe: describe::<k8s_openapi::api::certificates::v1beta1::PodCertificateRequest>,
    hooks: &PodCertificateRequest,
    ..Kind::BASE
};

struct PodCertificateRequest;

/// How a request ends.
const ENDS: &[&str] = &["Issued", "Denied", "Failed"];
/// The longest key, proof or request, in bytes.
const LONGEST_KEY: usize = 10 * 1024;
/// The longest chain, in bytes.
const LONGEST_CHAIN: usize = 100 * 1024;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// The longest and shortest time between a certificate's begin or end and its renewal.
const MARGIN: i64 = 600;

impl Hooks for PodCertificateRequest {
    fn validate(&self, object: &Value) -> Errors {
        spec(object.get("spec").unwrap_or(&Value::Null))
    }

    fn revalidate(&self, _new: &Value, _old: &Value) -> Errors {
        // Nothing may change.
        Errors::new()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_struct(&mut errors, new, old, "spec", "PodCertificateRequestSpec");
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, old: &Value) -> Errors {
        let errors = ends(value::items(new, "status.conditions"));
        if errors.is_empty() { status(new, old) } else { errors }
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        let list = value::items(object, "status.conditions");
        let state = list.iter().map(|condition| value::text(condition, "type")).rfind(|kind| ENDS.contains(kind));
        let mut row = vec![cells::name(object)];
        row.extend(
            ["podName", "serviceAccountName", "nodeName", "signerName"]
                .map(|name| cells::text(object, &format!("spec.{name}"))),
        );
        row.push(state.unwrap_or("Pending").into());
        row.push(labels::shown(value::get(object, "spec.unverifiedUserAnnotations")).into());
        row
    }
}

fn spec(spec: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec");
    let signer = value::text(spec, "signerName");
    signers::name(&mut errors, signer, &field.child("signerName"));
    annotations(&mut errors, spec, &field.child("unverifiedUserAnnotations"));
    for kind in ["pod", "serviceAccount", "node"] {
        let name = format!("{kind}Name");
        let text = value::text(spec, &name);
        invalid(&mut errors, &field.child(&name), text, names::dns_subdomain(text));
        let name = format!("{kind}UID");
        let (text, field) = (value::text(spec, &name), field.child(&name));
        if text.is_empty() {
            errors.push(FieldError::invalid(&field, "", "must not be empty"));
        }
        if text.len() > 128 {
            errors.push(FieldError::too_long(&field, 128));
        }
    }
    let at = field.child("maxExpirationSeconds");
    let Some(seconds) = value::int(spec, "maxExpirationSeconds") else {
        errors.push(FieldError::required(&at, "must be set"));
        return errors;
    };
    let longest = if signers::is_kubernetes(signer) { DAY } else { 91 * DAY };
    if !(HOUR..=longest).contains(&seconds) {
        errors.push(FieldError::invalid(&at, seconds, format!("must be in the range [{HOUR}, {longest}]")));
    }
    let bytes = |name| decoded(value::text(spec, name));
    let (request, key, proof) = (bytes("stubPKCS10Request"), bytes("pkixPublicKey"), bytes("proofOfPossession"));
    errors.extend(match (request.is_empty(), key.is_empty(), proof.is_empty()) {
        (false, true, true) => stub(&request).err(),
        (true, false, false) => key_and_proof(spec, &key, &proof).err(),
        _ => {
            let detail = "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
            Some(FieldError::invalid_whole(&field, detail))
        }
    });
    errors
}

fn decoded(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
}

/// Keys have a domain; all together are not too large.
fn annotations(errors: &mut Errors, spec: &Value, field: &Path) {
    let all = labels::map(spec, "unverifiedUserAnnotations");
    for key in all.into_iter().flat_map(Map::keys) {
        let key = key.to_lowercase();
        let messages = names::qualified_name(&key);
        if key.is_empty() {
            errors.push(FieldError::required(field, ""));
        } else if messages.is_empty() && !key.contains('/') {
            let detail = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(field, key, detail));
        } else {
            invalid(errors, field, &key, messages);
        }
    }
    const MOST: usize = 256 * 1024;
    let length = |(key, value): (&Text, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if all.into_iter().flatten().map(length).sum::<usize>() > MOST {
        errors.push(FieldError::too_long(field, MOST));
    }
}

/// Why a key of this kind gets no certificate.
fn unfit(kind: KeyKind, field: &Path, curves: &str) -> Result<(), FieldError> {
    match kind {
        KeyKind::Ed25519 | KeyKind::Ecdsa("P-256" | "P-384" | "P-521") | KeyKind::Rsa(3072 | 4096) => Ok(()),
        KeyKind::Ecdsa(curve) => {
            let detail = format!("elliptic public keys must use curve {curves}");
            Err(FieldError::invalid(field, format!("curve {curve}"), detail))
        }
        KeyKind::Rsa(bits) => Err(FieldError::invalid(
            field,
            format!("{bits}-bit modulus"),
            "RSA keys must have modulus size 3072 or 4096",
        )),
        KeyKind::Other => Err(FieldError::invalid_whole(
            field,
            "unknown public key type; supported types are Ed25519, ECDSA, and RSA",
        )),
    }
}

fn stub(request: &[u8]) -> Result<(), FieldError> {
    let field = Path::new("spec.stubPKCS10Request");
    if request.len() > LONGEST_KEY {
        return Err(FieldError::too_long(&field, LONGEST_KEY));
    }
    let wrong = || FieldError::invalid_whole(&field, "must be a valid PKCS#10 CSR");
    let key = Key::of_request(request).ok_or_else(wrong)?;
    unfit(key.kind, &field, "P256, P384, or P521")?;
    let read = x509::Request::of_der(request.to_vec()).map_err(|_| wrong())?;
    read.check_signature().map_err(|_| FieldError::invalid_whole(&field, "invalid signature"))
}

fn key_and_proof(spec: &Value, key: &[u8], proof: &[u8]) -> Result<(), FieldError> {
    let (of_key, of_proof) = (Path::new("spec.pkixPublicKey"), Path::new("spec.proofOfPossession"));
    for (field, bytes) in [(&of_key, key), (&of_proof, proof)] {
        if bytes.len() > LONGEST_KEY {
            return Err(FieldError::too_long(field, LONGEST_KEY));
        }
    }
    let Some(key) = Key::of_pkix(key) else {
        let shown = value::text(spec, "pkixPublicKey");
        return Err(FieldError::invalid(&of_key, shown, "must be a valid PKIX-serialized public key"));
    };
    unfit(key.kind, &of_key, "P256 or P384")?;
    if key.verifies(value::text(spec, "podUID").as_bytes(), proof) {
        return Ok(());
    }
    Err(FieldError::invalid_whole(&of_proof, "could not verify proof-of-possession signature"))
}

/// At most one end, and only ends.
fn ends(list: &[Value]) -> Errors {
    let mut errors = Errors::new();
    let mut known = 0;
    for (i, condition) in list.iter().enumerate() {
        // The dot before the bracket is upstream's.
        let field = Path::new("status.conditions").child(&format!("[{i}]"));
        let (kind, status) = (value::text(condition, "type"), value::text(condition, "status"));
        if !ENDS.contains(&kind) {
            errors.push(FieldError::not_supported_as_listed(&field.child("type"), kind, ENDS));
            continue;
        }
        known += 1;
        if known > 1 {
            let detail = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.push(FieldError::invalid(&field.child("type"), kind, detail));
        }
        if status != "True" {
            errors.push(FieldError::not_supported(&field.child("status"), status, &["True"]));
        }
    }
    errors.extend(conditions::validate(list, &Path::new("status.conditions")));
    errors
}

fn status(new: &Value, old: &Value) -> Errors {
    let field = Path::new("status");
    let is = |object, kind| conditions::is(object, kind, "True");
    let same = |a: &Value, b: &Value| {
        let part = |object: &Value, name: &str| value::get(object, name).filter(|part| !rules::is_zero(part)).cloned();
        let parts = ["conditions", "certificateChain", "notBefore", "beginRefreshAt", "notAfter"];
        parts.iter().all(|name| part(a, &format!("status.{name}")) == part(b, &format!("status.{name}")))
    };
    let unless = |fine: bool, detail: &str| {
        if fine { Errors::new() } else { vec![FieldError::invalid_whole(&field, detail)] }
    };
    if ENDS.iter().any(|kind| is(old, kind)) {
        return unless(same(new, old), "immutable after PodCertificateRequest is issued, denied, or failed");
    }
    if is(new, "Denied") || is(new, "Failed") {
        let bare = json!({"status": {"conditions": value::items(new, "status.conditions")}});
        let detail = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
        return unless(same(new, &bare), detail);
    }
    if is(new, "Issued") {
        return issued(new, old);
    }
    unless(same(new, old), "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"")
}

fn issued(new: &Value, old: &Value) -> Errors {
    let field = Path::new("status.certificateChain");
    let chain = value::text(new, "status.certificateChain");
    let wrong = |detail: &str| vec![FieldError::invalid(&field, chain, detail)];
    if chain.len() > LONGEST_CHAIN {
        return vec![FieldError::too_long(&field, LONGEST_CHAIN)];
    }
    let blocks = x509::pem(chain.as_bytes());
    let Some((first, further)) = blocks.split_first() else {
        return wrong("issued certificate chain must contain at least one certificate");
    };
    if first.label != "CERTIFICATE" {
        return wrong("issued certificate chain must consist entirely of CERTIFICATE PEM blocks");
    }
    let Some(leaf) = Leaf::read(&first.contents) else {
        return wrong("leaf certificate does not parse as valid X.509");
    };
    let mut errors = alternative_names(&leaf, &field);
    let wanted = match decoded(value::text(old, "spec.stubPKCS10Request")) {
        request if !request.is_empty() => Key::of_request(&request),
        _ => Key::of_pkix(&decoded(value::text(old, "spec.pkixPublicKey"))),
    };
    if wanted.is_none() || wanted != leaf.key {
        errors.extend(wrong("leaf certificate was not issued to the requested public key"));
        return errors;
    }
    errors.extend(times(new, &leaf, &field));
    if !errors.is_empty() {
        return errors;
    }
    for block in further {
        if block.label != "CERTIFICATE" {
            // Spelled as upstream spells it.
            return wrong("issued certificate chain must consist entirely of CERTFICATE PEM blocks");
        }
        if Leaf::read(&block.contents).is_none() {
            return wrong("intermediate certificate does not parse as valid X.509");
        }
    }
    errors
}

fn alternative_names(leaf: &Leaf, field: &Path) -> Errors {
    let mut errors = Errors::new();
    for host in &leaf.hosts {
        for (broken, detail) in [
            (host.is_empty(), "leaf certificate should not contain empty DNSName"),
            (host.contains(".."), "leaf certificate's DNSName should not contain '..'"),
            (
                host.starts_with('.') || host.ends_with('.'),
                "leaf certificate's DNSName should not start or end with '.'",
            ),
        ] {
            if broken {
                errors.push(FieldError::invalid(field, host.as_str(), detail));
            }
        }
    }
    let is_mail = |text: &str| {
        let fine = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && b != b'@');
        text.rsplit_once('@').is_some_and(|(local, domain)| fine(local) && fine(domain))
    };
    for mail in leaf.emails.iter().filter(|mail| !is_mail(mail)) {
        let detail = "leaf certificate should not contain invalid EmailAddress";
        errors.push(FieldError::invalid(field, mail.as_str(), detail));
    }
    errors
}

/// The times agree with the certificate and leave room for a renewal.
fn times(new: &Value, leaf: &Leaf, chain: &Path) -> Errors {
    let text = |name: &str| value::text(new, &format!("status.{name}"));
    let at = |name: &str| Path::new("status").child(name);
    let mut errors = Errors::new();
    for (name, detail) in [
        ("notBefore", "must be present and consistent with the issued certificate"),
        ("notAfter", "must be present and consistent with the issued certificate"),
        ("beginRefreshAt", "must be present and in the range [notbefore+10min, notafter-10min]"),
    ] {
        if text(name).is_empty() {
            errors.push(FieldError::required(&at(name), detail));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    let seconds = |name: &str| meta::seconds(text(name)).unwrap_or_default();
    let (before, after, refresh) = (seconds("notBefore"), seconds("notAfter"), seconds("beginRefreshAt"));
    let one = |name: &str, detail: &str| vec![FieldError::invalid(&at(name), text(name), detail)];
    let lifetime = leaf.not_after - leaf.not_before;
    let most = value::int(new, "spec.maxExpirationSeconds").unwrap_or_default();
    // Go shows a duration in nanoseconds.
    let too_odd = |detail: String| vec![FieldError::invalid(chain, lifetime * 1_000_000_000, detail)];
    if before != leaf.not_before {
        one("notBefore", "must be set to the NotBefore time encoded in the leaf certificate")
    } else if after != leaf.not_after {
        one("notAfter", "must be set to the NotAfter time encoded in the leaf certificate")
    } else if lifetime < HOUR {
        too_odd("leaf certificate lifetime must be >= 1 hour".to_owned())
    } else if lifetime > most {
        too_odd(format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})"))
    } else if refresh < before + MARGIN {
        one("beginRefreshAt", "must be at least 10 minutes after status.notBefore")
    } else if refresh > after - MARGIN {
        one("beginRefreshAt", "must be at least 10 minutes before status.notAfter")
    } else {
        Errors::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing::{self, AUTHORITY};

    /// An Ed25519 key.
    const ED: &str = "MCowBQYDK2VwAyEAs4CQ4ysVKb/D+FH/xEG+1TT46Qfb1/QCD4RQdhv741E=";
    /// `uid-1`, signed with it.
    const ED_PROOF: &str = "ngBgZC+39OXqA8eC3xquCT8c0vZ8p9b/tiPax2FkPGNSqasqJIzgvDO9vCGw2DfRu4bHBH2n3oN+ECY3ZYAaCQ==";
    /// An empty request with it.
    const ED_STUB: &str = "MH8wMwIBADAAMCowBQYDK2VwAyEAs4CQ4ysVKb/D+FH/xEG+1TT46Qfb1/QCD4RQdhv741GgADAFBgMrZXADQQCnW2awXbKW3KHqqS+59x2xAH\
        UkWDRkxqTrT1RZOl/G6S2MTziJeDunnw8cz8PaHJOaW0guK67n7g4DgiCPZfgE";
    /// A certificate for it: a day from 2026-11-21T17:10:16Z.
    const ED_LEAF: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBPjCB5aADAgECAgEHMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCWF1dGhvcml0\n\
        eTAeFw0yNjExMjExNzEwMTZaFw0yNjExMjIxNzEwMTZaMAwxCjAIBgNVBAMMAXgw\n\
        KjAFBgMrZXADIQCzgJDjKxUpv8P4Uf/EQb7VNPjpB9vX9AIPhFB2G/vjUaNfMF0w\n\
        GwYDVR0RBBQwEoIJYS5leGFtcGxlgQVhQGIuYzAdBgNVHQ4EFgQU01mEoGCdjOFh\n\
        RUawlOt+79+6zaQwHwYDVR0jBBgwFoAUNGak+gBYQTVJcZm9uHaCwgPIbP8wCgYI\n\
        KoZIzj0EAwIDSAAwRQIhAJuugm6Ur9ezekQlu8vmBQHrm2wmW26Bi6vEmtYLdTnI\n\
        AiAq9bVRbxz6XY/Y72oQJqGzI2nzw4P9rtTc8Ys2JSJ+DA==\n\
        -----END CERTIFICATE-----\n";
    /// A key on P-256.
    const P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7lRuuCjCWAd0l5NYp771Ylt15S+0Q+bNZVfZaoO0Dlw8cJ3hmQfKVZ0a9AAIU9vmW/YW08ya6k\
        6HQWjwZIwUSA==";
    /// `uid-1`, signed with it.
    const P256_PROOF: &str =
        "MEUCIQDZsxz3jUmt4u9/IRNYjYBN9Z/gsmMIgeUk6/tZh9VGqQIgGlL2y2PwwEpcerQ7AstIX1APonOFDLwztXf6QeR3Yww=";
    /// A key on P-224.
    const P224: &str =
        "ME4wEAYHKoZIzj0CAQYFK4EEACEDOgAEahqhjEWemqkQiXTaDG4Rs9xqciQqeV4YQR0DvDTztUyzPrJjnBkaed+asc4rxFauyIKfDNYIN4Y=";
    /// An RSA key of 3072 bits.
    const RSA: &str = "MIIBojANBgkqhkiG9w0BAQEFAAOCAY8AMIIBigKCAYEAroZqOO2SapzVE3lTc7wZaMq0OcIr1VgAnRJg30neRwNJNJn7xFHhAaoLmiqaJpyHAB\
        K4dV6xNve8zPf8E0HHRQXBB6YMPHLHkMU9tgm3xL1eAR4DHI95GcoWtVtBhTmjdSrviaoP9LdbZLRGxIyJavt9CZ0J6JdTLuyqPP1nq9oHG9x5\
        d5qjB/4AFkOtZwSDCqBv6mGHPBOMLGDqWdnq7SjBh3XKkqE8oHOsLhNHJavfE79zminVfxBcujCs7S+pyNQwgOIMSFJxTvJIfLkleHAEHMkoeo\
        +jsIuN6lFRnQKhkvYahk5hOlRMevUFDWoISijkxZ4FK2M3lXNzt2/eTe52qcdKFt6r6k/HlgwJeLjBPBftRHslurEGlELX3dtbaNbROlGflC+Y\
        6H8ubl0LRtmpaVCjaYeHqIoHjxItBLZV5zUk3SCisOyGQbQMTD8ubL/rpJ+ef8VskgbAwaPQaCXiByBZag+HeI8QzwFyNEcausSwLV06GJ7BGt\
        OWKVsTAgMBAAE=";
    /// `uid-1`, signed with it.
    const RSA_PROOF: &str = "CjZjFalBYmSXWYnkkWL2jeB7aRxfdcdFdmfd9z/GM3dkI0jNflTDylWQ311xOCEQRme3tFSlTIutslQoCkLApmmq6F4R2WHqCqIYD2MOUt0azv\
        5TPCkHsehZ+zpcp2YX8bpnkH4DNhUFaHn431CSNaDcZzFo39V99dJQtVMik0t6IqhBaR1THzQCer/PC+mvMUmH+7CvtHQ9NeVG/B/19jlClJJz\
        9J7UJyn9IY3fDJJ76jmr4jhE9YgeW8nC7chYGoTwR1DspkGrJnb7gnwpdVdKi4dAGLeZFaOmA7yT5ZQiL41XgnHkiKSfmiFEgINOIxWeRz0dD7\
        hvfSHAmsj/CPCxzvF1I8TLB8LXGS8fajQIrU2GGjLuhldMWDG+2OaHzgW50GuCtfBQoEI+djjILbIFaH37mr5x+NmdE1NAGqwD2bQgTVuu9bgp\
        VAjb2fAhgUZbuWa/oH7qOAo9vapz1fTiKH5wwmiPXWzaCPSN9/YiJoEO8/6cZSnuPVYSj/+E";
    /// An RSA key of 2048 bits.
    const SHORT: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAlqHkMz3FnhIQGwOa86bdPuZ7r5JazfPxP+WRLebZwQLCjzOvsvT5PJ6eCp/NVExTHg\
        uP8r4kmiw8aKmxHX8eWo8y4PLGdDiOkiNuyzeDCUwieJOL/GkSSBeV8ZfdEeUHoLW97hiyqJqqqOEGssHGktProO7AELRymoG1zdLdwmNj7Uba\
        v7eUugm793J4ImA4Oq50JiQEH3fCiduad3Ospv9yPQAjJUjZOIlaAB0MFwpcIUfuCKv6Vgc8SS/pviyhiDR/rckjs2mYyi/K8+b+pumbu7CDP0\
        Eyrx5kxUIm623k3KGgqxMUzJR6+gU7Es9e/bxFUk5uEfm2spUMNezHmwIDAQAB";

    fn of(parts: &Value) -> Value {
        let mut object = json!({"metadata": {"name": "r", "namespace": "n"}, "spec": {"signerName": "a.b/c", "podName": "p",
            "podUID": "uid-1", "serviceAccountName": "s", "serviceAccountUID": "uid-2", "nodeName": "n", "nodeUID": "uid-3",
            "maxExpirationSeconds": 86400}});
        for (name, part) in parts.as_object().unwrap() {
            value::set(&mut object, &format!("spec.{name}"), part.clone());
        }
        object
    }

    fn with(key: &str, proof: &str) -> Value {
        json!({"pkixPublicKey": key, "proofOfPossession": proof})
    }

    #[test]
    fn keys_are_good_and_held() {
        let both = json!({"stubPKCS10Request": ED_STUB, "pkixPublicKey": ED, "proofOfPossession": ED_PROOF});
        let one =
            "spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
        let unverified = "spec.proofOfPossession: Invalid value: could not verify proof-of-possession signature";
        let mut torn = base64::engine::general_purpose::STANDARD.decode(ED_STUB).unwrap();
        *torn.last_mut().unwrap() ^= 1;
        let torn = base64::engine::general_purpose::STANDARD.encode(torn);
        for (parts, sentences) in [
            (with(ED, ED_PROOF), &[][..]),
            (with(P256, P256_PROOF), &[]),
            (with(RSA, RSA_PROOF), &[]),
            (json!({"stubPKCS10Request": ED_STUB}), &[]),
            (json!({"stubPKCS10Request": torn}), &["spec.stubPKCS10Request: Invalid value: invalid signature"]),
            (
                json!({"stubPKCS10Request": "AAAA"}),
                &["spec.stubPKCS10Request: Invalid value: must be a valid PKCS#10 CSR"],
            ),
            (json!({}), &[one]),
            (both, &[one]),
            (with(ED, P256_PROOF), &[unverified]),
            (with(P256, RSA_PROOF), &[unverified]),
            (with(RSA, ED_PROOF), &[unverified]),
            (
                with("AAAA", ED_PROOF),
                &["spec.pkixPublicKey: Invalid value: \"AAAA\": must be a valid PKIX-serialized public key"],
            ),
            (
                with(P224, ED_PROOF),
                &[
                    "spec.pkixPublicKey: Invalid value: \"curve P-224\": elliptic public keys must use curve P256 or P384",
                ],
            ),
            (
                with(SHORT, ED_PROOF),
                &[
                    "spec.pkixPublicKey: Invalid value: \"2048-bit modulus\": RSA keys must have modulus size 3072 or 4096",
                ],
            ),
        ] {
            testing::invalid(&KIND, &of(&parts), sentences);
        }
    }

    #[test]
    fn who_and_how_long() {
        let check = |name: &str, part: Value, sentences: &[&str]| {
            let mut parts = with(ED, ED_PROOF);
            value::set(&mut parts, name, part);
            testing::invalid(&KIND, &of(&parts), sentences);
        };
        check("nodeUID", json!(""), &["spec.nodeUID: Invalid value: \"\": must not be empty"]);
        check("nodeUID", "x".repeat(129).into(), &["spec.nodeUID: Too long: may not be more than 128 bytes"]);
        check(
            "maxExpirationSeconds",
            json!(3599),
            &["spec.maxExpirationSeconds: Invalid value: 3599: must be in the range [3600, 7862400]"],
        );
        check("maxExpirationSeconds", json!(null), &["spec.maxExpirationSeconds: Required value: must be set"]);
        check("signerName", json!("kubernetes.io/x"), &[]);
        check("unverifiedUserAnnotations", json!({"A.io/b": "c"}), &[]);
        check(
            "unverifiedUserAnnotations",
            json!({"b": "c"}),
            &[
                "spec.unverifiedUserAnnotations: Invalid value: \"b\": must be a domain-prefixed key (such as \"acme.io/foo\")",
            ],
        );
        let mut long = of(&with(ED, ED_PROOF));
        value::set(&mut long, "spec.signerName", "x.kubernetes.io/y");
        value::set(&mut long, "spec.maxExpirationSeconds", 86401);
        testing::invalid(
            &KIND,
            &long,
            &["spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]"],
        );
    }

    fn end(kind: &str) -> Value {
        json!([{"type": kind, "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    fn check(new: Value, old: Value, sentences: &[&str]) {
        let (mut after, mut before) = (of(&with(ED, ED_PROOF)), of(&with(ED, ED_PROOF)));
        value::set(&mut after, "status", new);
        value::set(&mut before, "status", old);
        assert_eq!(testing::shown(&KIND.hooks.validate_part("status", &after, &before)), sentences);
    }

    fn issue() -> Value {
        json!({"conditions": end("Issued"), "certificateChain": ED_LEAF, "notBefore": "2026-11-21T17:10:16Z",
            "notAfter": "2026-11-22T17:10:16Z", "beginRefreshAt": "2026-11-22T05:00:00Z"})
    }

    #[test]
    fn it_ends_once() {
        check(json!({}), json!({}), &[]);
        check(json!({"conditions": end("Denied")}), json!({}), &[]);
        check(
            json!({"conditions": end("Failed"), "certificateChain": "x"}),
            json!({}),
            &[
                "status: Invalid value: non-condition status fields must be empty when denying or failing the PodCertificateRequest",
            ],
        );
        check(
            json!({"conditions": end("Failed")}),
            json!({"conditions": end("Denied")}),
            &["status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed"],
        );
        check(
            json!({"certificateChain": "x"}),
            json!({}),
            &[
                "status: Invalid value: status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"",
            ],
        );
        check(
            json!({"conditions": end("Odd")}),
            json!({}),
            &[
                "status.conditions.[0].type: Unsupported value: \"Odd\": supported values: \"Issued\", \"Denied\", \"Failed\"",
            ],
        );
        let two = json!([end("Issued")[0], end("Denied")[0]]);
        check(
            json!({ "conditions": two }),
            json!({}),
            &[
                "status.conditions.[1].type: Invalid value: \"Denied\": There may be at most one condition with type \"Issued\", \
                 \"Denied\", or \"Failed\"",
            ],
        );
    }

    #[test]
    fn certificates_fit_the_request() {
        check(issue(), json!({}), &[]);
        let change = |name: &str, part: Value| {
            let mut status = issue();
            value::set(&mut status, name, part);
            status
        };
        check(change("certificateChain", format!("{ED_LEAF}{AUTHORITY}").into()), json!({}), &[]);
        for (name, part, sentence) in [
            (
                "notBefore",
                json!(null),
                "status.notBefore: Required value: must be present and consistent with the issued certificate",
            ),
            (
                "notAfter",
                json!("2026-11-22T17:10:15Z"),
                "status.notAfter: Invalid value: \"2026-11-22T17:10:15Z\": must be set to the NotAfter time encoded in the leaf certificate",
            ),
            (
                "beginRefreshAt",
                json!("2026-11-21T17:20:15Z"),
                "status.beginRefreshAt: Invalid value: \"2026-11-21T17:20:15Z\": must be at least 10 minutes after status.notBefore",
            ),
            (
                "beginRefreshAt",
                json!("2026-11-22T17:00:17Z"),
                "status.beginRefreshAt: Invalid value: \"2026-11-22T17:00:17Z\": must be at least 10 minutes before status.notAfter",
            ),
        ] {
            check(change(name, part), json!({}), &[sentence]);
        }
        for (chain, detail) in [
            (String::new(), "issued certificate chain must contain at least one certificate"),
            (AUTHORITY.to_owned(), "leaf certificate was not issued to the requested public key"),
            (
                "-----BEGIN X-----\nAA==\n-----END X-----\n".to_owned(),
                "issued certificate chain must consist entirely of CERTIFICATE PEM blocks",
            ),
            (
                format!("{ED_LEAF}-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"),
                "intermediate certificate does not parse as valid X.509",
            ),
        ] {
            let sentence = format!("status.certificateChain: Invalid value: {chain:?}: {detail}");
            check(change("certificateChain", chain.as_str().into()), json!({}), &[&sentence]);
        }
        let (mut short, mut old) = (of(&with(ED, ED_PROOF)), of(&with(ED, ED_PROOF)));
        value::set(&mut short, "status", issue());
        for object in [&mut short, &mut old] {
            value::set(object, "spec.maxExpirationSeconds", 3600);
        }
        assert_eq!(
            testing::shown(&KIND.hooks.validate_part("status", &short, &old)),
            [
                "status.certificateChain: Invalid value: 86400000000000: leaf certificate lifetime must be <= spec.maxExpirationSeconds (3600)"
            ]
        );
    }

    #[test]
    fn row() {
        let mut object = of(&json!({"unverifiedUserAnnotations": {"a.b/c": "d"}}));
        testing::row(&KIND, &object, &json!(["r", "p", "s", "n", "a.b/c", "Pending", "a.b/c=d"]));
        value::set(&mut object, "status.conditions", end("Denied"));
        value::remove(&mut object, "spec.unverifiedUserAnnotations");
        testing::row(&KIND, &object, &json!(["r", "p", "s", "n", "a.b/c", "Denied", "<none>"]));
    }
}
