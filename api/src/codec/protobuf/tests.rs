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
