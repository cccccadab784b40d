//! Bytes against those that gnostic's own library writes for the same document.

use super::encode;
use api::json::json;

#[test]
fn bytes_are_gnostics() {
    let document = include_str!("../testdata/gnostic.json");
    let expected = include_bytes!("../testdata/gnostic.pb");
    assert_eq!(encode(&api::json::from_str(document).unwrap()), expected);
}

#[test]
fn strange_documents_are_written_without_what_is_strange() {
    for document in [json!(null), json!([]), json!({"paths": 1, "definitions": {"a": []}, "security": {"a": 1}})] {
        assert!(encode(&document).len() < 32);
    }
    assert_eq!(encode(&json!({"swagger": "", "unknown": 1})), b"");
}
