//! References to things by kind, name and group, and names that carry a domain.
//!
//! Never looks up what a reference names.

use super::labels::invalid;
use super::{names, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;

/// The text at `name` is there and fits in one path segment.
pub fn required_segment(errors: &mut Errors, object: &Value, name: &str, field: &Path) {
    let text = rules::required(errors, object, name, field);
    invalid(errors, &field.child(name), text, names::path_segment(text, false));
}

/// `apiGroup`, `kind` and `name` of a local reference.
pub fn typed_local(errors: &mut Errors, reference: &Value, field: &Path) {
    rules::text(errors, reference, "apiGroup", field, names::dns_subdomain);
    required_segment(errors, reference, "kind", field);
    required_segment(errors, reference, "name", field);
}

fn in_path(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)
}

/// `acme.io/foo`: a domain, a slash and a path.
pub fn domain_prefixed_path(errors: &mut Errors, text: &str, field: &Path) {
    if text.is_empty() {
        errors.push(FieldError::required(field, ""));
        return;
    }
    match text.split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            invalid(errors, field, host, names::dns_subdomain(host));
            if !path.bytes().all(in_path) {
                let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                errors.push(FieldError::invalid(field, path, detail));
            }
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(field, text, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing::shown;

    #[test]
    fn domain_prefixes() {
        for (text, sentences) in [
            ("acme.io/foo/bar:1", &[][..]),
            ("", &["f: Required value"]),
            ("acme.io", &["f: Invalid value: \"acme.io\": must be a domain-prefixed path (such as \"acme.io/foo\")"]),
            ("acme.io/", &["f: Invalid value: \"acme.io/\": must be a domain-prefixed path (such as \"acme.io/foo\")"]),
            (
                "acme.io/a b",
                &[
                    "f: Invalid value: \"a b\": Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
                ],
            ),
        ] {
            let mut errors = Errors::new();
            domain_prefixed_path(&mut errors, text, &Path::new("f"));
            assert_eq!(shown(&errors), sentences, "{text}");
        }
    }
}
