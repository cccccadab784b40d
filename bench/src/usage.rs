//! What processes of this machine use, from `/proc`: processor time and memory. Changes nothing of a process but the high-water mark of its memory, which it resets.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// What a server's processes used while a load ran.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Used {
    /// Processor time, user and system, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Resident memory when the load ended, in bytes.
    pub(crate) memory: u64,
    /// The most resident memory since the load began, in bytes; since the process began where the kernel does not forget.
    pub(crate) peak: u64,
}

/// Processor time used so far, to be subtracted later.
pub(crate) struct Begun {
    pids: Vec<u32>,
    cpu_seconds: f64,
}

/// Reads `1,2,3`.
pub(crate) fn pids(list: &str) -> Result<Vec<u32>> {
    let pid = |text: &str| text.trim().parse().with_context(|| format!("{text:?} is no process id"));
    list.split(',').filter(|text| !text.trim().is_empty()).map(pid).collect()
}

/// Begins to measure; without processes there is nothing to measure.
pub(crate) fn begin(pids: &[u32]) -> Result<Option<Begun>> {
    if pids.is_empty() {
        return Ok(None);
    }
    for pid in pids {
        // Resets the high-water mark; another user's process keeps its own.
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
    Ok(Some(Begun { pids: pids.to_vec(), cpu_seconds: cpu(pids)? }))
}

impl Begun {
    /// What was used since.
    pub(crate) fn end(&self) -> Result<Used> {
        let (mut memory, mut peak) = (0, 0);
        for pid in &self.pids {
            let file = format!("/proc/{pid}/status");
            let status = std::fs::read_to_string(&file).with_context(|| format!("the process {pid} is gone"))?;
            memory += of_status(&status, "VmRSS:").with_context(|| format!("{file} has no memory"))?;
            peak += of_status(&status, "VmHWM:").with_context(|| format!("{file} has no memory"))?;
        }
        Ok(Used { cpu_seconds: cpu(&self.pids)? - self.cpu_seconds, memory, peak })
    }
}

fn cpu(pids: &[u32]) -> Result<f64> {
    let mut seconds = 0.0;
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("there is no process {pid}"))?;
        seconds += of_stat(&stat).with_context(|| format!("/proc/{pid}/stat has another form"))?;
    }
    Ok(seconds)
}

/// Seconds from the 14th and 15th field of `/proc/PID/stat`, in hundredths. The second one, in brackets, may hold anything.
fn of_stat(stat: &str) -> Option<f64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) / 100.0)
}

/// Bytes of a line in kB of `/proc/PID/status`.
fn of_status(status: &str, line: &str) -> Option<u64> {
    let text = status.lines().find_map(|l| l.strip_prefix(line))?;
    text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests: a panic is the finding")]
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 100 1000 10";
        assert_eq!(of_stat(stat), Some(3.0));
        assert_eq!(of_stat("7 (a) S 1"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(of_status("Name:\tx\nVmHWM:\t    12 kB\nVmRSS:\t 8 kB\n", "VmRSS:"), Some(8192));
        assert_eq!(of_status("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn ids_are_numbers() {
        assert_eq!(pids("1, 2,").unwrap(), [1, 2]);
        assert_eq!(pids("").unwrap(), [0; 0]);
        assert_eq!(pids("x").unwrap_err().to_string(), "\"x\" is no process id");
    }

    #[test]
    fn this_process_uses_something() {
        let begun = begin(&[std::process::id()]).unwrap().unwrap();
        let used = begun.end().unwrap();
        assert!(used.memory > 0 && used.peak >= used.memory / 2 && used.cpu_seconds >= 0.0, "{used:?}");
    }
}
