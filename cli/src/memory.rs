//! The allocator: gives back what threads have freed and nobody has asked for since, and says what it holds.
//!
//! It gives memory back while it is used, so a process that falls idle after a start or a flood would keep what that took. Never in the
//! way of requests: it runs on a thread for blocking work.

use std::time::Duration;

// Requests and commits hand memory from thread to thread, which the C library's allocator takes twice the processor time for
// (docs/figures.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// When what the start took is given back.
const FIRST: Duration = Duration::from_secs(2);
/// How often the rest is.
const EVERY: Duration = Duration::from_secs(30);

#[allow(unsafe_code, reason = "functions of the allocator which its crate does not declare")]
mod ffi {
    use std::ffi::{CStr, c_char, c_void};

    unsafe extern "C" {
        /// Frees what is free; with `force` also to the operating system. Any thread may call it at any time.
        pub(super) safe fn mi_collect(force: bool);
        /// Gives what is counted, piece by piece, to the function, with the argument.
        fn mi_stats_print_out(out: unsafe extern "C" fn(*const c_char, *mut c_void), argument: *mut c_void);
    }

    /// What the allocator counts, in its own words.
    pub(super) fn stats() -> String {
        unsafe extern "C" fn push(piece: *const c_char, out: *mut c_void) {
            // SAFETY: the allocator gives a text that ends with a zero byte, and the argument that it was given below, where nothing else holds it.
            let (piece, out) = unsafe { (CStr::from_ptr(piece), &mut *out.cast::<String>()) };
            out.push_str(&piece.to_string_lossy());
        }
        let mut out = String::new();
        // SAFETY: the function is for this argument, which outlives the call.
        unsafe { mi_stats_print_out(push, (&raw mut out).cast()) };
        out
    }
}

/// What is known of the memory of the process. Who allocated what is not known: the allocator takes no samples.
pub(crate) fn told() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let mut out =
        "# No profile: who allocated what is not sampled. What the kernel counts, and what the allocator does:\n"
            .to_owned();
    for (name, of) in [
        ("resident_bytes", "VmRSS"),
        ("resident_anonymous_bytes", "RssAnon"),
        ("resident_file_bytes", "RssFile"),
        ("resident_peak_bytes", "VmHWM"),
        ("virtual_bytes", "VmSize"),
        ("swapped_bytes", "VmSwap"),
    ] {
        out.push_str(&format!("{name} {}\n", bytes(of)));
    }
    out.push('\n');
    out + &ffi::stats()
}

/// Gives memory back now and then, for as long as the process runs.
pub(crate) async fn give_back() {
    let mut wait = FIRST;
    loop {
        tokio::time::sleep(wait).await;
        wait = EVERY;
        if tokio::task::spawn_blocking(|| ffi::mi_collect(true)).await.is_err() {
            return;
        }
    }
}
