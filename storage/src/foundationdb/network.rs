//! The client library's network thread: started once in the life of a process, and there until the process is gone.
//!
//! Its options hold for the whole process, so a second database with others is refused. Never ended by itself: the library does not
//! start it a second time, and at the end of the process [`leave`] is what ends it.

use std::ffi::{c_int, c_void};
use std::sync::{Once, OnceLock};

use fdb::api::FdbApiBuilder;
use fdb::options::NetworkOption;

use super::error::starting;
use super::options::Network;
use crate::kv::KvError;

/// The version of the C API that this engine is written for: 7.3. Later client libraries offer it too.
pub(super) const API_VERSION: i32 = 730;

/// How the thread was started, or why it was not.
static STARTED: OnceLock<Result<Network, KvError>> = OnceLock::new();
/// Set when the library has answered something.
static ANSWERED: Once = Once::new();

/// Starts the thread if it does not run yet.
pub(super) fn start(options: &Network) -> Result<(), KvError> {
    let started = STARTED.get_or_init(|| boot(options).map(|()| options.clone())).as_ref().map_err(Clone::clone)?;
    if started == options {
        return Ok(());
    }
    let text = "TLS, knobs, tracing and client libraries hold for the whole process, which has opened a FoundationDB database with \
                others already; restart it with one set of options";
    Err(KvError::Unavailable(text.to_owned()))
}

fn boot(options: &Network) -> Result<(), KvError> {
    let mut builder = FdbApiBuilder::default()
        .set_runtime_version(API_VERSION)
        .build()
        .map_err(|e| starting("the choice of the API version", e))?;
    for (what, option) in settings(options) {
        builder = builder.set_option(option).map_err(|e| starting(&what, e))?;
    }
    #[allow(
        unsafe_code,
        reason = "`boot` is unsafe because destructors of the library at the end of the process race with its thread. Those of objects \
                  that are made before the last `leave_early` never run, and on ways that skip it (a signal, abort) none do"
    )]
    // SAFETY: as argued above; `build` and its API version happened once, guarded by `STARTED`.
    let running = unsafe { builder.boot() }.map_err(|e| starting("the network thread", e))?;
    // Dropping it would end the thread.
    std::mem::forget(running);
    if leave_early() {
        return Ok(());
    }
    Err(KvError::Unavailable("the process has no room to register the end of the FoundationDB client".to_owned()))
}

/// Notes that the library has answered: by then it has made the objects that it makes on its way.
pub(super) fn answered() {
    ANSWERED.call_once(|| {
        leave_early();
    });
}

/// Has [`leave`] called at exit(3) before everything that was registered until now. Said again whenever the library may have made
/// objects that exit(3) would destroy first.
pub(super) fn leave_early() -> bool {
    #[allow(unsafe_code, reason = "registering a plain function that neither unwinds nor touches what exit destroys")]
    // SAFETY: `leave` is an `extern "C"` function that lives as long as the program and does not use its second argument.
    let registered = unsafe { on_exit(leave, std::ptr::null_mut()) };
    registered == 0
}

/// Ends the process in the middle of exit(3). Ending the network thread instead does not do: it, and the thread that asks for it, use
/// thread-local and static objects of the library, of which exit(3) has destroyed some by now.
extern "C" fn leave(status: c_int, _: *mut c_void) {
    #[allow(unsafe_code, reason = "the one way out that destroys nothing")]
    // SAFETY: it has no conditions. Rust has flushed its standard output before it calls exit(3).
    unsafe {
        nix::libc::_exit(status)
    }
}

#[allow(unsafe_code, reason = "a function of the C library which the crate `libc` does not declare")]
// SAFETY: as in glibc's stdlib.h, and the library of FoundationDB runs with no other C library.
unsafe extern "C" {
    fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
}

/// Options in the library's terms, each with its name for errors. The password comes before the key that needs it.
fn settings(options: &Network) -> Vec<(String, NetworkOption)> {
    let mut settings = Vec::new();
    let mut path = |name: &str, path: &Option<std::path::PathBuf>, option: fn(String) -> NetworkOption| {
        if let Some(path) = path {
            settings.push((format!("{name} {}", path.display()), option(path.to_string_lossy().into_owned())));
        }
    };
    path("trace-dir", &options.trace_dir, NetworkOption::TraceEnable);
    path("external-client-dir", &options.external_client_dir, NetworkOption::ExternalClientDirectory);
    path("tls-ca-file", &options.tls_ca_file, NetworkOption::TLSCaPath);
    path("tls-cert-file", &options.tls_cert_file, NetworkOption::TLSCertPath);
    if let Some(password) = &options.tls_password {
        settings.push(("tls-password-file".to_owned(), NetworkOption::TLSPassword(password.clone())));
    }
    if let Some(key) = &options.tls_key_file {
        let option = NetworkOption::TLSKeyPath(key.to_string_lossy().into_owned());
        settings.push((format!("tls-key-file {}", key.display()), option));
    }
    if let Some(verify) = &options.tls_verify_peers {
        let option = NetworkOption::TLSVerifyPeers(verify.as_bytes().to_vec());
        settings.push((format!("tls-verify-peers {verify}"), option));
    }
    if options.trace_dir.is_some() {
        settings.push(("trace-format".to_owned(), NetworkOption::TraceFormat("json".to_owned())));
    }
    for knob in &options.knobs {
        settings.push((format!("the knob {knob}"), NetworkOption::Knob(knob.clone())));
    }
    settings
}
