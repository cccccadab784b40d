//! The pause program that holds a pod's namespaces: a static executable of a few hundred bytes, carried inside this binary so that a
//! fresh machine needs neither a registry nor a build step. The assembler sources beside this file are the only copy of it.
//! Never runs the program and never writes it anywhere; [`super::image`] packs it.

#![allow(unsafe_code)] // assembler source counts as unsafe, and its labels are visible to Rust only as foreign statics

use std::arch::global_asm;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .rodata.ironkeel_pause, \"a\"",
    include_str!("pause_x86_64.s"),
    ".popsection",
    options(att_syntax)
);
#[cfg(target_arch = "aarch64")]
global_asm!(".pushsection .rodata.ironkeel_pause, \"a\"", include_str!("pause_aarch64.s"), ".popsection");

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("the node agent needs Linux on x86-64 or 64-bit ARM: the pause program has no source for this target");

/// The OCI name of the processor architecture the program is for.
pub(super) const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

/// `e_machine` of the ELF header: `EM_X86_64` or `EM_AARCH64`.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };

/// The program's machine code.
fn code() -> &'static [u8] {
    unsafe extern "C" {
        static ironkeel_pause: u8;
        static ironkeel_pause_end: u8;
    }
    // SAFETY: both labels are defined in one section of read-only data by the assembler source above, the end after the start, and
    // the bytes between them are initialised and live as long as the process.
    unsafe {
        let start = &raw const ironkeel_pause;
        let end = &raw const ironkeel_pause_end;
        std::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    }
}

/// The pause program as a complete static ELF executable for this machine's architecture.
pub(super) fn executable() -> Vec<u8> {
    elf(MACHINE, code())
}

/// Wraps position-independent machine code into the smallest static ELF-64 executable that the kernel runs with a stack that is not
/// executable: file header, two program headers (the whole file, read and execute; the stack), code. Layout as in elf(5).
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 2 * 56;
    const BASE: u64 = 0x40_0000;
    let size = HEADERS + code.len() as u64;
    let mut out = Vec::with_capacity(code.len() + 176);
    out.extend(b"\x7fELF\x02\x01\x01"); // 64-bit, little-endian, version 1
    out.extend([0; 9]);
    out.extend(2_u16.to_le_bytes()); // ET_EXEC
    out.extend(machine.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend((BASE + HEADERS).to_le_bytes()); // entry point
    out.extend(64_u64.to_le_bytes()); // program headers follow this header
    out.extend(0_u64.to_le_bytes()); // no section headers
    out.extend(0_u32.to_le_bytes());
    for field in [64_u16, 56, 2, 64, 0, 0] {
        out.extend(field.to_le_bytes()); // header size, program header size and count, section header size, count and names
    }
    let mut segment = |kind: u32, flags: u32, address: u64, length: u64, align: u64| {
        out.extend(kind.to_le_bytes());
        out.extend(flags.to_le_bytes());
        for field in [0, address, address, length, length, align] {
            out.extend(field.to_le_bytes());
        }
    };
    segment(1, 5, BASE, size, 0x1_0000); // PT_LOAD, read and execute; aligned for pages of up to 64 KiB
    segment(0x6474_e551, 6, 0, 0, 16); // PT_GNU_STACK, read and write
    out.extend(code);
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_headers_describe_the_file() {
        let elf = elf(183, &[1, 2, 3, 4]);
        assert_eq!(elf.len(), 180);
        assert_eq!(&elf[..4], b"\x7fELF");
        assert_eq!(elf[18..20], 183_u16.to_le_bytes());
        assert_eq!(elf[24..32], 0x40_00b0_u64.to_le_bytes(), "entry is the first byte after the headers");
        assert_eq!(elf[96..104], 180_u64.to_le_bytes(), "the segment covers the file");
        assert_eq!(elf[176..], [1, 2, 3, 4]);
    }

    fn ends(child: &mut Child) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::yield_now();
        }
        None
    }

    fn signal(name: &str, pid: &str) -> bool {
        Command::new("kill").args([name, pid]).status().unwrap().success()
    }

    /// Waits until the process runs the pause program and sleeps in it: from then on a signal reaches its wait.
    fn wait_until_it_sleeps(pid: &str) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            if status.starts_with("Name:\tpause\n") && status.contains("\nState:\tS ") {
                return;
            }
            std::thread::yield_now();
        }
        panic!("the pause program never waits");
    }

    /// Ends the process when a test fails before it did.
    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn it_exits_on_a_signal_as_an_ordinary_process_and_as_process_one() {
        let dir = tempdir();
        let path = dir.join("pause");
        std::fs::write(&path, executable()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["-TERM", "-INT"] {
            let mut child = Ended(Command::new(&path).spawn().unwrap());
            wait_until_it_sleeps(&child.0.id().to_string());
            assert!(signal(name, &child.0.id().to_string()));
            assert_eq!(ends(&mut child.0).and_then(|status| status.code()), Some(0), "{name}");
        }

        // A shell becomes the pause program as process 1, after it has left it an orphan to reap.
        let script = format!("(true & exec true); exec {}", path.display());
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "sh", "-c", &script]).stderr(Stdio::null());
        let mut child = Ended(unshare.spawn().unwrap());
        let children = format!("/proc/{0}/task/{0}/children", child.0.id());
        let deadline = Instant::now() + Duration::from_secs(5);
        let inner = loop {
            let text = std::fs::read_to_string(&children).unwrap_or_default();
            if let Some(pid) = text.split_whitespace().next() {
                break pid.to_owned();
            }
            if child.0.try_wait().unwrap().is_some() || Instant::now() > deadline {
                eprintln!("left out: process 1 of a PID namespace needs the right to make one");
                return std::fs::remove_dir_all(&dir).unwrap();
            }
        };
        wait_until_it_sleeps(&inner);
        let grandchildren = format!("/proc/{inner}/task/{inner}/children");
        let deadline = Instant::now() + Duration::from_secs(5);
        while !std::fs::read_to_string(&grandchildren).unwrap().trim().is_empty() {
            assert!(Instant::now() < deadline, "an orphan was not reaped");
        }
        assert!(signal("-TERM", &inner));
        assert_eq!(ends(&mut child.0).and_then(|status| status.code()), Some(0));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    fn tempdir() -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("ironkeel-pause-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}
