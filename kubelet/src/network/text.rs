//! The texts that make a pod network: names, the CNI configuration, the nftables rules. Pure: runs and writes nothing.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::json;

use crate::containerd::hex;

/// A block of IPv4 addresses in which pods live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodCidr {
    network: Ipv4Addr,
    length: u8,
}

impl PodCidr {
    /// Reads `10.244.0.0/24`.
    ///
    /// # Errors
    /// One sentence when the text is no such block, has bits set behind its length, or holds no room for a gateway and pods.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("the pod CIDR {text:?} {why}"));
        let parts = text.split_once('/').and_then(|(a, l)| Some((a.parse::<Ipv4Addr>().ok()?, l.parse::<u8>().ok()?)));
        let Some((network, length)) = parts.filter(|(_, length)| *length <= 32) else {
            return refuse("is not an IPv4 block such as 10.244.0.0/24");
        };
        if !(8..=29).contains(&length) {
            return refuse("must have a length from 8 to 29");
        }
        if u32::from(network) & (u32::MAX >> length) != 0 {
            return refuse("has bits set behind its length");
        }
        Ok(Self { network, length })
    }

    /// The first address: the bridge's, and the pods' way out.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 1)
    }

    /// The block of this length around it; itself where it is as large.
    #[must_use]
    pub fn around(self, length: u8) -> Self {
        if length >= self.length {
            return self;
        }
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Self { network: Ipv4Addr::from(u32::from(self.network) & mask), length }
    }

    /// The last block of this length in it; itself where it is as small.
    #[must_use]
    pub fn last(self, length: u8) -> Self {
        if length <= self.length {
            return self;
        }
        let behind = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        let broadcast = u32::from(self.network) | u32::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
        Self { network: Ipv4Addr::from(broadcast & !behind), length }
    }

    /// The bits that are equal in all its addresses.
    pub fn length(self) -> u8 {
        self.length
    }
}

impl std::fmt::Display for PodCidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

/// The names of one instance's network on the machine. Two instances never share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The bridge's interface name, at most 15 bytes.
    pub bridge: String,
    /// The bridge's hardware address, locally administered. Fixed: a bridge without one takes its ports', which come and go.
    pub mac: String,
    /// The nftables table.
    pub table: String,
    /// The CNI network.
    pub network: String,
}

impl Names {
    /// Derives the names from whatever tells one instance from another on this machine, such as its data directory.
    pub fn of(instance: &str) -> Self {
        let digest = hex(instance.as_bytes());
        let (short, rest) = digest.split_at(8);
        let mac = rest.as_bytes().chunks(2).take(5).fold("02".to_owned(), |mut mac, pair| {
            mac.push(':');
            mac.extend(pair.iter().copied().map(char::from));
            mac
        });
        Self {
            bridge: format!("ik-{short}"),
            mac,
            table: format!("ironkeel_{short}"),
            network: format!("ironkeel-{short}"),
        }
    }
}

/// The CNI configuration: a bridge that is the pods' gateway, addresses from a file below `ipam_dir`, host ports.
///
/// The default route is written out: the bridge plugin's own `isDefaultGateway` with it would make a second one.
pub(super) fn conflist(names: &Names, pods: PodCidr, mtu: Option<u32>, ipam_dir: &Path) -> String {
    let mut bridge = json!({
        "type": "bridge",
        "bridge": names.bridge,
        "isGateway": true,
        "hairpinMode": true,
        "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "dataDir": ipam_dir,
            "ranges": [[{ "subnet": pods.to_string(), "gateway": pods.gateway() }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
        },
    });
    if let (Some(mtu), Some(bridge)) = (mtu, bridge.as_object_mut()) {
        bridge.insert("mtu".to_owned(), mtu.into());
    }
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true });
    let list = json!({ "cniVersion": "0.4.0", "name": names.network, "plugins": [bridge, portmap] });
    format!("{list:#}\n")
}

/// A script for `nft -f -` that replaces the instance's table in one transaction: what leaves the pods' block takes the machine's
/// address, and what pods send to one another does not.
pub(super) fn rules(names: &Names, pods: PodCidr) -> String {
    let Names { table, bridge, .. } = names;
    format!(
        "table ip {table} {{}}
delete table ip {table}
table ip {table} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {pods} ip daddr != {pods} ip daddr != 224.0.0.0/4 oifname != \"{bridge}\" masquerade
    }}
}}
"
    )
}

