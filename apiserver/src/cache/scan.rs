//! The labels of a stored object without reading the rest of it.
//!
//! Knows JSON as our encoder writes it, without spaces; says that it does not know where the bytes look otherwise, and then the whole object is
//! to be read. Never decides what a label means.

/// The bytes of `metadata.labels`; inside, `None` where the object has none. `None` for bytes that are not as our encoder writes them.
pub(super) fn labels(object: &[u8]) -> Option<Option<&[u8]>> {
    let metadata = member(object, b"metadata")?;
    metadata.map_or(Some(None), |metadata| member(metadata, b"labels"))
}

/// The bytes of a member's value; inside, `None` where the object has no such member.
pub(super) fn member<'o>(object: &'o [u8], wanted: &[u8]) -> Option<Option<&'o [u8]>> {
    if object == b"{}" {
        return Some(None);
    }
    let mut at = 0;
    let mut before = b'{';
    loop {
        if *object.get(at)? != before {
            return None;
        }
        let key = at + 1;
        let colon = string(object, key)?;
        if *object.get(colon)? != b':' {
            return None;
        }
        let end = value(object, colon + 1)?;
        if object.get(key + 1..colon - 1)? == wanted {
            return Some(Some(object.get(colon + 1..end)?));
        }
        match object.get(end)? {
            b'}' => return Some(None),
            b',' => (at, before) = (end, b','),
            _ => return None,
        }
    }
}

/// Where the string that begins at `at` has ended.
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the value that begins at `at` has ended.
fn value(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => at = string(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            // Between the members of what is open.
            b',' | b':' if depth > 0 => {
                at += 1;
                continue;
            }
            b'0'..=b'9' | b'-' | b't' | b'f' | b'n' => {
                let length = bytes.get(at..)?.iter().position(|byte| matches!(byte, b',' | b'}' | b']'))?;
                at += length;
            }
            _ => return None,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use api::json::{Value, json};
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    #[test]
    fn labels_are_found_where_they_are() {
        let check = |text: &str, want: Option<Option<&str>>| {
            let got = labels(text.as_bytes()).map(|found| found.map(|found| std::str::from_utf8(found).unwrap()));
            assert_eq!(got, want, "{text}");
        };
        check(r#"{"metadata":{"labels":{"a":"b"}}}"#, Some(Some(r#"{"a":"b"}"#)));
        check(r#"{"kind":"A","metadata":{"name":"labels","labels":{}},"data":{}}"#, Some(Some("{}")));
        check(r#"{"kind":"A","metadata":{"name":"a"},"data":{"labels":{"a":"b"}}}"#, Some(None));
        check(r#"{"data":{"metadata":{"labels":{"a":"b"}}}}"#, Some(None));
        check(r#"{"data":{"x":"\"metadata\":{\\"},"metadata":{"annotations":{"labels":"\\\""}}}"#, Some(None));
        check(
            r#"{"metadata":{"generation":-3,"x":[1,[true,{"a":null}],"]"],"labels":{"a":"]"}}}"#,
            Some(Some(r#"{"a":"]"}"#)),
        );
        check(r#"{"metadata":{}}"#, Some(None));
        check("{}", Some(None));
        // Not as our encoder writes.
        for text in [
            "",
            "{",
            "[]",
            r#"{ "metadata":{}}"#,
            r#"{"metadata": {}}"#,
            r#"{"metadata":{"labels":{"a":"b"}"#,
            r#"{"metadata""#,
            r#"{"metadata":"#,
        ] {
            check(text, None);
        }
    }

    fn any(random: &mut StdRng, depth: u32) -> Value {
        let texts = ["", "labels", "metadata", "a\"b", "\\", "}{][,:", "é\u{1}\n"];
        match random.random_range(0..if depth == 0 { 4 } else { 6 }) {
            0 => Value::Null,
            1 => json!(random.random::<bool>()),
            2 => json!(random.random_range(-5..500)),
            3 => texts[random.random_range(0..texts.len())].into(),
            4 => (0..random.random_range(0..4)).map(|_| any(random, depth - 1)).collect::<Vec<_>>().into(),
            _ => {
                let members = (0..random.random_range(0..4))
                    .map(|_| (texts[random.random_range(0..texts.len())].to_owned(), any(random, depth - 1)));
                members.collect::<Vec<_>>().into_iter().fold(json!({}), |mut object, (name, value)| {
                    object.as_object_mut().unwrap().insert(name, value);
                    object
                })
            }
        }
    }

    #[test]
    fn what_is_found_is_what_reading_the_whole_finds() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..20_000 {
            let value = any(&mut random, 4);
            let text = value.to_string();
            let Some(found) = labels(text.as_bytes()) else {
                let metadata = value.get("metadata");
                assert!(!value.is_object() || metadata.is_some_and(|metadata| !metadata.is_object()), "{text}");
                continue;
            };
            let want = value.get("metadata").and_then(|metadata| metadata.get("labels"));
            let found = found.map(|found| api::codec::json::parse(found).unwrap());
            assert_eq!(found.as_ref(), want, "seed {seed}: {text}");
        }
    }
}
