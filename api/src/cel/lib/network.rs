//! `ip('10.0.0.1')`, `cidr('10.0.0.0/8')` and what can be done with them.
//!
//! Reads what Go's `netip` reads, without zones and without IPv4 inside of IPv6.

use crate::cel::convert::text;
use crate::cel::declare::Library;
use crate::cel::error::{Fault, Outcome};
use crate::cel::format::quoted;
use crate::cel::lib::Opaque;
use crate::cel::value::Value;
use std::net::IpAddr;

pub(crate) const IP: Library = Library {
    since: Some(30),
    signatures: "
        ip string_to_ip (string) net.IP
        .family ip_family (net.IP) int
        ip.isCanonical ip_is_canonical (string) bool
        .isUnspecified ip_is_unspecified (net.IP) bool
        .isLoopback ip_is_loopback (net.IP) bool
        .isLinkLocalMulticast ip_is_link_local_multicast (net.IP) bool
        .isLinkLocalUnicast ip_is_link_local_unicast (net.IP) bool
        .isGlobalUnicast ip_is_global_unicast (net.IP) bool
        isIP is_ip (string) bool
        string ip_to_string (net.IP) string
    ",
    code: &[
        ("ip", |_, args| match args {
            [Value::String(text)] => Ok(Value::Opaque(Opaque::Ip(address(text)?))),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("family", |_, args| ip(args).map(|ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 }))),
        ("ip.isCanonical", |_, args| match args {
            [Value::String(text)] => Ok(Value::Bool(address(text)?.to_string() == **text)),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("isUnspecified", |_, args| ip(args).map(|ip| Value::Bool(ip.is_unspecified()))),
        ("isLoopback", |_, args| ip(args).map(|ip| Value::Bool(ip.is_loopback()))),
        ("isLinkLocalMulticast", |_, args| ip(args).map(|ip| Value::Bool(is_link_local_multicast(ip)))),
        ("isLinkLocalUnicast", |_, args| ip(args).map(|ip| Value::Bool(is_link_local(ip)))),
        ("isGlobalUnicast", |_, args| ip(args).map(|ip| Value::Bool(is_global(ip)))),
        ("isIP", |_, args| match args {
            [Value::String(text)] => Ok(Value::Bool(address(text).is_ok())),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("string", |_, args| ip(args).map(|ip| text(ip.to_string()))),
    ],
};

pub(crate) const CIDR: Library = Library {
    since: Some(30),
    signatures: "
        cidr string_to_cidr (string) net.CIDR
        .containsIP cidr_contains_ip_string (net.CIDR, string) bool
        .containsIP cidr_contains_ip_ip (net.CIDR, net.IP) bool
        .containsCIDR cidr_contains_cidr_string (net.CIDR, string) bool
        .containsCIDR cidr_contains_cidr (net.CIDR, net.CIDR) bool
        .ip cidr_ip (net.CIDR) net.IP
        .prefixLength cidr_prefix_length (net.CIDR) int
        .masked cidr_masked (net.CIDR) net.CIDR
        isCIDR is_cidr (string) bool
        string cidr_to_string (net.CIDR) string
    ",
    code: &[
        ("cidr", |_, args| match args {
            [Value::String(text)] => network(text).map(|(ip, bits)| Value::Opaque(Opaque::Cidr(ip, bits))),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("containsIP", |_, args| match args {
            [Value::Opaque(Opaque::Cidr(ip, bits)), Value::String(other)] => {
                Ok(Value::Bool(within(*ip, *bits, address(other)?)))
            }
            [Value::Opaque(Opaque::Cidr(ip, bits)), Value::Opaque(Opaque::Ip(other))] => {
                Ok(Value::Bool(within(*ip, *bits, *other)))
            }
            _ => Err(Fault::NoSuchOverload),
        }),
        ("containsCIDR", |_, args| {
            let (ip, bits, other, narrow) = match args {
                [Value::Opaque(Opaque::Cidr(ip, bits)), Value::String(other)] => {
                    let (other, narrow) = network(other)?;
                    (*ip, *bits, other, narrow)
                }
                [Value::Opaque(Opaque::Cidr(ip, bits)), Value::Opaque(Opaque::Cidr(other, narrow))] => {
                    (*ip, *bits, *other, *narrow)
                }
                _ => return Err(Fault::NoSuchOverload),
            };
            Ok(Value::Bool(bits <= narrow && within(ip, bits, other)))
        }),
        ("ip", |_, args| cidr(args).map(|(ip, _)| Value::Opaque(Opaque::Ip(ip)))),
        ("prefixLength", |_, args| cidr(args).map(|(_, bits)| Value::Int(bits.into()))),
        ("masked", |_, args| cidr(args).map(|(ip, bits)| Value::Opaque(Opaque::Cidr(masked(ip, bits), bits)))),
        ("isCIDR", |_, args| match args {
            [Value::String(text)] => Ok(Value::Bool(network(text).is_ok())),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("string", |_, args| cidr(args).map(|(ip, bits)| text(format!("{ip}/{bits}")))),
    ],
};

fn ip(args: &[Value<'_>]) -> Outcome<IpAddr> {
    match args {
        [Value::Opaque(Opaque::Ip(ip))] => Ok(*ip),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn cidr(args: &[Value<'_>]) -> Outcome<(IpAddr, u8)> {
    match args {
        [Value::Opaque(Opaque::Cidr(ip, bits))] => Ok((*ip, *bits)),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

fn address(text: &str) -> Outcome<IpAddr> {
    let shown = quoted(text);
    let Ok(ip) = text.split('%').next().unwrap_or_default().parse::<IpAddr>() else {
        let why = format!("ParseAddr({shown}): unable to parse IP");
        return Err(Fault::said(format!("IP Address {shown} parse error during conversion from string: {why}")));
    };
    if text.contains('%') {
        return Err(Fault::said(format!("IP address {shown} with zone value is not allowed")));
    }
    if is_mapped(ip) {
        return Err(Fault::said(format!("IPv4-mapped IPv6 address {shown} is not allowed")));
    }
    Ok(ip)
}

fn network(text: &str) -> Outcome<(IpAddr, u8)> {
    let said = "network address parse error during conversion from string: ";
    let shown = quoted(text);
    let read = || {
        let (ip, bits) = text.rsplit_once('/').ok_or("no '/'")?;
        let ip: IpAddr = ip.parse().map_err(|_| "unable to parse IP")?;
        let plain =
            !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
        let bits: u8 = bits.parse().ok().filter(|_| plain).ok_or("bad bits after slash")?;
        if bits > if ip.is_ipv4() { 32 } else { 128 } {
            return Err("prefix length out of range");
        }
        Ok((ip, bits))
    };
    let found = read().map_err(|why| Fault::said(format!("{said}{said}netip.ParsePrefix({shown}): {why}")))?;
    if is_mapped(found.0) {
        return Err(Fault::said(format!("{said}IPv4-mapped IPv6 address {shown} is not allowed")));
    }
    Ok(found)
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

fn within(ip: IpAddr, bits: u8, other: IpAddr) -> bool {
    ip.is_ipv4() == other.is_ipv4() && masked(ip, bits) == masked(other, bits)
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => matches!(ip.octets(), [224, 0, 0, _]),
        IpAddr::V6(ip) => matches!(ip.segments(), [first, ..] if first & 0xff0f == 0xff02),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_global(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_link_local(ip) || broadcast)
}
