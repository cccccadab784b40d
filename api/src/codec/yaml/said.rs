//! What is wrong with a text that is no YAML, in upstream's words.
//!
//! Its reader has two layers: one that makes tokens counts lines from one, the other from zero and mostly where a token begins, and neither
//! names the first line where it is alone. Sentences of ours that are not known here stay as they are. Never reads YAML.

/// The sentence, with its line, for what the parser here says of this line, counted from one.
pub(super) fn said(text: &str, line: usize, info: &str) -> String {
    let info = info.rsplit_once(", ").map_or(info, |(_, info)| info);
    let here = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let of_tokens = |sentence: &str| at(line, line > 1, sentence);
    let of_grammar = |sentence: &str| at(line.saturating_sub(1), line > 1, sentence);
    match info {
        "unclosed quote" => of_tokens("found unexpected end of stream"),
        "did not find expected hexadecimal number" => of_tokens("did not find expected hexdecimal number"),
        "found high surrogate without following low surrogate" => {
            of_tokens("found invalid Unicode character escape code")
        }
        "simple key expected ':'" if here.trim_start().starts_with(['{', '[']) => {
            of_grammar("did not find expected key")
        }
        "simple key expected ':'" => at(line + 1, true, "could not find expected ':'"),
        "did not find expected key" if here.starts_with('\t') => of_tokens(NO_TOKEN),
        "did not find expected key" | "did not find expected '-' indicator" => of_grammar(info),
        "misplaced bracket" => match here.trim_end().trim_end_matches([']', '}']).trim_end().ends_with(':') {
            true => of_grammar("did not find expected node content"),
            false => of_grammar("did not find expected key"),
        },
        "\"-\" is only valid inside a block" => of_grammar("did not find expected node content"),
        "found unknown anchor" => {
            let name = here.split_once('*').map_or("", |(_, rest)| rest);
            let name = name.split([' ', ',', ']', '}', '\t']).next().unwrap_or_default();
            format!("unknown anchor '{name}' referenced")
        }
        _ if info.starts_with("tabs disallowed") => of_tokens(NO_TOKEN),
        _ if info.starts_with("unexpected character: `") => {
            // The control characters that YAML has are spaces, and stand for nothing.
            let control = text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}'));
            if control { "control characters are not allowed".to_owned() } else { of_tokens(NO_TOKEN) }
        }
        _ if info.starts_with("unclosed bracket") => {
            let close = if info.contains('[') { ']' } else { '}' };
            let sentence = match text.trim_end().ends_with(['[', '{', ',', ':']) {
                true => "did not find expected node content".to_owned(),
                false => format!("did not find expected ',' or '{close}'"),
            };
            at(text.lines().count(), true, &sentence)
        }
        _ => of_tokens(info),
    }
}

const NO_TOKEN: &str = "found character that cannot start any token";

fn at(line: usize, told: bool, sentence: &str) -> String {
    if told { format!("line {line}: {sentence}") } else { sentence.to_owned() }
}

#[cfg(test)]
mod tests {
    use crate::codec::DecodeError;

    /// As a kube-apiserver v1.36 answers.
    #[test]
    fn what_is_no_yaml_is_refused_in_upstreams_words() {
        let cases = [
            ("x: {a: b}\n{}", "line 1: did not find expected key"),
            ("x: y\nz: {a: b}\nnull", "line 4: could not find expected ':'"),
            ("a: b\nc", "line 3: could not find expected ':'"),
            ("x: y\n- a", "line 1: did not find expected key"),
            ("- a\n- b\ndata: x", "line 2: did not find expected '-' indicator"),
            ("a: b: c", "mapping values are not allowed in this context"),
            ("x: y\na: b: c", "line 2: mapping values are not allowed in this context"),
            ("a:\n\tb: c", "line 2: found character that cannot start any token"),
            ("x: {a: b}\n\ta: b", "line 2: found character that cannot start any token"),
            ("a: [", "line 1: did not find expected node content"),
            ("x: y\na: {", "line 2: did not find expected node content"),
            ("data: {a: b", "line 1: did not find expected ',' or '}'"),
            ("a: \"", "found unexpected end of stream"),
            ("x: y\na: 'x", "line 2: found unexpected end of stream"),
            ("a: \"\\q\"", "found unknown escape character"),
            ("data: {a: \"\\u12\"}", "did not find expected hexdecimal number"),
            ("x: y\ndata: {a: \"\\ud800\"}", "line 2: found invalid Unicode character escape code"),
            ("a: *x", "unknown anchor 'x' referenced"),
            ("data:\n  <<: *x", "unknown anchor 'x' referenced"),
            ("data: {a: |\n  x}", "found character that cannot start any token"),
            ("data:\n  a: b\n c: d", "line 2: did not find expected key"),
            ("data: }", "did not find expected node content"),
            ("x: y\nkey: [a, b]]", "line 1: did not find expected key"),
            ("x: y\ndata: @x", "line 2: found character that cannot start any token"),
            ("x: y\ndata: {a: \"\u{1}\"}", "control characters are not allowed"),
            ("x: y\ndata: {a: - b}", "line 1: did not find expected node content"),
            ("data: {[a]: b}", "invalid map key: []interface {}{\"a\"}"),
            ("data: {? {a: b} : c}", "invalid map key: map[interface {}]interface {}{\"a\":\"b\"}"),
        ];
        let wrong: Vec<String> = cases
            .iter()
            .filter_map(|(text, wanted)| {
                let found = match crate::codec::yaml::parse(text.as_bytes()) {
                    Err(DecodeError::Syntax(found)) => found,
                    other => format!("{other:?}"),
                };
                let wanted = format!("error converting YAML to JSON: yaml: {wanted}");
                (found != wanted).then(|| format!("{text:?}\n  {wanted}\n  {found}"))
            })
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
