//! What is fuzzed, as a library: one function per decoder, patch, selector and small parser, each from arbitrary bytes to a judgement.
//!
//! A target panics when it found something, and only then. Who makes the bytes is another's business: `examples/fuzz.rs`, or a test that
//! runs what was found before. Never part of what is shipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a panic is the finding")]

mod apply;
mod dice;
mod request;
mod strategic;

use crate::codec::{Strictness, json, protobuf, yaml};
use crate::json::Value;
use crate::kind::Kind;
use crate::quantity::Quantity;
use crate::selector::{FieldSelector, LabelSelector};
use crate::{continuation::Continue, judgement, kinds, patch, schema, x509};

/// One thing to fuzz.
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Where mutation begins.
    pub seeds: &'static [&'static [u8]],
    /// Judges one input.
    ///
    /// # Panics
    /// When something is wrong.
    pub run: fn(&[u8]),
}

const POD: &[u8] = include_bytes!("../benches/pod.json");
const DEPLOYMENT: &[u8] = include_bytes!("../benches/deployment.json");
const CSR: &[u8] = b"-----BEGIN CERTIFICATE REQUEST-----\nMIIBADCBpwIBADBFMQswCQYDVQQGEwJBVTETMBEGA1UECAwKU29tZS1TdGF0ZTEh\n-----END CERTIFICATE REQUEST-----\n";

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "json", seeds: &[POD, DEPLOYMENT, br#"{"a":[1,-2.5e7,"\u00e9\ud83d\ude00",true,null,{}]}"#], run: of_json },
    Target {
        name: "yaml",
        seeds: &[
            POD,
            b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: &n a\n  labels: {x: *n, \"y\": 'z'}\nspec:\n  containers:\n  - name: |\n      a\n    image: >-\n      b\n  <<: {a: 1}\n",
        ],
        run: of_yaml,
    },
    Target {
        name: "protobuf",
        seeds: &[b"k8s\0\n\x09\n\x02v1\x12\x03Pod\x12\x13\n\x11\n\x01a\x12\x00\x1a\x07default\"\x00*\x00\x1a\x00\"\x00"],
        run: of_protobuf,
    },
    Target { name: "kinds", seeds: &[POD, DEPLOYMENT], run: of_kinds },
    Target {
        name: "json-patch",
        seeds: &[
            br#"[{"a":[1,{"b":2}],"c/d":"e"},[{"op":"add","path":"/a/-","value":3},{"op":"move","from":"/a/0","path":"/x"},{"op":"copy","from":"/a","path":"/y"},{"op":"test","path":"/c~1d","value":"e"},{"op":"replace","path":"/a/-1","value":null},{"op":"remove","path":"/a/0"}]]"#,
        ],
        run: of_json_patch,
    },
    Target {
        name: "merge-patch",
        seeds: &[br#"[{"a":{"b":1,"c":[1,{"d":null}]}},{"a":{"b":null,"c":{"e":2},"f":{"g":null}}}]"#],
        run: of_merge_patch,
    },
    Target {
        name: "strategic",
        seeds: &[
            br#"[{"spec":{"containers":[{"name":"a","ports":[{"containerPort":1}]}],"volumes":[{"name":"v","emptyDir":{}}]},"metadata":{"finalizers":["x"]}},{"metadata":{"$deleteFromPrimitiveList/finalizers":["x"]},"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"b"},{"$patch":"delete","name":"a"}],"volumes":[{"name":"v","$retainKeys":["name"]}],"$patch":"replace"}}]"#,
        ],
        run: strategic::bytes,
    },
    Target { name: "strategic-model", seeds: &[b"\x01\x02\x03\x04\x05\x06\x07\x08\x09", &[7; 64]], run: strategic::model },
    Target { name: "apply", seeds: &[b"\x01\x02\x03\x04\x05\x06\x07\x08\x09", &[7; 64]], run: apply::model },
    Target {
        name: "labels",
        seeds: &[b"a=b,c!=d,e in (f,g),!h,i>1,j notin (k),l==m,n", b"x.io/y in (z,)"],
        run: of_labels,
    },
    Target { name: "fields", seeds: &[b"metadata.name=a,spec.nodeName!=b\\,c\\=d\\\\", b"a==b"], run: of_fields },
    Target {
        name: "continue",
        seeds: &[b"eyJydiI6MywibnMiOiJhIiwibmFtZSI6ImIiLCJhdCI6NX0", b"{\"rv\":1,\"ns\":\"\",\"name\":\"x\"}"],
        run: of_continue,
    },
    Target { name: "quantity", seeds: &[b"1.5Gi", b"2|1e3", b"-12e-3", b"100m", b"9223372036854775807E", b".5Ki"], run: of_quantity },
    Target { name: "certificates", seeds: &[CSR], run: of_certificates },
    Target {
        name: "request",
        seeds: &[
            b"GET /api/v1/namespaces/a/pods/p/log?follow=true",
            b"DELETE /apis/apps/v1/namespaces/a/deployments/?fieldSelector=metadata.name%3Dx",
            b"GET /api/v1/watch/namespaces/a%2fpods//proxy/..?watch=1",
        ],
        run: request::bytes,
    },
    Target { name: "cron", seeds: &[b"*/5 1-3,7 * JAN-FEB MON", b"@every 1h30m", b"TZ=UTC 0 0 29 2 *"], run: of_cron },
];

/// A kind chosen by the first byte, and the rest.
fn kind_of(bytes: &[u8]) -> Option<(&'static Kind, &[u8])> {
    // Seeds are objects that name their kind.
    if bytes.starts_with(b"{") {
        let text = String::from_utf8_lossy(bytes);
        let named = kinds::ALL.iter().find(|kind| text.contains(&format!("\"kind\":\"{}\"", kind.kind)));
        return named.map(|kind| (*kind, bytes));
    }
    let (first, rest) = bytes.split_first()?;
    kinds::ALL.get(usize::from(*first) % kinds::ALL.len()).map(|kind| (*kind, rest))
}

/// What was decoded encodes to bytes that decode to what encodes to the same bytes; reading strictly finds no more errors than there are
/// warnings.
fn of_json(bytes: &[u8]) {
    let _ = json::parse(bytes);
    let Some((kind, bytes)) = kind_of(bytes) else { return };
    let schema = kind.schema();
    let strict = json::decode(bytes, schema, Strictness::Strict);
    let _ = json::decode_applied(bytes, schema, Strictness::Warn);
    let Ok(decoded) = json::decode(bytes, schema, Strictness::Warn) else {
        assert!(strict.is_err(), "strict reading took what gentle reading refused");
        return;
    };
    assert_eq!(strict.is_ok(), decoded.warnings.is_empty(), "{:?}", decoded.warnings);
    let text = json::encode(&decoded.value, schema);
    let again = json::decode(&text, schema, Strictness::Strict).expect("what was written can be read");
    let twice = json::encode(&again.value, schema);
    assert_eq!(String::from_utf8_lossy(&twice), String::from_utf8_lossy(&text));
    let free = json::parse(&text).expect("what was written is JSON");
    assert_eq!(String::from_utf8_lossy(&json::encode(&free, schema)), String::from_utf8_lossy(&text));
    let mut settled = decoded.value.clone();
    json::settle(&mut settled, schema);
    let (settled, read) = (json::encode_any(&settled), json::encode_any(&free));
    assert_eq!(String::from_utf8_lossy(&settled), String::from_utf8_lossy(&read), "settled is not what is read back");
    if let Ok(wire) = protobuf::encode(&decoded.value, schema) {
        protobuf::decode(&wire, schema, Strictness::Strict).expect("what was written as protobuf can be read");
    }
}

/// What is read from YAML and written as YAML is read as the same.
fn of_yaml(bytes: &[u8]) {
    let _ = yaml::parse(bytes);
    yaml::is_in_blocks(bytes);
    let Some((kind, bytes)) = kind_of(bytes) else { return };
    let schema = kind.schema();
    let _ = yaml::decode_applied(bytes, schema, Strictness::Strict);
    let Ok(decoded) = yaml::decode(bytes, schema, Strictness::Ignore) else { return };
    let text = yaml::encode(&decoded.value, schema);
    let again = yaml::decode(&text, schema, Strictness::Strict).expect("what was written can be read");
    let (once, twice) = (json::encode(&decoded.value, schema), json::encode(&again.value, schema));
    assert_eq!(String::from_utf8_lossy(&twice), String::from_utf8_lossy(&once));
}

fn of_protobuf(bytes: &[u8]) {
    let Ok((version, name)) = protobuf::type_of(bytes) else { return };
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let Some(schema) = schema::native().of_gvk(group, version, &name) else { return };
    let Ok(decoded) = protobuf::decode(bytes, schema, Strictness::Strict) else { return };
    let Ok(wire) = protobuf::encode(&decoded.value, schema) else { return };
    let again = protobuf::decode(&wire, schema, Strictness::Strict).expect("what was written can be read");
    assert_eq!(protobuf::encode(&again.value, schema).expect("it has a form"), wire);
    let text = json::encode(&decoded.value, schema);
    json::decode(&text, schema, Strictness::Ignore).expect("what protobuf says can be said in JSON");
}

/// No object of any kind makes a hook panic, and defaults change nothing when they run twice.
fn of_kinds(bytes: &[u8]) {
    let Some((kind, bytes)) = kind_of(bytes) else { return };
    let Ok(decoded) = json::decode(bytes, kind.schema(), Strictness::Ignore) else { return };
    let mut object = decoded.value;
    let default = |object: &mut Value| {
        schema::defaults::apply(object, kind.schema());
        kind.hooks.default(object);
    };
    default(&mut object);
    let once = object.clone();
    default(&mut object);
    assert_eq!(object, once, "defaults of {kind:?} change what they made");
    let _ = judgement::create(&object, kind);
    let _ = judgement::update(&object, &once, kind);
    let _ = kind.hooks.warnings(&object, None);
    let _ = kind.hooks.needs(&object, None);
    let _ = kind.hooks.row(&object, 1_700_000_000);
    for part in kind.subresources {
        let _ = judgement::part(part.name, &object, &once, kind);
    }
    kind.hooks.prepare_create(&mut object);
    kind.hooks.prepare_update(&mut object, &once);
    if let Some(stored) = &kind.stored_as {
        (stored.to)(&mut object);
        (stored.from)(&mut object);
    }
}

/// A document and what is done to it, as a list of two.
fn pair(bytes: &[u8]) -> Option<(Value, Value)> {
    match json::parse(bytes).ok()? {
        Value::Array(list) => <[Value; 2]>::try_from(list).ok().map(|[doc, patch]| (doc, patch)),
        _ => None,
    }
}

/// A kind with fields of all shapes.
fn deployment() -> schema::SchemaRef<'static> {
    schema::native().of_gvk("apps", "v1", "Deployment").expect("it is native")
}

/// Every operation on its own leads where all together do, and what is refused is refused again.
fn of_json_patch(bytes: &[u8]) {
    let _ = patch::json::apply(&Value::Null, bytes);
    let Some((doc, operations)) = pair(bytes) else { return };
    let whole = patch::json::apply(&doc, operations.to_string().as_bytes());
    let Value::Array(operations) = operations else { return };
    let mut one_by_one = Ok(doc);
    for operation in operations.clone() {
        let text = Value::Array(vec![operation]).to_string();
        one_by_one = one_by_one.and_then(|doc| patch::json::apply(&doc, text.as_bytes()));
    }
    if let (Ok(whole), Ok(one_by_one)) = (&whole, &one_by_one) {
        assert_eq!(whole, one_by_one);
    }
    // As a patch that is blamed for its object is quoted.
    let opened = patch::blame::Opened::by_operations(&operations);
    if let Ok(whole) = &whole {
        let _ = patch::blame::text(whole, deployment(), &opened);
    }
    // Only the bounds on the whole may tell them apart.
    assert!(whole.is_err() || one_by_one.is_ok(), "{one_by_one:?}");
}

/// RFC 7396: a patch that has been applied changes nothing.
fn of_merge_patch(bytes: &[u8]) {
    let Some((doc, change)) = pair(bytes) else { return };
    let once = patch::merge::apply(&doc, &change);
    assert_eq!(patch::merge::apply(&once, &change), once, "{doc} {change}");
    let _ = patch::blame::text(&once, deployment(), &patch::blame::Opened::by_merge(&doc, &change));
}

fn of_labels(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(selector) = LabelSelector::parse(&text) {
        let shown = selector.to_string();
        let again = LabelSelector::parse(&shown).expect("what is shown can be read");
        assert_eq!(again.to_string(), shown);
    }
    if let Ok(value) = json::parse(bytes) {
        let _ = LabelSelector::from_value(&value);
    }
}

/// What is read is written as a token that is read as the same: of the text as it came, and of the text as the inside of a token.
fn of_continue(bytes: &[u8]) {
    use base64::Engine as _;
    let inside = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    for token in [String::from_utf8_lossy(bytes).into_owned(), inside] {
        if let Ok(place) = Continue::decode(&token) {
            assert_eq!(Continue::decode(&place.encode()), Ok(place));
        }
    }
}

fn of_fields(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(selector) = FieldSelector::parse(&text) {
        let shown = selector.to_string();
        let again = FieldSelector::parse(&shown).expect("what is shown can be read");
        // Conditions come in the order of their texts, which escapes change.
        let sorted = |selector: &FieldSelector| {
            let mut terms: Vec<String> = selector.terms().iter().map(|term| format!("{term:?}")).collect();
            terms.sort_unstable();
            terms
        };
        assert_eq!(sorted(&again), sorted(&selector));
    }
}

fn of_quantity(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (first, second) = text.split_once('|').unwrap_or((&text, "1"));
    let Ok(quantity) = Quantity::parse(first) else { return };
    let shown = quantity.to_string();
    assert!(shown == first || !Quantity::is_canonical(first), "{shown} is the canonical form of {first}");
    // Parts of a byte are shown rounded up.
    let again = Quantity::parse(&shown).expect("what is shown can be read");
    // Beyond 64 bits what is read depends on how many digits it is written with, as with upstream.
    if quantity.abs() <= Quantity::of(i64::MAX, quantity.format()) {
        // Half a Ki is shown in bytes, and read as a decimal number, whose form is another: as upstream.
        if again.format() == quantity.format() {
            assert_eq!(again.to_string(), shown);
        }
        assert!(again >= quantity || quantity.signum() < 0, "{again:?} {quantity:?}");
    }
    assert_eq!(-(-quantity), quantity);
    let _ = (quantity.value(), quantity.milli_value());
    if let Ok(second) = Quantity::parse(second) {
        assert_eq!(quantity + second, second + quantity);
        assert_eq!(quantity.cmp(&second), second.cmp(&quantity).reverse());
    }
}

fn of_certificates(bytes: &[u8]) {
    let _ = x509::check_certificates(bytes);
    let _ = x509::expiry(bytes);
    for request in [x509::Request::read(bytes), x509::Request::of_der(bytes.to_vec())].into_iter().flatten() {
        let _ = (request.common_name(), request.check_signature());
    }
    let _ = (x509::keys::Key::of_pkix(bytes), x509::keys::Key::of_request(bytes), x509::keys::Leaf::read(bytes));
    let _ = x509::keys::check_authority(bytes);
}

/// A schedule's next time lies after the time asked about.
fn of_cron(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = crate::cron::zone(&text);
    if let Ok(schedule) = crate::cron::Schedule::parse(&text) {
        let after = jiff::Timestamp::from_second(1_700_000_000).expect("a time");
        if let Some(next) = schedule.next(after, &jiff::tz::TimeZone::UTC) {
            assert!(next > after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fuzzing found once. Every target sees all of it.
    const FOUND: &[&[u8]] = &[b"1e-2147483648", b"9223372036.54775807E", b"0100e1000"];

    #[test]
    fn seeds_and_what_was_found_before_pass() {
        for target in TARGETS {
            for input in target.seeds.iter().chain(FOUND) {
                (target.run)(input);
            }
        }
    }
}
