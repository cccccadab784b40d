//! Texts in quotes as Go's `%q` prints them, which is how upstream shows values in its sentences.
//!
//! Never for JSON, whose escapes are others.

use std::fmt::Write as _;

/// `a"b` as `"a\"b"`; what is not printed on paper is escaped.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut made = String::with_capacity(text.len() + 2);
    made.push('"');
    for c in text.chars() {
        let code = u32::from(c);
        // Writing into a text does not fail.
        let _ = match c {
            '"' => made.write_str("\\\""),
            '\\' => made.write_str("\\\\"),
            '\n' => made.write_str("\\n"),
            '\r' => made.write_str("\\r"),
            '\t' => made.write_str("\\t"),
            '\u{7}' => made.write_str("\\a"),
            '\u{8}' => made.write_str("\\b"),
            '\u{b}' => made.write_str("\\v"),
            '\u{c}' => made.write_str("\\f"),
            c if c.is_ascii_control() => write!(made, "\\x{code:02x}"),
            c if is_print(c) => made.write_char(c),
            _ if code < 0x1_0000 => write!(made, "\\u{code:04x}"),
            _ => write!(made, "\\U{code:08x}"),
        };
    }
    made.push('"');
    made
}

/// Letters, marks, numbers, punctuation and symbols, and the one space.
#[must_use]
pub fn is_print(c: char) -> bool {
    // Behind another character marks that combine are not escaped.
    if c.is_ascii() { !c.is_ascii_control() } else { format!("a{c}").escape_debug().eq(['a', c]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_prints_it() {
        for (text, shown) in [
            ("", r#""""#),
            ("a 'b' \"c\" \\", r#""a 'b' \"c\" \\""#),
            ("\0\u{1b}\u{7f}\n\t\u{7}", r#""\x00\x1b\x7f\n\t\a""#),
            ("é e\u{301} 漢 😀", "\"é e\u{301} 漢 😀\""),
            ("\u{200b}\u{a0}\u{85}\u{feff}\u{e0001}", r#""\u200b\u00a0\u0085\ufeff\U000e0001""#),
        ] {
            assert_eq!(quoted(text), shown);
        }
    }
}
