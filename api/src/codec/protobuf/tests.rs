//! Tests of the protobuf codec: tables of what goes in and what comes out.

use super::*;
use crate::json::json;
use crate::schema::native;

#[test]
fn zero_values_are_written_unless_they_are_pointers() {
    let schema = native().of_gvk("", "v1", "ConfigMap").unwrap();
    let bytes =
        encode(&json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"b": "2", "a": "1"}}), schema).unwrap();
    // ObjectMeta's strings, generation and creationTimestamp are there, data is sorted, immutable is not there.
    let meta = b"\x0a\x10\x0a\x00\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00";
    let data = b"\x12\x06\x0a\x01a\x12\x011\x12\x06\x0a\x01b\x12\x012";
    let mut want = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12".to_vec();
    want.push(u8::try_from(meta.len() + data.len()).unwrap());
    want.extend_from_slice(meta);
    want.extend_from_slice(data);
    want.extend_from_slice(b"\x1a\x00\x22\x00");
    assert_eq!(bytes, want);
    let back = decode(&bytes, schema, Strictness::Strict).unwrap().value;
    assert_eq!(back, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"a": "1", "b": "2"}}));
}

#[test]
fn long_messages_carry_long_lengths() {
    let schema = native().of_gvk("", "v1", "ConfigMap").unwrap();
    for size in [0, 100, 120, 127, 128, 200, 16_000, 16_384, 70_000, 3_000_000] {
        let object = json!({"kind": "ConfigMap", "metadata": {}, "data": {"a": "x".repeat(size)}});
        let bytes = encode(&object, schema).unwrap();
        assert_eq!(decode(&bytes, schema, Strictness::Strict).unwrap().value, object, "{size}");
    }
}

#[test]
fn malformed_bytes_are_errors() {
    let schema = native().of_gvk("", "v1", "Pod").unwrap();
    let good = encode(&json!({"kind": "Pod", "spec": {"containers": [{"name": "a", "image": "b"}]}}), schema).unwrap();
    for end in 0..good.len() {
        // Whatever comes out, nothing panics; the envelope's last field can be missing.
        let _ = decode(&good[..end], schema, Strictness::Strict);
    }
    for at in 4..good.len() {
        for byte in [0, 7, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            let _ = decode(&bad, schema, Strictness::Strict);
        }
    }
    assert!(decode(b"{}", schema, Strictness::Strict).unwrap_err().to_string().contains("expected prefix"));
    assert!(decode(b"k8s\0\xff", schema, Strictness::Strict).is_err());
}

#[test]
fn tables_have_no_protobuf_form() {
    let schema = native().of_gvk("meta.k8s.io", "v1", "Table").unwrap();
    assert!(encode(&json!({}), schema).is_err());
}

#[test]
fn watch_frames_hold_the_encoded_object() {
    let frame = watch_frame("ADDED", b"k8s\0x");
    assert_eq!(
        frame,
        b"k8s\0\x0a\x10\x0a\x02v1\x12\x0aWatchEvent\x12\x10\x0a\x05ADDED\x12\x07\x0a\x05k8s\0x\x1a\x00\x22\x00"
    );
}

/// A field that is a message around these bytes.
fn around(number: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for mut value in [number << 3 | 2, body.len() as u64] {
        while value >= 0x80 {
            out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
    out.extend_from_slice(body);
    out
}

#[test]
fn what_is_kept_nests_a_hundred_levels() {
    let envelope = |version: &str, kind: &str, raw: &[u8]| {
        let meta = [around(1, version.as_bytes()), around(2, kind.as_bytes())].concat();
        [b"k8s\0".to_vec(), around(1, &meta), around(2, raw)].concat()
    };
    // A schema that is `not` a schema, and so on, in the first version of a definition.
    let schema = native().of_gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    let definition = |depth: usize| {
        let props = (0..depth).fold(Vec::new(), |inner, _| around(28, &inner));
        let version = around(4, &around(1, &props));
        envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &around(2, &around(7, &version)))
    };
    let decoded = decode(&definition(90), schema, Strictness::Warn).unwrap().value;
    let mut at = &decoded["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut depth = 0;
    while let Some(inner) = at.get("not") {
        (at, depth) = (inner, depth + 1);
    }
    assert_eq!(depth, 90);
    // Raw JSON within a message, which may be within another one.
    let raw = native().of_gvk("apps", "v1", "ControllerRevision").unwrap();
    let revision = |depth: usize| {
        let json = [vec![b'['; depth], vec![b']'; depth]].concat();
        envelope("apps/v1", "ControllerRevision", &around(2, &around(1, &json)))
    };
    assert!(decode(&revision(90), raw, Strictness::Warn).is_ok());
    for depth in [101, 10_000, 200_000] {
        for refused in [
            decode(&definition(depth.min(10_000)), schema, Strictness::Ignore),
            decode(&revision(depth), raw, Strictness::Ignore),
        ] {
            let why = refused.unwrap_err().to_string();
            assert!(why.ends_with("exceeded max depth"), "{why}");
        }
    }
    // What nobody knows is passed over by its length.
    let unknown = (0..10_000).fold(Vec::new(), |inner, _| around(200, &inner));
    let map = native().of_gvk("", "v1", "ConfigMap").unwrap();
    assert!(decode(&envelope("v1", "ConfigMap", &unknown), map, Strictness::Ignore).is_ok());
}
