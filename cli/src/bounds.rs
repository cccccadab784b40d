//! What of the machine the API server may use: connections that are open or taken over at once, by the process's descriptors and the machine's memory, and
//! memory for what it caches.
//!
//! Upstream has no such bounds: a Go program raises its limit of descriptors and goes on until nothing is left. Never bounds anything itself.

use anyhow::Context as _;
use api::quantity::Quantity;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Memory that an open connection may take, TLS included.
const CONNECTION: u64 = 64 << 10;
/// However small the machine: a control plane alone needs so many.
const FEWEST: u64 = 64;
/// However small the machine.
const FEWEST_SESSIONS: usize = 8;

/// Raises the process's limit of descriptors to what the system allows, as a Go program does. Programs that are started afterwards have it
/// too, so that this is for a process that starts none.
pub(crate) fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of descriptors stays");
    }
}

/// Connections that may be open at once; none where the system does not say how many descriptors there are.
pub(crate) fn connections() -> Option<usize> {
    let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    usize::try_from(most(descriptors, memory())).ok()
}

/// Connections of those that may be taken over at once. Each has another behind it, and where the kubelet is in this process two more: all of them
/// together need a quarter of the descriptors at most.
pub(crate) fn sessions() -> Option<usize> {
    connections().map(of_sessions)
}

fn of_sessions(connections: usize) -> usize {
    (connections / 12).max(FEWEST_SESSIONS)
}

/// A quarter of the descriptors is for files, nodes and webhooks; connections without a request take a quarter of the memory at most.
fn most(descriptors: u64, memory: Option<u64>) -> u64 {
    let by_memory = memory.map_or(u64::MAX, |memory| memory / 4 / CONNECTION);
    (descriptors / 4 * 3).min(by_memory).max(FEWEST)
}

/// Bytes of memory that this process may have: the machine's, or its group's where that is less.
fn memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    bytes(&read("/proc/meminfo"), &read("/sys/fs/cgroup/memory.max"))
}

/// Bytes that the watch cache may take, by the text of `--watch-cache-memory`: none for as many as it takes. Without a text it is half of the memory;
/// what else a process holds, and what its allocator adds, is the other half.
pub(crate) fn cache_memory(text: &str) -> anyhow::Result<Option<u64>> {
    if text.is_empty() {
        return Ok(memory().map(|memory| memory / 2));
    }
    let given = Quantity::parse(text).map(Quantity::value).ok().and_then(|value| u64::try_from(value).ok());
    let given = given.with_context(|| format!("--watch-cache-memory: {text:?} is no quantity such as 2Gi"))?;
    Ok(Some(given).filter(|given| *given > 0))
}

fn bytes(meminfo: &str, group: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let total = total.and_then(|total| total.trim().parse::<u64>().ok()).map(|kilobytes| kilobytes * 1024);
    let group = group.trim().parse().ok();
    total.into_iter().chain(group).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_by_what_is_scarce() {
        const GIB: u64 = 1 << 30;
        for (descriptors, memory, want) in [
            (20_000, Some(24 * GIB), 15_000),
            (1_048_576, Some(24 * GIB), 98_304),
            (1_048_576, Some(2 * GIB), 8_192),
            (1_048_576, None, 786_432),
            (10, Some(GIB), 64),
        ] {
            assert_eq!(most(descriptors, memory), want, "{descriptors} {memory:?}");
        }
        assert!(connections().is_some_and(|most| most >= 64));
        for (connections, want) in [(64, 8), (768, 64), (15_000, 1250)] {
            assert_eq!(of_sessions(connections), want, "{connections}");
        }
    }

    #[test]
    fn cache_memory_is_a_quantity() {
        for (text, want) in
            [("0", Some(None)), ("2Gi", Some(Some(2 << 30))), ("1000", Some(Some(1000))), ("-1", None), ("much", None)]
        {
            assert_eq!(cache_memory(text).ok(), want, "{text}");
        }
        assert_eq!(cache_memory("").unwrap(), memory().map(|memory| memory / 2));
    }

    #[test]
    fn memory_is_the_machines_or_less() {
        let machine = "MemTotal:       24684580 kB\nMemFree: 1 kB\n";
        for (group, want) in
            [("max\n", Some(25_277_009_920)), ("1073741824\n", Some(1 << 30)), ("", Some(25_277_009_920))]
        {
            assert_eq!(bytes(machine, group), want, "{group}");
        }
        assert_eq!(bytes("", ""), None);
    }
}
