//! Tests of the yaml codec: tables of what goes in and what comes out.

use super::*;
use crate::json::json;
use crate::schema::native;

fn config_map() -> SchemaRef<'static> {
    native().of_gvk("", "v1", "ConfigMap").unwrap()
}

#[test]
fn text_is_quoted_and_folded_as_upstream_does() {
    let long = "word ".repeat(30);
    let data = json!({"kind": "ConfigMap", "data": {
        "plain": "a b", "empty": "", "bool": "yes", "number": "10", "time": "2001-01-02T03:04:05Z", "colon": "a: b", "hash": "a #b",
        "colon2": "a:b", "star": "*a", "quote": "it's", "lead": " a", "trail": "a ", "tab": "a\tb", "lines": "a\n  b\n", "bare": "a\nb",
        "keep": "a\n\n", "indented": "  a\nb", "emoji": "\u{1f600}", "umlaut": "\u{e4}", "null": "null", "dash": "- a", "dashes": "---",
        "item10": "x", "item9": "x", "folded": long.trim_end(), "spacebreak": "a \nb",
    }});
    let want = r#"data:
  bare: |-
    a
    b
  bool: "yes"
  colon: 'a: b'
  colon2: a:b
  dash: '- a'
  dashes: '---'
  emoji: "\U0001F600"
  empty: ""
  folded: word word word word word word word word word word word word word word word
    word word word word word word word word word word word word word word word
  hash: 'a #b'
  indented: |2-
      a
    b
  item9: x
  item10: x
  keep: |+
    a

  lead: ' a'
  lines: |
    a
      b
  "null": "null"
  number: "10"
  plain: a b
  quote: it's
  spacebreak: "a \nb"
  star: '*a'
  tab: "a\tb"
  time: "2001-01-02T03:04:05Z"
  trail: 'a '
  umlaut: ä
kind: ConfigMap
metadata: {}
"#;
    let got = String::from_utf8(encode(&data, config_map())).unwrap();
    assert_eq!(got, want);
    let back = decode(got.as_bytes(), config_map(), Strictness::Strict).unwrap().value;
    assert_eq!(back["data"], data["data"]);
}

#[test]
fn every_string_survives() {
    for text in [
        "a\n b", "\n", "\n\n", " \n", "a\n ", "\ta", "a\r\nb", "\u{2028}", "#", "a: ", "? a", "-", "\u{feff}", "|",
        "''", "\"", "%", "\\", "é\u{85}", "  ",
    ] {
        let object = json!({"kind": "ConfigMap", "metadata": {}, "data": {"a": text, text: "b"}});
        let yaml = encode(&object, config_map());
        let back = decode(&yaml, config_map(), Strictness::Strict);
        assert_eq!(back.map(|decoded| decoded.value), Ok(object), "{text:?}: {}", String::from_utf8_lossy(&yaml));
    }
}

#[test]
fn keys_set_twice_are_strict_errors() {
    let text = b"kind: ConfigMap\ndata:\n  a: v\n  a: w\nfoo: 1\n";
    assert_eq!(
        decode(text, config_map(), Strictness::Strict).unwrap_err().to_string(),
        "strict decoding error: yaml: unmarshal errors:\n  line 4: key \"a\" already set in map, unknown field \"foo\""
    );
    let gentle = decode(text, config_map(), Strictness::Ignore).unwrap();
    assert_eq!(gentle.value, json!({"kind": "ConfigMap", "data": {"a": "w"}}));
    assert!(gentle.warnings.is_empty());
}

#[test]
fn anchors_and_merges_are_expanded_within_bounds() {
    let value = parse(b"a: &x {b: 1, c: 2}\nd: *x\ne:\n  <<: *x\n  c: 3\n1: one\ntrue: t\n---\nsecond: 1\n").unwrap();
    assert_eq!(
        value,
        json!({"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 2}, "e": {"b": 1, "c": 3}, "1": "one", "true": "t"})
    );
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let list = vec![format!("*a{}", level - 1); 10].join(",");
        bomb += &format!("a{level}: &a{level} [{list}]\n");
    }
    assert!(parse(bomb.as_bytes()).unwrap_err().to_string().contains("excessive aliasing"));
    assert!(parse(&b"[".repeat(100_000)).is_err());
    assert!(parse(b"a: [1, 2\nb: 3").is_err());
    assert!(parse(b"\xff").is_err());
    assert_eq!(parse(b"").unwrap(), json!(null));
}
