//! Pages that come through `proxy`: links to the backend's own paths are led back through the proxy, piece by piece.
//!
//! Never understands a page further than where its tags and their attributes are, and never holds more of it than one tag.
//! Source: upstream's proxy transport.

use bytes::Bytes;

/// Which attributes of which elements are URLs.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// A tag that is longer is passed on as it is.
const LONGEST: usize = 64 * 1024;

/// The URL as the client reaches it: an absolute path goes below `prefix` (without a slash at its end), anything else
/// stays as it is.
pub(super) fn led_back(url: &str, prefix: &str) -> Option<String> {
    let absolute = url.starts_with('/') && !url.starts_with("//");
    (absolute && !url.starts_with(prefix)).then(|| format!("{prefix}{url}"))
}

/// Leads the links of one page back.
pub(super) struct Page {
    prefix: String,
    /// The beginning of a tag whose end has not come yet.
    held: Vec<u8>,
}

impl Page {
    pub(super) fn new(prefix: &str) -> Page {
        Page { prefix: prefix.to_owned(), held: Vec::new() }
    }

    /// The next piece, as far as its tags are whole.
    pub(super) fn piece(&mut self, bytes: &[u8]) -> Bytes {
        let mut rest = std::mem::take(&mut self.held);
        rest.extend_from_slice(bytes);
        let mut out = Vec::with_capacity(rest.len());
        let mut rest = rest.as_slice();
        while let Some(open) = rest.iter().position(|byte| *byte == b'<') {
            let (text, tag) = rest.split_at_checked(open).unwrap_or((rest, &[]));
            out.extend_from_slice(text);
            match end_of(tag) {
                Some(end) => {
                    let (tag, after) = tag.split_at_checked(end).unwrap_or((tag, &[]));
                    out.extend(self.tag(tag));
                    rest = after;
                }
                None if tag.len() < LONGEST => {
                    self.held = tag.to_vec();
                    return out.into();
                }
                None => {
                    rest = tag;
                    break;
                }
            }
        }
        out.extend_from_slice(rest);
        out.into()
    }

    /// What is left at the end.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }

    fn tag(&self, tag: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(tag) else { return tag.to_vec() };
        let name: String = text.chars().skip(1).take_while(char::is_ascii_alphanumeric).collect();
        let Some((_, links)) = LINKS.iter().find(|(element, _)| element.eq_ignore_ascii_case(&name)) else {
            return tag.to_vec();
        };
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        // Each attribute with a quoted value: what is before it, the name, the value.
        while let Some((before, quote, value, after)) = quoted(rest) {
            let attribute = before.trim_end().strip_suffix('=').map(str::trim_end).unwrap_or_default();
            let attribute = attribute.rsplit(|c: char| c.is_ascii_whitespace() || c == '/').next().unwrap_or_default();
            let link = links.iter().any(|one| one.eq_ignore_ascii_case(attribute));
            let led = if link { led_back(value, &self.prefix) } else { None };
            out.push_str(before);
            out.push(quote);
            out.push_str(led.as_deref().unwrap_or(value));
            out.push(quote);
            rest = after;
        }
        out.push_str(rest);
        out.into_bytes()
    }
}

/// Where the tag that begins here ends: behind the first `>` outside of quotes.
fn end_of(tag: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in tag.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

/// The first quoted text: what is before it, its quotes, itself, and what is behind it.
fn quoted(text: &str) -> Option<(&str, char, &str, &str)> {
    let open = text.find(['"', '\''])?;
    let (before, rest) = text.split_at_checked(open)?;
    let quote = rest.chars().next()?;
    let (value, after) = rest.get(1..)?.split_once(quote)?;
    Some((before, quote, value, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/api/v1/namespaces/a/pods/p/proxy";

    fn whole(page: &str, size: usize) -> String {
        let mut rewriter = Page::new(PREFIX);
        let mut out: Vec<u8> = page.as_bytes().chunks(size).flat_map(|piece| rewriter.piece(piece)).collect();
        out.extend(rewriter.rest());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn links_are_led_back_however_the_page_is_cut() {
        for (page, expected) in [
            ("<a href=\"/x\">t</a>", format!("<a href=\"{PREFIX}/x\">t</a>")),
            ("<A class='c' HREF = '/x?y=1#z' >", format!("<A class='c' HREF = '{PREFIX}/x?y=1#z' >")),
            ("<img src=\"/i.png\" alt=\"/i > 1\"/>", format!("<img src=\"{PREFIX}/i.png\" alt=\"/i > 1\"/>")),
            ("<a href=\"x\">", "<a href=\"x\">".to_owned()),
            ("<a href=\"//host/x\">", "<a href=\"//host/x\">".to_owned()),
            ("<a href=\"http://host/x\">", "<a href=\"http://host/x\">".to_owned()),
            (&format!("<a href=\"{PREFIX}/x\">"), format!("<a href=\"{PREFIX}/x\">")),
            ("<p title=\"/x\">1 < 2", "<p title=\"/x\">1 < 2".to_owned()),
            ("<a data-href=\"/x\">", "<a data-href=\"/x\">".to_owned()),
            ("text only", "text only".to_owned()),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(whole(page, size), expected, "{page} by {size}");
            }
        }
    }

    #[test]
    fn a_tag_without_end_does_not_pile_up() {
        let mut rewriter = Page::new(PREFIX);
        let long = vec![b'<'; 3 * LONGEST];
        let passed: usize = long.chunks(1000).map(|piece| rewriter.piece(piece).len()).sum();
        assert!(rewriter.held.len() <= LONGEST + 1000);
        assert_eq!(passed + rewriter.rest().len(), long.len());
    }
}
