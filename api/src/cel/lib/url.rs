//! URLs as Go's `net/url` reads them.
//!
//! Never opens one.

use crate::cel::convert::text;
use crate::cel::declare::Library;
use crate::cel::error::{Fault, Outcome};
use crate::cel::format::quoted;
use crate::cel::lib::Opaque;
use crate::cel::value::{Entries, List, Map, Value};
use std::sync::Arc;

pub(crate) const LIBRARY: Library = Library {
    since: Some(0),
    signatures: "
        url string_to_url (string) kubernetes.URL
        .getScheme url_get_scheme (kubernetes.URL) string
        .getHost url_get_host (kubernetes.URL) string
        .getHostname url_get_hostname (kubernetes.URL) string
        .getPort url_get_port (kubernetes.URL) string
        .getEscapedPath url_get_escaped_path (kubernetes.URL) string
        .getQuery url_get_query (kubernetes.URL) map(string, list(string))
        isURL is_url_string (string) bool
    ",
    code: &[
        ("url", |_, args| match args {
            [Value::String(raw)] => {
                let wrong = |error| Fault::said(format!("URL parse error during conversion from string: {error}"));
                check_request(raw).map_err(wrong)?;
                Ok(Value::Opaque(Opaque::Url(Arc::new(Url::parse(raw).map_err(wrong)?))))
            }
            _ => Err(Fault::NoSuchOverload),
        }),
        ("isURL", |_, args| match args {
            [Value::String(raw)] => Ok(Value::Bool(check_request(raw).is_ok())),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("getScheme", |_, args| part(args, |url| url.scheme.clone())),
        ("getHost", |_, args| part(args, |url| url.host.clone())),
        ("getHostname", |_, args| part(args, |url| url.name_and_port().0.to_owned())),
        ("getPort", |_, args| part(args, |url| url.name_and_port().1.to_owned())),
        ("getEscapedPath", |_, args| part(args, |url| url.path.clone())),
        ("getQuery", |_, args| match args {
            [Value::Opaque(Opaque::Url(url))] => query(&url.query),
            _ => Err(Fault::NoSuchOverload),
        }),
    ],
};

fn part<'a>(args: &[Value<'a>], of: fn(&Url) -> String) -> Outcome<Value<'a>> {
    match args {
        [Value::Opaque(Opaque::Url(url))] => Ok(text(of(url))),
        _ => Err(Fault::NoSuchOverload),
    }
}

/// A URL in its parts.
#[derive(Clone, Debug, Default)]
pub struct Url {
    pub(crate) text: String,
    scheme: String,
    host: String,
    /// Escaped.
    path: String,
    query: String,
}

/// What Go demands of a URL in a request: absolute, or a path from the root.
pub(crate) fn check_request(raw: &str) -> Result<(), String> {
    parse(raw, true).map(|_| ()).map_err(|why| format!("parse {}: {why}", quoted(raw)))
}

impl Url {
    fn parse(raw: &str) -> Result<Url, String> {
        let (without, fragment) = raw.split_once('#').unwrap_or((raw, ""));
        let wrong = |why: String| format!("parse {}: {why}", quoted(raw));
        let mut url = parse(without, false).map_err(wrong)?;
        unescape(fragment, false).map_err(wrong)?;
        raw.clone_into(&mut url.text);
        Ok(url)
    }

    fn name_and_port(&self) -> (&str, &str) {
        let (name, port) = match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
            _ => (self.host.as_str(), ""),
        };
        (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
    }
}

