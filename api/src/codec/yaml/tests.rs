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
    let warned = decode(text, config_map(), Strictness::Warn).unwrap().warnings;
    assert_eq!(warned, ["line 4: key \"a\" already set in map", "unknown field \"foo\""]);
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

#[test]
fn what_is_not_kept_may_nest_deeper() {
    let schema = config_map();
    let flow = |depth: usize| format!("x: {}1{}\ndata: {{a: b}}\n", "{a: ".repeat(depth), "}".repeat(depth));
    let list = |depth: usize| format!("x: {}1{}\ndata: {{a: b}}\n", "[".repeat(depth), "]".repeat(depth));
    let blocks = |depth: usize| {
        let levels: String = (0..depth).map(|level| format!("{}- a:\n", " ".repeat(level * 2))).collect();
        format!("x:\n{levels}{}1\ndata: {{a: b}}\n", " ".repeat(depth * 2 + 1))
    };
    for text in [flow(240), list(240), blocks(60)] {
        let decoded = decode(text.as_bytes(), schema, Strictness::Warn).unwrap();
        assert_eq!((decoded.value, decoded.warnings.len()), (json!({"data": {"a": "b"}}), 1));
    }
    for (text, why) in [
        (flow(10_000), "exceeded max depth"),
        (list(200_000), "exceeded max depth"),
        // What is kept may not.
        (format!("data: {{a: {}1{}}}", "[".repeat(101), "]".repeat(101)), "cannot unmarshal array"),
        (
            format!("metadata: {{managedFields: [{{fieldsV1: {}1{}}}]}}", "{a: ".repeat(101), "}".repeat(101)),
            "exceeded max depth",
        ),
        (format!("x: &a {}1{}", "{a: ".repeat(101), "}".repeat(101)), "exceeded max depth"),
    ] {
        let refused = decode(text.as_bytes(), schema, Strictness::Ignore).unwrap_err().to_string();
        // The parser has a bound of its own, which it may meet first.
        assert!(refused.contains(why) || refused.contains("recursion limit exceeded"), "{refused}");
    }
}

#[test]
fn blocks_mean_what_the_parser_of_all_of_yaml_says() {
    let cases = [
        ("a: b\n", true),
        ("---\n# first\n\na:\n- b: 1\n  c: 'x'\n- d\ne:\n    f: yes\n\n  # deeper\n    g:\n", true),
        ("- a\n- b: {}\n  \"c d\": []\n", true),
        ("a: http://x/?y=z,w\nb: --flag\nc: -1\nd: .5\ne: $(X)\n", true),
        ("a: b\n  c\n", false),
        ("a: b # c\nd:   # e\n- f # g\n- \"h\"  # i\n", true),
        ("a:\n  b: c\n d: e\n", false),
        ("a: |\n  b\n", true),
        ("a: |\n  b", false),
        ("a: |-\n  # b\n    c: \"d\\n\"\n\n  e\n\n# f\ng:\n- |+\n h\n\n- |\n   i\n", true),
        ("a: |\n   b\n  c\n", false),
        ("a: |2\n  b\n", false),
        ("a: >\n  b\n", false),
        ("a: |\n", false),
        ("a: [b, \"c d\", 'e', 1, yes, [], [-f, --g], {h: i}]  # j\nk: {l: {}, \"m\": n/o}\n", true),
        ("a: [b,\n  c]\n", false),
        ("a: [b: c]\n", false),
        ("a: {b: c, b: d}\n", false),
        ("a: {b}\n", false),
        ("a: [b,]\n", false),
        ("a: [b:c]\n", false),
        ("a: \"b\"c\n", false),
        ("a: \"b\" c\n", false),
        ("a: \"b\\n\\t\\\\\\\"\"\nc: 'it''s '''\n", true),
        ("a: \"\\x41\"\n", false),
        ("a: über # —\nü: b\n", false),
        ("a: über # —\n\"ü\": 世界\n", true),
        ("a: b\u{85}\n", false),
        ("a: b\u{2028}c\n", false),
        ("a: b\n---\nc: d\n", false),
        ("a: b\na: c\n", false),
        ("1: a\n", false),
        ("a: *b\n", false),
        ("a:\tb\n", false),
        ("- - a\n", false),
        ("  a: b\n", false),
    ];
    for (text, known) in cases {
        assert_eq!(is_in_blocks(text.as_bytes()), known, "{text:?}");
    }
    let values = [
        "",
        "b",
        "1",
        "0x1F",
        "yes",
        "null",
        "~",
        "\"x\"",
        "'y'",
        "'it''s'",
        "{}",
        "[]",
        "{a: b}",
        "|",
        "a:b",
        "a: b",
        "b #c",
        "#c",
        "http://x",
        "<<",
        "*a",
        "&a b",
        "!t b",
        "%",
        ".5",
        "-1",
        "--x",
        "---",
        "...",
        "-",
        "- a",
        "b ",
        "a:",
        "$(X)",
        "2001-01-02",
        "1:30",
        "/p",
        "a,b]",
        "|-",
        "|+",
        "|\n  x",
        "|-\n    x: y\n\n    z",
        "|+\n  # x\n\n",
        ">",
        "b # c",
        "'x' # c",
        "\"x\"# c",
        "[a, 'b' ,\"c\"]",
        "[a, -b, 1.5, ~, [no] ] # c",
        "{a: 1, \"b\": {c: []}}",
        "{a: 1, a: 2}",
        "[a b]",
        "[a: b]",
        "{a:1}",
        "[#a]",
        "\"a\\tb\\\"\"",
        "ü",
        "ü: x",
        "x\u{a0} ",
        "(x)",
        "!",
        "=",
        "null # x",
        "1_000",
        "00",
        "0",
        "12345678901234567890",
    ];
    let keys = [
        "a",
        "b",
        "cc",
        "name",
        "\"q\"",
        "'s'",
        "1",
        "yes",
        "x.y/z",
        "<<",
        "_",
        "-a",
        "a b",
        "?",
        "terminationGracePeriodSeconds",
    ];
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos() as u64);
    let mut accepted = 0;
    for seed in (1..30_000_u64).chain([now | 1]) {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut roll = |sides: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % sides as u64) as usize
        };
        let mut text = String::new();
        let mut column: usize = 0;
        for _ in 0..=roll(5) {
            column = match roll(4) {
                0 => roll(4),
                1 => column + 2,
                _ => column,
            };
            text += &" ".repeat(column);
            if roll(4) == 0 {
                text += "- ";
                column += 2;
            }
            // Mostly what is usual.
            let (keys, values) = if roll(3) == 0 { (&keys[..], &values[..]) } else { (&keys[..4], &values[..9]) };
            match roll(6) {
                0 => text += values[roll(values.len())],
                1 => text += &format!("{}:", keys[roll(keys.len())]),
                _ => text += &format!("{}: {}", keys[roll(keys.len())], values[roll(values.len())]),
            }
            text += ["\n", "\n", "\n", "\n\n", "\n # c\n", " \n"][roll(6)];
        }
        accepted += usize::from(is_in_blocks(text.as_bytes()));
    }
    assert!(accepted > 1_000, "{accepted} of them in blocks, {now}");
}
