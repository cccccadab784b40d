//! Syntax of names, keys, labels, ports and addresses, with the sentences clients know.
//!
//! Every function answers what is wrong with a text, nothing when it is fine; which field it is, the caller knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

/// What is wrong, one sentence each.
pub type Messages = Vec<String>;

/// `msg (e.g. 'a',  or 'b', regex used for validation is 'r')`: the oddly placed commas are part of the API.
fn regex_error(message: &str, regex: &str, examples: &[&str]) -> String {
    let shown: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{regex}')", shown.join(" or "))
}

/// The sentence for a text longer than `max`.
#[must_use]
pub fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// The same in the words of the newer rules.
fn too_many_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// The sentence for a number outside a range.
#[must_use]
pub fn range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// First, middle and last characters follow their own rules.
fn framed(text: &str, first: fn(u8) -> bool, middle: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(a), Some(z)) if first(*a) && last(*z))
        && bytes.iter().all(|b| middle(*b))
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn lower_or_dash(b: u8) -> bool {
    lower(b) || b == b'-'
}

fn alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn label_char(b: u8) -> bool {
    alnum(b) || matches!(b, b'-' | b'_' | b'.')
}

fn is_label(text: &str) -> bool {
    framed(text, lower, lower_or_dash, lower)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// RFC 1123 label.
#[must_use]
pub fn dns_label(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > 63 {
        out.push(too_long(63));
    }
    if !is_label(text) {
        out.push(if is_subdomain(text) {
            "must not contain dots".to_owned()
        } else {
            regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    out
}

/// RFC 1123 subdomain.
#[must_use]
pub fn dns_subdomain(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > 253 {
        out.push(too_long(253));
    }
    if !is_subdomain(text) {
        out.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            &format!("{LABEL}(\\.{LABEL})*"),
            &["example.com"],
        ));
    }
    out
}

/// RFC 1123 subdomain with underscores, which are allowed where names are searched alone.
#[must_use]
pub fn dns_search(text: &str) -> Messages {
    const LABEL: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    let mut out = Messages::new();
    if text.len() > 253 {
        out.push(too_long(253));
    }
    let label =
        |label: &str| framed(label.strip_prefix('_').unwrap_or(label), lower, |b| lower_or_dash(b) || b == b'_', lower);
    if !text.split('.').all(label) {
        out.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must \
             start and end with an alphanumeric character",
            &format!("{LABEL}(\\.{LABEL})*"),
            &["example.com"],
        ));
    }
    out
}