fn parse(raw: &str, request: bool) -> Result<Url, String> {
    if raw.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    if raw.is_empty() && request {
        return Err("empty url".to_owned());
    }
    let mut url = Url::default();
    if raw == "*" {
        raw.clone_into(&mut url.path);
        return Ok(url);
    }
    let (scheme, rest) = scheme(raw)?;
    url.scheme = scheme.to_ascii_lowercase();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    query.clone_into(&mut url.query);
    let mut rest = rest;
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            // Opaque, as `mailto:` is.
            return Ok(url);
        }
        if request {
            return Err("invalid URI for request".to_owned());
        }
        if rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    if (!url.scheme.is_empty() || !request && !rest.starts_with("///"))
        && let Some(after) = rest.strip_prefix("//")
    {
        let end = after.find('/').unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        url.host = host(authority)?;
        rest = path;
    }
    let path = unescape(rest, false)?;
    let valid = |b: u8| plain(b) || b"!$&'()*+,;=:@[]%/".contains(&b);
    url.path = if rest.bytes().all(valid) { rest.to_owned() } else { escaped(&path) };
    Ok(url)
}

fn plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.~".contains(&b)
}

fn escaped(path: &[u8]) -> String {
    let mut made = String::new();
    for b in path {
        if plain(*b) || b"$&+,/:;=@".contains(b) {
            made.push(char::from(*b));
        } else {
            made.push_str(&format!("%{b:02X}"));
        }
    }
    made
}

fn scheme(raw: &str) -> Result<(&str, &str), String> {
    for (at, b) in raw.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((raw.get(..at).unwrap_or_default(), raw.get(at + 1..).unwrap_or_default())),
            _ => return Ok(("", raw)),
        }
    }
    Ok(("", raw))
}

fn host(authority: &str) -> Result<String, String> {
    let host = match authority.rsplit_once('@') {
        None => authority,
        Some((user, host)) => {
            if !user.bytes().all(|b| plain(b) || b"!$&'()*+,;=:%@".contains(&b)) {
                return Err("net/url: invalid userinfo".to_owned());
            }
            unescape(user, false)?;
            host
        }
    };
    let port_of = |port: &str| {
        let digits = port.strip_prefix(':');
        if port.is_empty() || digits.is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit())) {
            Ok(())
        } else {
            Err(format!("invalid port {} after host", quoted(port)))
        }
    };
    if host.starts_with('[') {
        let Some(end) = host.rfind(']') else { return Err("missing ']' in host".to_owned()) };
        port_of(host.get(end + 1..).unwrap_or_default())?;
    } else if let Some(colon) = host.rfind(':') {
        port_of(host.get(colon..).unwrap_or_default())?;
    }
    if let Some(bad) = host.chars().find(|c| c.is_ascii() && !plain(*c as u8) && !"!$&'()*+,;=:[]<>\"%".contains(*c)) {
        return Err(format!("invalid character {} in host name", quoted(&bad.to_string())));
    }
    let bytes = unescape(host, false)?;
    String::from_utf8(bytes).map_err(|_| "invalid host".to_owned())
}

fn unescape(text: &str, query: bool) -> Result<Vec<u8>, String> {
    let mut made = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(b) = bytes.get(at) {
        match b {
            b'%' => {
                let digits = text.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
                let Some(value) = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
                    let shown: String = text.get(at..).unwrap_or_default().chars().take(3).collect();
                    return Err(format!("invalid URL escape {}", quoted(&shown)));
                };
                made.push(value);
                at += 3;
            }
            b'+' if query => {
                made.push(b' ');
                at += 1;
            }
            b => {
                made.push(*b);
                at += 1;
            }
        }
    }
    Ok(made)
}

/// The values of each name; what cannot be read is left out.
fn query<'a>(raw: &str) -> Outcome<Value<'a>> {
    let mut found: Vec<(String, Vec<Value<'a>>)> = Vec::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Ok(name), Ok(value)) = (unescape(name, true), unescape(value, true)) else { continue };
        let name = String::from_utf8_lossy(&name).into_owned();
        let value = text(String::from_utf8_lossy(&value).into_owned());
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => found.push((name, vec![value])),
        }
    }
    let mut entries = Entries::default();
    for (name, values) in found {
        entries.insert(text(name), Value::List(List::of(values)))?;
    }
    Ok(Value::Map(Map::of(entries)))
}
