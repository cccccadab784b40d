//! The client library's network thread: started once in the life of a process, ended before the process is.
//!
//! Its options hold for the whole process, so a second database with others is refused. Never started again after its end; the
//! library does not allow it.

use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use fdb::api::FdbApiBuilder;
use fdb::options::NetworkOption;
use parking_lot::Mutex;

use super::error::starting;
use super::options::Network;
use crate::kv::KvError;

/// The version of the C API that this engine is written for: 7.3. Later client libraries offer it too.
pub(super) const API_VERSION: i32 = 730;

/// How the thread was started, or why it was not.
static STARTED: OnceLock<Result<Network, KvError>> = OnceLock::new();
/// The running thread; dropping it ends it.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

/// The library's thread in the hands of another one, which does nothing but end it. The thread that calls exit(3) cannot: its thread-local
/// objects are gone by then, those of the library included, and ending uses them.
struct Running {
    end: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

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
        reason = "`boot` is unsafe because the thread must be ended before the process ends, or destructors of the library race with \
                  it. `stop` below does that on every way through exit(3): it is registered here, after the library was loaded, so \
                  it runs before the library's own destructors. Ways that skip it (a signal, abort) skip the destructors too"
    )]
    // SAFETY: as argued above; `build` and its API version happened once, guarded by `STARTED`.
    let running = unsafe { builder.boot() }.map_err(|e| starting("the network thread", e))?;
    let (end, ended) = channel::<()>();
    let keep = move || {
        // An error says that the other side is gone, which is the sign.
        let _ = ended.recv();
        drop(running);
    };
    // Where there is no thread to be had, `keep` is dropped, and the network thread ends with it.
    let keeper = std::thread::Builder::new().name("fdb-keeper".to_owned()).spawn(keep).map_err(|e| {
        KvError::Unavailable(format!("the FoundationDB client does not start, for want of a thread: {e}"))
    })?;
    *RUNNING.lock() = Some(Running { end: Some(end), keeper: Some(keeper) });
    #[allow(unsafe_code, reason = "registering a plain function that neither unwinds nor touches what exit destroys")]
    // SAFETY: `stop` is an `extern "C"` function without arguments that lives as long as the program.
    let registered = unsafe { nix::libc::atexit(stop) };
    if registered != 0 {
        RUNNING.lock().take();
        return Err(KvError::Unavailable(
            "the process has no room to register the end of the FoundationDB client".to_owned(),
        ));
    }
    Ok(())
}

extern "C" fn stop() {
    // Ends the thread and waits for it. Futures that are still open are never woken again.
    drop(RUNNING.lock().take());
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
