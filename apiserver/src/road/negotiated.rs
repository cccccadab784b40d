//! What the client accepts: encoding (JSON, YAML, protobuf) and form (whole objects, tables, metadata only).
//!
//! Never encodes. Source: upstream's content negotiation and KEP-555 (server-side printing).

use crate::answer::Failure;
use api::status::Status;

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl Encoding {
    /// The `Content-Type` of a whole answer.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The `Content-Type` of a watch.
    #[must_use]
    pub fn stream_content_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

/// What of the objects is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Whole,
    /// `meta.k8s.io Table` of this version (`v1`, `v1beta1`).
    Table(&'static str),
    /// `meta.k8s.io PartialObjectMetadata` of this version.
    Metadata(&'static str),
}

/// A client's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Bytes.
    pub encoding: Encoding,
    /// Form.
    pub form: Form,
    /// Indented JSON.
    pub pretty: bool,
}

impl Medium {
    /// Plain JSON.
    pub const JSON: Medium = Medium { encoding: Encoding::Json, form: Form::Whole, pretty: false };
}

/// The encodings in the sentence of a 406.
pub(crate) const OFFERED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// Picks the first acceptable clause of an `Accept` header, by quality and then by order.
///
/// # Errors
/// 406 when nothing acceptable is offered; `binary` where whole objects have a protobuf form.
pub fn negotiate(accept: Option<&str>, pretty: bool, binary: bool) -> Result<Medium, Failure> {
    let accept = accept.unwrap_or_default();
    if accept.trim().is_empty() {
        return Ok(Medium { pretty, ..Medium::JSON });
    }
    let mut best: Option<(u32, Medium)> = None;
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let encoding = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
            _ => continue,
        };
        let (mut shape, mut version, mut group, mut quality) = (None, None, None, 1000);
        for parameter in parts {
            match parameter.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
                Some(("as", value)) => shape = Some(value),
                Some(("v", value)) => version = Some(value),
                Some(("g", value)) => group = Some(value),
                Some(("q", value)) => quality = milli(value),
                _ => {}
            }
        }
        let version = match version {
            Some("v1") => Some("v1"),
            Some("v1beta1") => Some("v1beta1"),
            _ => None,
        };
        let form = match (shape, version, group) {
            (None, _, _) => Form::Whole,
            (Some("Table"), Some(version), Some("meta.k8s.io")) => Form::Table(version),
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some(version), Some("meta.k8s.io")) => {
                Form::Metadata(version)
            }
            _ => continue,
        };
        if !binary && encoding == Encoding::Protobuf && form == Form::Whole {
            continue;
        }
        if best.is_none_or(|(found, _)| quality > found) {
            best = Some((quality, Medium { encoding, form, pretty }));
        }
    }
    best.map(|(_, medium)| medium).ok_or_else(|| Failure::Status(Status::not_acceptable(OFFERED)))
}

fn milli(quality: &str) -> u32 {
    let (whole, fraction) = quality.split_once('.').unwrap_or((quality, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u32>().unwrap_or(1) * 1000 + digits.parse::<u32>().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (accept, encoding, form) in [
            (table, Encoding::Json, Form::Table("v1")),
            ("application/vnd.kubernetes.protobuf,application/json", Encoding::Protobuf, Form::Whole),
            ("application/yaml", Encoding::Yaml, Form::Whole),
            ("application/json;q=0.5,application/yaml;q=0.9", Encoding::Yaml, Form::Whole),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Encoding::Json, Form::Metadata("v1")),
            ("application/cbor,application/json", Encoding::Json, Form::Whole),
        ] {
            let medium = negotiate(Some(accept), false, true).unwrap();
            assert_eq!((medium.encoding, medium.form), (encoding, form), "{accept}");
        }
        let protobuf = "application/vnd.kubernetes.protobuf";
        assert!(negotiate(Some(protobuf), false, false).is_err());
        assert!(negotiate(Some(&format!("{protobuf};as=Table;g=meta.k8s.io;v=v1")), false, false).is_ok());
        assert!(negotiate(Some("image/png"), false, true).is_err());
        // Browsers accept anything in the end.
        assert!(negotiate(Some("text/html"), false, true).is_err());
        assert!(negotiate(Some("text/html,*/*;q=0.8"), false, true).is_ok());
    }
}
