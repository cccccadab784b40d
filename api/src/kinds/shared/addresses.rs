//! Addresses and CIDRs in the fields of objects: what is valid in a new field, what an old field still takes, and what
//! warrants a warning.
//!
//! "Sloppy" is what Kubernetes once read: leading zeros. Never resolves a name. Source: KEP-4858.

use super::names::{self, Messages};
use crate::field_path::{Errors, FieldError, Path};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The sentence for what is no CIDR.
pub const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// The address itself where it is an IPv4 address in IPv6 clothes.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// A number without its leading zeros; other texts as they are.
fn without_zeros(text: &str) -> &str {
    match text.trim_start_matches('0') {
        "" if !text.is_empty() => "0",
        rest => rest,
    }
}

fn sloppy_v4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').map(without_zeros).collect();
    parts.join(".").parse().ok()
}

/// An address, with leading zeros or without.
#[must_use]
pub fn sloppy_ip(text: &str) -> Option<IpAddr> {
    if let Some(v4) = sloppy_v4(text) {
        return Some(IpAddr::V4(v4));
    }
    let parts: Vec<String> = text
        .split(':')
        .map(|part| {
            if part.contains('.') { sloppy_v4(part).map(|v4| v4.to_string()) } else { Some(without_zeros(part).into()) }
        })
        .collect::<Option<_>>()?;
    parts.join(":").parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Address and length of a CIDR, with leading zeros or without, with bits beyond the length or without.
#[must_use]
pub fn sloppy_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address = sloppy_ip(address)?;
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let length: u8 = digits.then(|| without_zeros(length).parse().ok())??;
    (length <= bits(address)).then_some((address, length))
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first address of a network.
fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// The network as text, an IPv4 one as IPv4 whatever its clothes.
fn network_text(address: IpAddr, length: u8) -> String {
    let first = network(address, length);
    let plain = unmapped(first);
    let shorter = bits(first) - bits(plain);
    format!("{plain}/{}", length.saturating_sub(shorter))
}

/// Whether `inner` lies within `outer` and is smaller.
#[must_use]
pub fn is_strictly_within(inner: (IpAddr, u8), outer: (IpAddr, u8)) -> bool {
    let ((inner, inner_length), (outer, outer_length)) = (inner, outer);
    inner.is_ipv4() == outer.is_ipv4()
        && network(inner, outer_length) == network(outer, outer_length)
        && outer_length < inner_length
}

/// What is wrong with an address in a field that predates strict validation.
#[must_use]
pub fn legacy_ip(text: &str) -> Messages {
    let Some(address) = sloppy_ip(text) else { return vec![names::NOT_AN_IP.to_owned()] };
    let rules = [
        (names::ip(text).is_none(), "must not have leading 0s"),
        (is_mapped(address) && names::ip(text).is_some(), "must not be an IPv4-mapped IPv6 address"),
    ];
    rules.iter().filter(|(broken, _)| *broken).map(|(_, message)| (*message).to_owned()).collect()
}

/// What is wrong with an address that must be in canonical form.
#[must_use]
pub fn canonical_ip(text: &str) -> Messages {
    let mut out = legacy_ip(text);
    if let (true, Some(address)) = (out.is_empty(), names::ip(text))
        && address.to_string() != text
    {
        out.push(format!("must be in canonical form (\"{address}\")"));
    }
    out
}

fn strict_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    names::ip(address)?;
    (without_zeros(length) == length).then(|| sloppy_cidr(text))?
}

/// What is wrong with a CIDR in a field that predates strict validation.
#[must_use]
pub fn legacy_cidr(text: &str) -> Messages {
    if sloppy_cidr(text).is_none() {
        return vec![NOT_A_CIDR.to_owned()];
    }
    match strict_cidr(text) {
        None => vec!["must not have leading 0s in IP or prefix length".to_owned()],
        Some((address, _)) if is_mapped(address) => vec!["must not have an IPv4-mapped IPv6 address".to_owned()],
        Some((address, length)) if network(address, length) != address => {
            vec!["must not have bits set beyond the prefix length".to_owned()]
        }
        Some(_) => Messages::new(),
    }
}

/// What is wrong with a CIDR that must be in canonical form.
#[must_use]
pub fn canonical_cidr(text: &str) -> Messages {
    let mut out = legacy_cidr(text);
    if let (true, Some((address, length))) = (out.is_empty(), sloppy_cidr(text)) {
        let canonical = network_text(address, length);
        if canonical != text {
            out.push(format!("must be in canonical form (\"{canonical}\")"));
        }
    }
    out
}

/// What is wrong with an address of an interface, which keeps the bits beyond its prefix.
#[must_use]
pub fn interface_address(text: &str) -> Messages {
    let Some((address, length)) = sloppy_cidr(text) else {
        return vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".to_owned()];
    };
    let plain = unmapped(address);
    let canonical = format!("{plain}/{}", length.saturating_sub(bits(address) - bits(plain)));
    if canonical == text { Messages::new() } else { vec![format!("must be in canonical form (\"{canonical}\")")] }
}

/// Adds what is wrong with a text under one of the rules, unless the object had this text before.
pub fn check(errors: &mut Errors, field: &Path, text: &str, rule: fn(&str) -> Messages, before: &[&str]) {
    if !before.contains(&text) {
        errors.extend(rule(text).into_iter().map(|message| FieldError::invalid(field, text, message)));
    }
}

