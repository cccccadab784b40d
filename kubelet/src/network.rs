//! The pod network of one node: a bridge with a fixed hardware address, forwarding, masquerading in a table of its own, and the CNI
//! configuration that containerd reads. Idempotent: what is there already is left, what differs is put right.
//! Never gives a pod its address (the CNI plugins do) and never touches another instance's bridge, table or file.

pub mod space;
mod text;

use std::path::{Path, PathBuf};

pub use text::{Names, PodCidr};

use crate::containerd::{Error, run};

/// What one instance's network depends on.
#[derive(Clone, Debug)]
pub struct Config {
    /// Tells this instance from others on the machine; its data directory serves well.
    pub instance: String,
    /// The node's block of pod addresses.
    pub pod_cidr: PodCidr,
    /// The block of all nodes' pods: within it pods show their own addresses.
    pub cluster_cidr: PodCidr,
    /// Where containerd reads CNI configurations from.
    pub cni_conf_dir: PathBuf,
    /// Where the address plugin keeps which address is whose.
    pub ipam_dir: PathBuf,
}

impl Config {
    /// The network of the instance whose data directory this is.
    pub fn under(data_dir: &Path, pod_cidr: PodCidr) -> Self {
        let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        Self {
            instance: data_dir.to_string_lossy().into_owned(),
            pod_cidr,
            cluster_cidr: pod_cidr,
            cni_conf_dir: data_dir.join("cni/net.d"),
            ipam_dir: data_dir.join("cni/ipam"),
        }
    }

    /// The same as one of several nodes whose pods have addresses of `cluster`.
    #[must_use]
    pub fn within(self, cluster: PodCidr) -> Self {
        Self { cluster_cidr: cluster, ..self }
    }

    /// The names it goes by on this machine.
    pub fn names(&self) -> Names {
        Names::of(&self.instance)
    }

    fn conf_file(&self) -> PathBuf {
        self.cni_conf_dir.join("10-ironkeel.conflist")
    }
}

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Makes the network, or puts right what differs. Returns the bridge's address, by which pods reach this machine.
///
/// # Errors
/// [`Error::Missing`] without `ip` or `nft`, [`Error::Failed`] with their words (not root, for one), [`Error::File`] for a file that
/// cannot be written.
pub async fn ensure(config: &Config) -> Result<std::net::Ipv4Addr, Error> {
    let names = config.names();
    let bridge = names.bridge.as_str();
    if !exists(bridge).await {
        let made = run("ip", &["link", "add", "name", bridge, "address", &names.mac, "type", "bridge"], None).await;
        // Another of ours may have been quicker: what counts is that it is there.
        if made.is_err() && !exists(bridge).await {
            made?;
        }
    }
    let mtu = route_mtu().await;
    let size = mtu.unwrap_or(1500).to_string();
    run("ip", &["link", "set", "dev", bridge, "address", &names.mac, "mtu", &size, "up"], None).await?;
    let gateway = format!("{}/{}", config.pod_cidr.gateway(), config.pod_cidr.length());
    drop_other_addresses(bridge, &gateway).await?;
    run("ip", &["address", "replace", &gateway, "dev", bridge], None).await?;
    let forwarding = tokio::fs::read_to_string(FORWARDING).await.unwrap_or_default();
    if forwarding.trim() != "1" {
        write(Path::new(FORWARDING), "1\n").await?;
    }
    run("nft", &["-f", "-"], Some(&text::rules(&names, config.cluster_cidr))).await?;
    let file = config.conf_file();
    let list = text::conflist(&names, config.pod_cidr, mtu, &config.ipam_dir);
    if tokio::fs::read_to_string(&file).await.is_ok_and(|old| old == list) {
        return Ok(config.pod_cidr.gateway());
    }
    create_dir(&config.cni_conf_dir).await?;
    create_dir(&config.ipam_dir).await?;
    // Renamed into place: containerd watches the directory and must never read half a file.
    let half = file.with_extension("half");
    write(&half, &list).await?;
    tokio::fs::rename(&half, &file).await.map_err(|source| Error::File { path: file, source })?;
    Ok(config.pod_cidr.gateway())
}

