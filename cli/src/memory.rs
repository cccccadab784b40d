//! The allocator: gives back what threads have freed and nobody has asked for since.
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

#[allow(unsafe_code, reason = "a function of the allocator which its crate does not declare")]
mod ffi {
    unsafe extern "C" {
        /// Frees what is free; with `force` also to the operating system. Any thread may call it at any time.
        pub(super) safe fn mi_collect(force: bool);
    }
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
