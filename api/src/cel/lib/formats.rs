//! Named formats of texts: `format.dns1123Label().validate(name)`.
//!
//! The rules are those that Kubernetes has for names, and its OpenAPI formats.

use super::url::check_request;
use crate::cel::convert::text;
use crate::cel::declare::Library;
use crate::cel::error::Fault;
use crate::cel::lib::Opaque;
use crate::cel::time::Timestamp;
use crate::cel::value::{List, Value};
use crate::kinds::shared::names;
use base64::Engine as _;

/// A format.
#[derive(Debug)]
pub struct NamedFormat {
    /// What it is asked for by.
    pub(crate) name: &'static str,
    /// Characters of the pattern that it stands for; of cost.
    pub(crate) pattern_size: u64,
    validate: fn(&str) -> Vec<String>,
}

const DATE_TIME: u64 = 78;

static FORMATS: &[NamedFormat] = &[
    NamedFormat { name: "dns1123Label", pattern_size: 30, validate: names::dns_label },
    NamedFormat { name: "dns1123Subdomain", pattern_size: 60, validate: names::dns_subdomain },
    NamedFormat { name: "dns1035Label", pattern_size: 30, validate: names::dns_1035_label },
    NamedFormat { name: "qualifiedName", pattern_size: 60, validate: names::qualified_name },
    NamedFormat { name: "dns1123LabelPrefix", pattern_size: 30, validate: |text| names::dns_label(&masked(text)) },
    NamedFormat {
        name: "dns1123SubdomainPrefix",
        pattern_size: 60,
        validate: |text| names::dns_subdomain(&masked(text)),
    },
    NamedFormat { name: "dns1035LabelPrefix", pattern_size: 30, validate: |text| names::dns_1035_label(&masked(text)) },
    NamedFormat { name: "labelValue", pattern_size: 40, validate: names::label_value },
    NamedFormat { name: "uri", pattern_size: 1103, validate: |text| check_request(text).err().into_iter().collect() },
    NamedFormat {
        name: "uuid",
        pattern_size: 76,
        validate: |text| unless(is_uuid(text), "does not match the UUID format"),
    },
    NamedFormat { name: "byte", pattern_size: 84, validate: |text| unless(is_base64(text), "invalid base64") },
    NamedFormat { name: "date", pattern_size: DATE_TIME, validate: |text| unless(is_date(text), "invalid date") },
    NamedFormat {
        name: "datetime",
        pattern_size: DATE_TIME,
        validate: |text| unless(is_date_time(text), "invalid datetime"),
    },
];

pub(crate) const LIBRARY: Library = Library {
    since: Some(31),
    signatures: "
        .validate format-validate (kubernetes.NamedFormat, string) optional(list(string))
        format.named format-named (string) optional(kubernetes.NamedFormat)
        format.{T} format.{T} () kubernetes.NamedFormat | dns1123Label dns1123Subdomain dns1035Label qualifiedName dns1123LabelPrefix dns1123SubdomainPrefix dns1035LabelPrefix labelValue uri uuid byte date datetime
    ",
    code: &[
        ("validate", |_, args| match args {
            [Value::Opaque(Opaque::Format(format)), Value::String(value)] => {
                let wrong = (format.validate)(value);
                Ok(if wrong.is_empty() {
                    Value::NONE
                } else {
                    Value::some(Value::List(List::of(wrong.into_iter().map(text).collect())))
                })
            }
            _ => Err(Fault::NoSuchOverload),
        }),
        ("format.named", |_, args| match args {
            [Value::String(name)] => Ok(FORMATS
                .iter()
                .find(|format| format.name == &**name)
                .map_or(Value::NONE, |format| Value::some(Value::Opaque(Opaque::Format(format))))),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("format.dns1123Label", |_, _| named("dns1123Label")),
        ("format.dns1123Subdomain", |_, _| named("dns1123Subdomain")),
        ("format.dns1035Label", |_, _| named("dns1035Label")),
        ("format.qualifiedName", |_, _| named("qualifiedName")),
        ("format.dns1123LabelPrefix", |_, _| named("dns1123LabelPrefix")),
        ("format.dns1123SubdomainPrefix", |_, _| named("dns1123SubdomainPrefix")),
        ("format.dns1035LabelPrefix", |_, _| named("dns1035LabelPrefix")),
        ("format.labelValue", |_, _| named("labelValue")),
        ("format.uri", |_, _| named("uri")),
        ("format.uuid", |_, _| named("uuid")),
        ("format.byte", |_, _| named("byte")),
        ("format.date", |_, _| named("date")),
        ("format.datetime", |_, _| named("datetime")),
    ],
};

fn named<'a>(name: &str) -> Result<Value<'a>, Fault> {
    let format = FORMATS.iter().find(|format| format.name == name);
    format.map(|format| Value::Opaque(Opaque::Format(format))).ok_or(Fault::NoSuchOverload)
}

fn unless(fine: bool, message: &str) -> Vec<String> {
    if fine { Vec::new() } else { vec![message.to_owned()] }
}

/// A prefix may end with a hyphen.
fn masked(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => text.to_owned(),
    }
}

fn is_uuid(text: &str) -> bool {
    let hex = text.replace('-', "");
    let mut at = 0;
    let placed = text.bytes().all(|b| {
        let fine = b != b'-' || [8, 12, 16, 20].contains(&at);
        at += usize::from(b != b'-');
        fine
    });
    placed && !text.contains("--") && hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_base64(text: &str) -> bool {
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && Timestamp::parse(&format!("{text}T00:00:00Z")).is_some()
}

fn is_date_time(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let Some((date, time)) = text.split_once('t') else { return false };
    let fine = is_date(date) && time.len() >= 9;
    let digits = |from: usize| time.get(from..from + 2).filter(|part| part.bytes().all(|b| b.is_ascii_digit()));
    let clock =
        matches!((digits(0), digits(3), digits(6)), (Some(h), Some(m), Some(s)) if h <= "23" && m <= "59" && s <= "59");
    let colons = time.get(2..3) == Some(":") && time.get(5..6) == Some(":");
    let zone = time.get(8..).unwrap_or_default();
    let zone = match zone.strip_prefix(['.', ',']) {
        Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => zone,
    };
    let offset = zone.len() == 6 && zone.starts_with(['+', '-']) && zone.get(3..4) == Some(":");
    fine && clock && colons && (zone == "z" || offset)
}