/// Takes the network away: rules, bridge, configuration and address book. What is gone already is no error.
///
/// `ip_forward` stays as it is: others on the machine may have come to rely on it.
///
/// # Errors
/// As for [`ensure`].
pub async fn remove(config: &Config) -> Result<(), Error> {
    let names = config.names();
    run("nft", &["-f", "-"], Some(&text::no_rules(&names))).await?;
    if exists(&names.bridge).await {
        run("ip", &["link", "delete", &names.bridge, "type", "bridge"], None).await?;
    }
    let absent_is_well = |path: PathBuf| {
        move |source: std::io::Error| {
            if source.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(Error::File { path, source }) }
        }
    };
    let file = config.conf_file();
    tokio::fs::remove_file(&file).await.or_else(absent_is_well(file))?;
    tokio::fs::remove_dir_all(&config.ipam_dir).await.or_else(absent_is_well(config.ipam_dir.clone()))
}

async fn exists(interface: &str) -> bool {
    run("ip", &["-o", "link", "show", "dev", interface], None).await.is_ok()
}

/// Takes IPv4 addresses other than `keep` off the bridge: left from another pod CIDR, they make the bridge plugin refuse every pod.
async fn drop_other_addresses(bridge: &str, keep: &str) -> Result<(), Error> {
    let listed = run("ip", &["-o", "-4", "address", "show", "dev", bridge], None).await?;
    for line in listed.lines() {
        if let Some(address) = line.split_whitespace().nth(3).filter(|address| *address != keep) {
            run("ip", &["address", "delete", address, "dev", bridge], None).await?;
        }
    }
    Ok(())
}

/// The largest packet of the interface that leads out of the machine, in bytes: pods that send larger ones would lose them.
async fn route_mtu() -> Option<u32> {
    let routes = tokio::fs::read_to_string("/proc/net/route").await.ok()?;
    let interface = text::default_interface(&routes)?;
    tokio::fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).await.ok()?.trim().parse().ok()
}

async fn write(path: &Path, text: &str) -> Result<(), Error> {
    tokio::fs::write(path, text).await.map_err(|source| Error::File { path: path.to_owned(), source })
}

async fn create_dir(path: &Path) -> Result<(), Error> {
    tokio::fs::create_dir_all(path).await.map_err(|source| Error::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts this test's thread, and with it the programs it starts, into a network namespace of its own.
    fn own_namespace() -> bool {
        let done = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok();
        let tools = ["ip", "nft"].iter().all(|tool| std::process::Command::new(tool).arg("-V").output().is_ok());
        if !done || !tools {
            eprintln!("left out: the pod network needs ip, nft and the right to make a network namespace");
        }
        done && tools
    }

    #[tokio::test]
    async fn a_network_is_made_put_right_and_taken_away() {
        if !own_namespace() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("ironkeel-network-{}", std::process::id()));
        let config = Config::under(&dir, PodCidr::parse("10.99.1.0/24").unwrap());
        let names = config.names();
        remove(&config).await.unwrap();

        let other = Config::under(&dir, PodCidr::parse("10.99.2.0/24").unwrap());
        for config in [&other, &config, &config] {
            assert_eq!(ensure(config).await.unwrap(), config.pod_cidr.gateway());
            let addresses = run("ip", &["-o", "-4", "address", "show", "dev", &names.bridge], None).await.unwrap();
            assert_eq!(addresses.lines().count(), 1, "{addresses}");
            assert!(addresses.contains(&format!(" {}/24 ", config.pod_cidr.gateway())), "{addresses}");
            let link = run("ip", &["-o", "link", "show", "dev", &names.bridge], None).await.unwrap();
            assert!(link.contains(&names.mac) && link.contains("UP"), "{link}");
            let rules = run("nft", &["list", "table", "ip", &names.table], None).await.unwrap();
            assert_eq!(rules.matches("masquerade").count(), 1, "{rules}");
            assert!(rules.contains(&config.pod_cidr.to_string()), "{rules}");
            let list = std::fs::read_to_string(config.conf_file()).unwrap();
            assert!(list.contains(&config.pod_cidr.to_string()), "{list}");
        }
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");

        // A second instance beside it is left alone.
        let second = Config { instance: "second".to_owned(), cni_conf_dir: dir.join("second"), ..other };
        ensure(&second).await.unwrap();
        for _ in 0..2 {
            remove(&config).await.unwrap();
        }
        assert!(!exists(&names.bridge).await && exists(&second.names().bridge).await);
        assert!(!config.conf_file().exists() && second.conf_file().exists());
        let tables = run("nft", &["list", "tables"], None).await.unwrap();
        assert!(!tables.contains(&names.table) && tables.contains(&second.names().table), "{tables}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