/// A name in C.
#[must_use]
pub fn c_identifier(text: &str) -> Messages {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if framed(text, letter, word, word) {
        return Messages::new();
    }
    vec![regex_error(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters \
         or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// The messages of a rule as upstream's declared rules say them, which count bytes.
fn in_bytes(messages: Messages, max: usize) -> Messages {
    messages.into_iter().map(|message| if message == too_long(max) { too_many_bytes(max) } else { message }).collect()
}

/// RFC 1123 label, for fields with declared rules.
#[must_use]
pub fn short_name(text: &str) -> Messages {
    in_bytes(dns_label(text), 63)
}

/// RFC 1123 subdomain, for fields with declared rules.
#[must_use]
pub fn long_name(text: &str) -> Messages {
    in_bytes(dns_subdomain(text), 253)
}

/// RFC 1123 subdomain in any case, for fields with declared rules.
#[must_use]
pub fn long_name_caseless(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > 253 {
        out.push(too_many_bytes(253));
    }
    if !text.split('.').all(|label| framed(label, alnum, |b| alnum(b) || b == b'-', alnum)) {
        out.push(regex_error(
            "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an \
             alphanumeric character",
            &format!("{LABEL}(\\.{LABEL})*"),
            &["Example.com"],
        ));
    }
    out
}

/// RFC 1035 label.
#[must_use]
pub fn dns_1035_label(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > 63 {
        out.push(too_long(63));
    }
    if !framed(text, |b| b.is_ascii_lowercase(), lower_or_dash, lower) {
        out.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    out
}

/// One segment of a URL path; `prefix` when more will be appended.
#[must_use]
pub fn path_segment(text: &str, prefix: bool) -> Messages {
    if !prefix && matches!(text, "." | "..") {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|part| text.contains(**part)).map(|part| format!("may not contain '{part}'")).collect()
}

/// Key of a label or annotation, finalizer, resource name: `[domain/]name`.
#[must_use]
pub fn qualified_name(text: &str) -> Messages {
    const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                        alphanumeric character";
    const REGEX: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut out = Messages::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            out.push(format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex_error(NAME, REGEX, EXAMPLES)
            ));
            return out;
        }
        Some(("", name)) => {
            out.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            out.extend(long_name(prefix).into_iter().map(|message| format!("prefix part {message}")));
            name
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        out.push(format!("name part {}", too_many_bytes(63)));
    }
    if !framed(name, alnum, label_char, alnum) {
        out.push(format!("name part {}", regex_error(NAME, REGEX, EXAMPLES)));
    }
    out
}

/// Value of a label.
#[must_use]
pub fn label_value(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > 63 {
        out.push(too_many_bytes(63));
    }
    if !text.is_empty() && !framed(text, alnum, label_char, alnum) {
        out.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    out
}

/// Name of a port, as IANA has it.
#[must_use]
pub fn port_name(text: &str) -> Messages {
    let rules = [
        (text.len() > 15, "must be no more than 15 characters"),
        (
            text.is_empty() || !text.bytes().all(lower_or_dash),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (!text.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)"),
        (text.contains("--"), "must not contain consecutive hyphens"),
        (text.starts_with('-') || text.ends_with('-'), "must not begin or end with a hyphen"),
    ];
    rules.iter().filter(|(broken, _)| *broken).map(|(_, message)| (*message).to_owned()).collect()
}

/// Number of a port.
#[must_use]
pub fn port_number(port: i64) -> Messages {
    if (1..=65535).contains(&port) { Messages::new() } else { vec![range(1, 65535)] }
}

/// Key of a config map or secret, which may become a file name.
#[must_use]
pub fn config_key(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.len() > 253 {
        out.push(too_long(253));
    }
    if text.is_empty() || !text.bytes().all(label_char) {
        out.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match text {
        "." | ".." => out.push(format!("must not be '{text}'")),
        _ if text.starts_with("..") => out.push("must not start with '..'".to_owned()),
        _ => {}
    }
    out
}

/// Name of an environment variable.
#[must_use]
pub fn env_name(text: &str) -> Messages {
    let mut out = Messages::new();
    if text.is_empty() {
        out.push("environment variable name must be non-empty".to_owned());
    }
    if !text.bytes().all(|b| (b.is_ascii_graphic() || b == b' ') && b != b'=') {
        out.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='".into(),
        );
    }
    out
}

/// Name of an HTTP header.
#[must_use]
pub fn http_header(text: &str) -> Messages {
    if !text.is_empty() && text.bytes().all(|b| alnum(b) || b == b'-') {
        return Messages::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// An absolute DNS name (`example.com.`) without its final dot, or a relative one.
#[must_use]
pub fn without_final_dot(text: &str) -> &str {
    text.strip_suffix('.').unwrap_or(text)
}

/// The sentence for what is no address.
pub const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// An address without leading zeros in its parts.
#[must_use]
pub fn ip(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv4Addr>().map(IpAddr::V4).or_else(|_| text.parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// Why an address cannot be a destination behind a service or an external address of one.
#[must_use]
pub fn not_special(address: IpAddr) -> Messages {
    let link_local_multicast = match address {
        IpAddr::V4(v4) => v4.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(v6) => v6.segments().first().is_some_and(|s| s & 0xff0f == 0xff02),
    };
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments().first().is_some_and(|s| s & 0xffc0 == 0xfe80),
    };
    let rules = [
        (address.is_unspecified(), format!("may not be unspecified ({address})")),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (link_local_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()),
    ];
    rules.into_iter().filter(|(broken, _)| *broken).map(|(_, message)| message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_texts_pass_and_bad_ones_are_told_why() {
        type Rule = fn(&str) -> Messages;
        let long = "a".repeat(64);
        let cases: &[(Rule, &str, &str)] = &[
            (dns_label, "my-name", ""),
            (dns_label, "a.b", "must not contain dots"),
            (
                dns_label,
                "-a",
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
                 end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (dns_label, &long, "must be no more than 63 characters"),
            (dns_subdomain, "a.b-c.1", ""),
            (
                dns_subdomain,
                "a..b",
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
                 start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
            (qualified_name, "example.com/My_Name", ""),
            (qualified_name, "/x", "prefix part must be non-empty"),
            (qualified_name, &long, "name part must be no more than 63 bytes"),
            (short_name, &long, "must be no more than 63 bytes"),
            (label_value, &long, "must be no more than 63 bytes"),
            (label_value, "", ""),
            (label_value, "a.B_c-1", ""),
            (port_name, "http", ""),
            (port_name, "80", "must contain at least one letter (a-z)"),
            (port_name, "a--b", "must not contain consecutive hyphens"),
            (config_key, "..data", "must not start with '..'"),
            (config_key, "a.b", ""),
            (
                env_name,
                "A=B",
                "a valid environment variable name must consist only of printable ASCII characters other than '='",
            ),
            (|t| path_segment(t, false), "system:node", ""),
            (|t| path_segment(t, false), "a/b", "may not contain '/'"),
            (|t| path_segment(t, false), "..", "may not be '..'"),
        ];
        for (rule, text, message) in cases {
            assert_eq!(rule(text).join("; "), *message, "{text}");
        }
    }

    #[test]
    fn special_addresses_are_refused() {
        for (address, bad) in
            [("10.0.0.1", false), ("127.0.0.1", true), ("169.254.1.1", true), ("::", true), ("224.0.0.5", true)]
        {
            assert_eq!(!not_special(ip(address).unwrap()).is_empty(), bad, "{address}");
        }
        assert_eq!(ip("010.0.0.1"), None);
    }
}