/// Warnings about an address that is not in canonical form.
#[must_use]
pub fn ip_warnings(field: &Path, text: &str) -> Vec<String> {
    let Some(address) = sloppy_ip(text) else { return Vec::new() };
    if names::ip(text).is_none() || is_mapped(address) {
        let better = unmapped(address);
        return vec![format!("{field}: non-standard IP address {text:?} is invalid: use \"{better}\"")];
    }
    if address.is_ipv6() && address.to_string() != text {
        return vec![format!("{field}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")")];
    }
    Vec::new()
}

/// Warnings about a CIDR that is ambiguous or not in canonical form.
#[must_use]
pub fn cidr_warnings(field: &Path, text: &str) -> Vec<String> {
    let Some((address, length)) = sloppy_cidr(text) else { return Vec::new() };
    let mut out = Vec::new();
    let better = network_text(address, length);
    if network(address, length) != address {
        let single = format!("{}/{}", unmapped(address), bits(address));
        out.push(format!(
            "{field}: CIDR value {text:?} is ambiguous in this context (should be {better:?} or {single:?}?)"
        ));
    }
    if strict_cidr(text).is_none() || is_mapped(address) {
        out.push(format!("{field}: non-standard CIDR value {text:?} is invalid: use {better:?}"));
    }
    if out.is_empty() && address.is_ipv6() && better != text {
        out.push(format!("{field}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({better:?})"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged_by_the_age_of_their_field() {
        for (text, legacy, canonical) in [
            ("10.0.0.1", "", ""),
            ("fe80::abc", "", ""),
            ("FE80:0:0::0abc", "", "must be in canonical form (\"fe80::abc\")"),
            ("010.0.0.1", "must not have leading 0s", "must not have leading 0s"),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address", "must not be an IPv4-mapped IPv6 address"),
            ("10.0.0.256", names::NOT_AN_IP, names::NOT_AN_IP),
            ("fe80::1%eth0", names::NOT_AN_IP, names::NOT_AN_IP),
            ("", names::NOT_AN_IP, names::NOT_AN_IP),
        ] {
            assert_eq!(legacy_ip(text).join("; "), legacy, "{text}");
            assert_eq!(canonical_ip(text).join("; "), canonical, "{text}");
        }
    }

    #[test]
    fn cidrs_are_judged_by_the_age_of_their_field() {
        for (text, legacy, canonical) in [
            ("10.0.0.0/8", "", ""),
            ("0.0.0.0/0", "", ""),
            ("::/0", "", ""),
            ("2001:DB8::/64", "", "must be in canonical form (\"2001:db8::/64\")"),
            (
                "10.0.0.0/08",
                "must not have leading 0s in IP or prefix length",
                "must not have leading 0s in IP or prefix length",
            ),
            (
                "10.0.0.1/8",
                "must not have bits set beyond the prefix length",
                "must not have bits set beyond the prefix length",
            ),
            (
                "::ffff:1.2.3.0/120",
                "must not have an IPv4-mapped IPv6 address",
                "must not have an IPv4-mapped IPv6 address",
            ),
            ("10.0.0.0", NOT_A_CIDR, NOT_A_CIDR),
            ("10.0.0.0/33", NOT_A_CIDR, NOT_A_CIDR),
            ("10.0.0.0/+8", NOT_A_CIDR, NOT_A_CIDR),
        ] {
            assert_eq!(legacy_cidr(text).join("; "), legacy, "{text}");
            assert_eq!(canonical_cidr(text).join("; "), canonical, "{text}");
        }
    }

    #[test]
    fn doubtful_forms_are_named() {
        let at = Path::new("f");
        for (text, warnings) in [
            ("10.0.0.1", &[][..]),
            ("1.2.3.010", &["f: non-standard IP address \"1.2.3.010\" is invalid: use \"1.2.3.10\""]),
            ("::ffff:1.2.3.4", &["f: non-standard IP address \"::ffff:1.2.3.4\" is invalid: use \"1.2.3.4\""]),
            (
                "2001:DB8::1",
                &["f: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")"],
            ),
        ] {
            assert_eq!(ip_warnings(&at, text), warnings);
        }
        for (text, warnings) in [
            ("10.0.0.0/8", &[][..]),
            (
                "10.0.0.1/8",
                &[
                    "f: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)",
                ],
            ),
            ("010.0.0.0/8", &["f: non-standard CIDR value \"010.0.0.0/8\" is invalid: use \"10.0.0.0/8\""]),
            (
                "::ffff:1.2.3.0/120",
                &["f: non-standard CIDR value \"::ffff:1.2.3.0/120\" is invalid: use \"1.2.3.0/24\""],
            ),
            (
                "2001:DB8::/64",
                &["f: IPv6 CIDR value \"2001:DB8::/64\" should be in RFC 5952 canonical format (\"2001:db8::/64\")"],
            ),
        ] {
            assert_eq!(cidr_warnings(&at, text), warnings);
        }
    }

    #[test]
    fn subsets_are_strict_and_of_one_family() {
        for (inner, outer, within) in [
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.0.0.0/8", false),
            ("11.0.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/7", "10.0.0.0/8", false),
            ("::/64", "0.0.0.0/0", false),
        ] {
            let got = is_strictly_within(sloppy_cidr(inner).unwrap(), sloppy_cidr(outer).unwrap());
            assert_eq!(got, within, "{inner} {outer}");
        }
    }
}
