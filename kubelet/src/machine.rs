//! Facts of the machine from `/proc`, `/sys` and the file system. What cannot be read counts as 0 or empty.

use std::path::Path;

/// Memory of the machine, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What could be given to processes.
    pub available: u64,
}

/// Space of a file system, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub total: u64,
    /// What is free for unprivileged use.
    pub available: u64,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn parse_memory(meminfo: &str) -> Memory {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next()).and_then(|text| text.parse::<u64>().ok());
        number.unwrap_or(0).saturating_mul(1024)
    };
    Memory { total: field("MemTotal:"), available: field("MemAvailable:") }
}

/// The machine's memory.
pub fn memory() -> Memory {
    parse_memory(&read("/proc/meminfo"))
}

/// Processors that may be used.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Nanoseconds that all processors were busy since boot.
pub fn cpu_nanos() -> u64 {
    let stat = read("/proc/stat");
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .into_iter()
        .flat_map(|line| line.split_whitespace().skip(1))
        .map(|text| text.parse().unwrap_or(0))
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; in hundredths of a second.
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| fields.get(*index)).sum();
    busy.saturating_mul(10_000_000)
}

/// Space of the file system that holds `path`.
pub fn disk(path: &Path) -> Disk {
    let Ok(status) = nix::sys::statvfs::statvfs(path) else { return Disk::default() };
    let block = status.fragment_size();
    Disk { total: status.blocks().saturating_mul(block), available: status.blocks_available().saturating_mul(block) }
}

/// Process ids that the kernel gives out, and those in use.
pub fn pids() -> (u64, u64) {
    let most = read("/proc/sys/kernel/pid_max").parse().unwrap_or(0);
    let load = read("/proc/loadavg");
    let used =
        load.split_whitespace().nth(3).and_then(|text| text.split_once('/')).and_then(|(_, all)| all.parse().ok());
    (most, used.unwrap_or(0))
}

/// Names of the machine and its system, as a node's `nodeInfo` shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's id, or the machine id.
    pub system_uuid: String,
    /// Id of this boot.
    pub boot_id: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Name of the distribution.
    pub os_image: String,
    /// By Go's names.
    pub architecture: &'static str,
}

/// Reads the machine's identity.
pub fn identity() -> Identity {
    let machine_id = read("/etc/machine-id");
    let uuid = read("/sys/class/dmi/id/product_uuid");
    let release = read("/etc/os-release");
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    Identity {
        system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
        machine_id,
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        kernel: read("/proc/sys/kernel/osrelease"),
        os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
        architecture: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_bytes() {
        let text = "MemTotal:       1024 kB\nMemFree:  1 kB\nMemAvailable:    512 kB\n";
        assert_eq!(parse_memory(text), Memory { total: 1 << 20, available: 1 << 19 });
        assert_eq!(parse_memory("nonsense"), Memory::default());
    }
}
