//! Whatever is sent has one meaning: what was understood of a path, written plainly, is understood the same way.

use crate::request::{Query, RequestInfo, broken_escape};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A path from which this is read, in its plainest form.
fn written(info: &RequestInfo) -> String {
    let encoded = |part: &String| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
    let mut parts =
        if info.group.is_empty() { vec!["api".to_owned()] } else { vec!["apis".to_owned(), encoded(&info.group)] };
    parts.push(encoded(&info.version));
    if !info.namespace.is_empty() && info.resource != "namespaces" {
        parts.extend(["namespaces".to_owned(), encoded(&info.namespace)]);
    }
    let own = [&info.resource, &info.name, &info.subresource].into_iter().filter(|part| !part.is_empty());
    parts.extend(own.chain(&info.rest).map(encoded));
    format!("/{}", parts.join("/"))
}

/// `METHOD /path?query`.
pub(super) fn bytes(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (method, target) = text.split_once(' ').unwrap_or(("GET", &text));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = Query::parse(query);
    let info = RequestInfo::parse(method, path, &query);
    if broken_escape(path).is_some() {
        return;
    }
    let named = [&info.group, &info.version, &info.namespace, &info.resource, &info.name, &info.subresource];
    if !info.is_resource {
        // No resource is none at all: who may see a path may see nothing that has a name. A group may have been read before the path turned
        // out to be too short.
        assert!(named.iter().skip(2).all(|part| part.is_empty()), "{info:?}");
        return;
    }
    let selected = query.get("fieldSelector").is_some() && !info.name.is_empty();
    assert!(selected || named.iter().all(|part| !part.contains('/')), "{info:?}");
    if info.gaps {
        return;
    }
    assert!(!info.subresource.is_empty() || info.rest.is_empty(), "{info:?}");
    assert!(!info.resource.is_empty() && !info.version.is_empty(), "{info:?}");
    let own = ["", "status", "finalize"].contains(&info.subresource.as_str());
    let itself = info.resource != "namespaces" || (info.namespace == info.name && own);
    if selected || info.verb == "watch" || info.resource == "watch" || !itself {
        return;
    }
    let again = RequestInfo { path: info.path.clone(), ..RequestInfo::parse(method, &written(&info), &query) };
    assert_eq!(again, info, "{}", written(&info));
}

#[cfg(test)]
mod tests {
    use super::super::dice::Dice;

    #[test]
    fn pieces_in_any_order_have_one_meaning() {
        const PIECES: [&str; 32] = [
            "api",
            "apis",
            "v1",
            "apps",
            "namespaces",
            "default",
            "pods",
            "p",
            "status",
            "finalize",
            "log",
            "proxy",
            "watch",
            "exec",
            "..",
            ".",
            "",
            "%2f",
            "%2F..",
            "%2e%2e",
            "%00",
            "%25",
            "%ff",
            "%25%32%66",
            "a%2fb",
            "\u{e9}",
            "*",
            ";",
            "a b",
            "\\",
            "#",
            "~",
        ];
        const METHODS: [&str; 8] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "TRACE", ""];
        const QUERIES: [&str; 6] = [
            "",
            "watch=true",
            "watch=0",
            "fieldSelector=metadata.name%3Dx",
            "fieldSelector=%",
            "labelSelector=a&labelSelector=b",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..50_000 {
            let bytes: Vec<u8> = (0..32)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    state.to_be_bytes()[0]
                })
                .collect();
            let mut dice = Dice(&bytes);
            let mut one = |all: &[&'static str]| all[usize::from(dice.roll(u8::try_from(all.len()).unwrap()))];
            let mut text = format!("{} ", one(&METHODS));
            for _ in 0..one(&["", "1", "22", "333", "4444", "55555", "666666", "7777777", "88888888"]).len() {
                text.push_str(one(&["/", "/", "/", "/", "/", "/", "/", ""]));
                text.push_str(one(&PIECES));
            }
            super::bytes(format!("{text}?{}", one(&QUERIES)).as_bytes());
        }
    }
}