/// A script for `nft -f -` that takes the instance's table away, whether it is there or not.
pub(super) fn no_rules(names: &Names) -> String {
    let Names { table, .. } = names;
    format!("table ip {table} {{}}\ndelete table ip {table}\n")
}

/// The interface of the default route with the lowest metric, from the text of `/proc/net/route`.
pub(super) fn default_interface(routes: &str) -> Option<&str> {
    routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            match fields.as_slice() {
                [interface, "00000000", _, _, _, _, metric, "00000000", ..] => {
                    Some((metric.parse::<u32>().ok()?, *interface))
                }
                _ => None,
            }
        })
        .min()
        .map(|(_, interface)| interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_or_refused_in_one_sentence() {
        let block = PodCidr::parse("10.244.3.0/24").unwrap();
        assert_eq!(
            (block.to_string().as_str(), block.gateway().to_string().as_str(), block.length()),
            ("10.244.3.0/24", "10.244.3.1", 24)
        );
        let check = |text: &str, why: &str| {
            assert_eq!(PodCidr::parse(text).unwrap_err(), format!("the pod CIDR {text:?} {why}"));
        };
        assert_eq!(block.around(16).to_string(), "10.244.0.0/16");
        assert_eq!(block.around(24).to_string(), "10.244.3.0/24");
        assert_eq!(block.around(16).last(24).to_string(), "10.244.255.0/24");
        assert_eq!(block.last(26).to_string(), "10.244.3.192/26");
        assert_eq!(block.last(16).to_string(), "10.244.3.0/24");
        for text in ["", "10.244.0.0", "10.244.0.0/x", "10.244.0.0/33", "fd00::/64", "10.244.0/24"] {
            check(text, "is not an IPv4 block such as 10.244.0.0/24");
        }
        check("10.244.0.0/30", "must have a length from 8 to 29");
        check("0.0.0.0/0", "must have a length from 8 to 29");
        check("10.244.0.1/24", "has bits set behind its length");
    }

    #[test]
    fn names_fit_the_kernel_and_differ_between_instances() {
        let (a, b) = (Names::of("/var/lib/ironkeel"), Names::of("/tmp/other"));
        assert_eq!(a, Names::of("/var/lib/ironkeel"));
        assert!(a.bridge != b.bridge && a.table != b.table && a.network != b.network && a.mac != b.mac);
        assert_eq!((a.bridge.len(), a.mac.len()), (11, 17));
        assert!(a.mac.starts_with("02:"), "{}", a.mac);
    }

    #[test]
    fn the_cni_configuration() {
        let names =
            Names { bridge: "ik-1".into(), mac: "02:00:00:00:00:01".into(), table: "t".into(), network: "n".into() };
        let text = conflist(&names, PodCidr::parse("10.1.0.0/16").unwrap(), Some(1460), Path::new("/data/ipam"));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let want = json!({
            "cniVersion": "0.4.0",
            "name": "n",
            "plugins": [
                {
                    "type": "bridge", "bridge": "ik-1", "isGateway": true, "hairpinMode": true, "ipMasq": false, "mtu": 1460,
                    "ipam": {
                        "type": "host-local", "dataDir": "/data/ipam",
                        "ranges": [[{ "subnet": "10.1.0.0/16", "gateway": "10.1.0.1" }]],
                        "routes": [{ "dst": "0.0.0.0/0" }],
                    },
                },
                { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
            ],
        });
        assert_eq!(value, want);
        assert!(!conflist(&names, PodCidr::parse("10.1.0.0/16").unwrap(), None, Path::new("/x")).contains("mtu"));
    }

    #[test]
    fn the_rules() {
        let names =
            Names { bridge: "ik-1".into(), mac: String::new(), table: "ironkeel_1".into(), network: String::new() };
        let want = "table ip ironkeel_1 {}
delete table ip ironkeel_1
table ip ironkeel_1 {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 10.1.0.0/16 ip daddr != 10.1.0.0/16 ip daddr != 224.0.0.0/4 oifname != \"ik-1\" masquerade
    }
}
";
        assert_eq!(rules(&names, PodCidr::parse("10.1.0.0/16").unwrap()), want);
        assert_eq!(no_rules(&names), "table ip ironkeel_1 {}\ndelete table ip ironkeel_1\n");
    }

    #[test]
    fn the_default_route_is_found() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
                    wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\n\
                    eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\n\
                    eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n";
        assert_eq!(default_interface(text), Some("eth0"));
        assert_eq!(default_interface("Iface\n"), None);
    }
}
