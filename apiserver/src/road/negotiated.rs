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
    /// `meta.k8s.io PartialObjectMetadataList` of this version.
    MetadataList(&'static str),
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

/// One clause of an `Accept` header that names an encoding of ours.
struct Clause<'a> {
    encoding: Encoding,
    shape: Option<&'a str>,
    version: Option<&'a str>,
    group: Option<&'a str>,
    quality: u32,
    pretty: bool,
}

fn clauses(accept: &str) -> impl Iterator<Item = Clause<'_>> {
    accept.split(',').filter_map(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let is = |name: &str| media.eq_ignore_ascii_case(name);
        let encoding = if is("application/json") || is("*/*") || is("application/*") {
            Encoding::Json
        } else if is("application/yaml") {
            Encoding::Yaml
        } else if is("application/vnd.kubernetes.protobuf") {
            Encoding::Protobuf
        } else {
            return None;
        };
        let mut read = Clause { encoding, shape: None, version: None, group: None, quality: 1000, pretty: false };
        for parameter in parts {
            match parameter.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
                Some(("as", value)) => read.shape = Some(value),
                Some(("v", value)) => read.version = Some(value),
                Some(("g", value)) => read.group = Some(value),
                Some(("q", value)) => read.quality = milli(value),
                Some(("pretty", value)) => read.pretty = value == "1",
                _ => {}
            }
        }
        Some(read)
    })
}

/// The medium of the clause with the highest quality, the first of several; `pretty` whatever the clause says.
fn best<'a>(pretty: bool, media: impl Iterator<Item = (Clause<'a>, Form)>) -> Option<Medium> {
    let mut best: Option<(u32, Medium)> = None;
    for (Clause { encoding, quality, pretty: asked, .. }, form) in media {
        if best.is_none_or(|(found, _)| quality > found) {
            best = Some((quality, Medium { encoding, form, pretty: pretty || asked }));
        }
    }
    best.map(|(_, medium)| medium)
}

/// Picks the first acceptable clause of an `Accept` header, by quality and then by order. `pretty` says that a person seems to read.
///
/// # Errors
/// 406 when nothing acceptable is offered; `binary` where whole objects have a protobuf form, `streams` where they can be watched.
pub fn negotiate(accept: Option<&str>, pretty: bool, binary: bool, streams: bool) -> Result<Medium, Failure> {
    let accept = accept.unwrap_or_default();
    if accept.trim().is_empty() {
        return Ok(Medium { pretty, ..Medium::JSON });
    }
    let acceptable = clauses(accept).filter_map(|clause| {
        let version = match clause.version {
            Some("v1") => Some("v1"),
            Some("v1beta1") => Some("v1beta1"),
            _ => None,
        };
        let form = match (clause.shape, version, clause.group) {
            (None, _, _) => Form::Whole,
            (Some("Table"), Some(version), Some("meta.k8s.io")) => Form::Table(version),
            (Some("PartialObjectMetadata"), Some(version), Some("meta.k8s.io")) => Form::Metadata(version),
            (Some("PartialObjectMetadataList"), Some(version), Some("meta.k8s.io")) => Form::MetadataList(version),
            _ => return None,
        };
        let possible = binary || clause.encoding != Encoding::Protobuf || form != Form::Whole;
        possible.then_some((clause, form))
    });
    best(pretty, acceptable).ok_or_else(|| not_acceptable(accept, streams))
}

/// The 406 of a request for an object: of media types that are none of ours upstream's router speaks.
fn not_acceptable(accept: &str, streams: bool) -> Failure {
    let mut status = Status::not_acceptable(OFFERED);
    if clauses(accept).next().is_none() {
        let streams = if streams {
            ", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
        } else {
            ""
        };
        status.message = format!("406: Not Acceptable\n\nAvailable representations: {OFFERED}{streams}");
        status.details = api::json::json!({});
    }
    status.into()
}

/// How a refusal is read by whom would have read an object. Where nothing fits it is indented JSON: it has to be said somehow.
#[must_use]
pub fn of_refusals(accept: Option<&str>, pretty: bool) -> Medium {
    let accept = accept.unwrap_or_default();
    if accept.trim().is_empty() {
        return Medium { pretty, ..Medium::JSON };
    }
    let plain = |clause: &Clause<'_>| clause.shape.or(clause.version).or(clause.group).is_none();
    let media = clauses(accept).filter(plain).map(|clause| (clause, Form::Whole));
    best(pretty, media).unwrap_or(Medium { pretty: true, ..Medium::JSON })
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
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Encoding::Json, Form::Metadata("v1")),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Encoding::Json,
                Form::MetadataList("v1"),
            ),
            ("application/cbor,application/json", Encoding::Json, Form::Whole),
        ] {
            let medium = negotiate(Some(accept), false, true, false).unwrap();
            assert_eq!((medium.encoding, medium.form), (encoding, form), "{accept}");
        }
        let protobuf = "application/vnd.kubernetes.protobuf";
        assert!(negotiate(Some(protobuf), false, false, false).is_err());
        assert!(negotiate(Some(&format!("{protobuf};as=Table;g=meta.k8s.io;v=v1")), false, false, false).is_ok());
        assert!(negotiate(Some("image/png"), false, true, false).is_err());
        // Browsers accept anything in the end.
        assert!(negotiate(Some("text/html"), false, true, false).is_err());
        assert!(negotiate(Some("text/html,*/*;q=0.8"), false, true, false).is_ok());
    }

    #[test]
    fn refusals_are_said_in_some_form() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        for (accept, encoding, pretty) in [
            ("", Encoding::Json, false),
            ("application/yaml, */*", Encoding::Yaml, false),
            ("Application/Vnd.Kubernetes.Protobuf", Encoding::Protobuf, false),
            ("application/json;pretty=1", Encoding::Json, true),
            (&format!("{table},application/json"), Encoding::Json, false),
            (table, Encoding::Json, true),
            ("image/png", Encoding::Json, true),
        ] {
            let medium = of_refusals(Some(accept), false);
            assert_eq!((medium.encoding, medium.pretty), (encoding, pretty), "{accept}");
        }
        let said = |accept: &str| match negotiate(Some(accept), false, true, false) {
            Err(Failure::Status(status)) => status.message,
            other => panic!("{other:?}"),
        };
        assert!(said("image/png").starts_with("406: Not Acceptable\n\nAvailable representations: application/json, "));
        assert!(
            said("application/json;as=x").starts_with("only the following media types are accepted: application/json")
        );
    }
}
