//! Names of signers of certificates.
//!
//! Never asks who may use one.

use super::names;
use crate::field_path::{Errors, FieldError, Path};

/// Whether a signer is one of Kubernetes' own.
#[must_use]
pub fn is_kubernetes(signer: &str) -> bool {
    let host = signer.split('/').next().unwrap_or_default();
    host == "kubernetes.io" || host.ends_with(".kubernetes.io")
}

/// `domain/path`: a domain of two labels and more, and a path that fits into a name.
pub fn name(errors: &mut Errors, signer: &str, field: &Path) {
    const LONGEST_DOMAIN: usize = 253;
    const LONGEST: usize = LONGEST_DOMAIN + 1 + 253 + 63 + 1;
    if signer.is_empty() {
        errors.push(FieldError::required(field, ""));
        return;
    }
    let Some((domain, path)) = signer.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(field, signer, detail));
        return;
    };
    let labels = |text: &str, rule: fn(&str) -> names::Messages| {
        let wrong = text.split('.').map(|label| (label, rule(label))).find(|(_, messages)| !messages.is_empty());
        let (label, messages) = wrong.unwrap_or_default();
        messages
            .into_iter()
            .map(|message| FieldError::invalid(field, text, format!("validating label {label:?}: {message}")))
            .collect::<Errors>()
    };
    if domain.len() > LONGEST_DOMAIN {
        errors.push(FieldError::too_long(field, LONGEST_DOMAIN));
    }
    errors.extend(labels(domain, names::dns_label));
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(field, domain, detail));
    }
    errors.extend(labels(path, names::dns_subdomain));
    if signer.len() > LONGEST {
        errors.push(FieldError::too_long(field, LONGEST));
    }
}
