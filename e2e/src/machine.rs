//! What this machine offers: the binary under test, the stock tools, images, free ports.
//!
//! Never installs or builds anything.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The search path: the tools that hack/setup fetched, the caller's own, and the system directories a plain user's path leaves out.
pub(crate) static SEARCH: LazyLock<String> = LazyLock::new(|| {
    let mut places = Vec::new();
    if let Some(tools) = std::env::var_os("IRONKEEL_TOOLS") {
        places.push(PathBuf::from(tools));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    places.extend(cache.or(home).map(|cache| cache.join("ironkeel/bin")));
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    places.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    let joined = std::env::join_paths(places).unwrap_or_default();
    joined.to_string_lossy().into_owned()
});

/// Where a program lies, if it does.
pub fn tool(name: &str) -> Option<PathBuf> {
    std::env::split_paths(SEARCH.as_str()).map(|place| place.join(name)).find(|file| file.is_file())
}

/// The `ironkeel` to test: `IRONKEEL_BIN`, else the one that was built beside the tests.
pub fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("IRONKEEL_BIN") {
        return Some(PathBuf::from(named));
    }
    // target/debug/deps/<test> -> target/debug/ironkeel
    let own = std::env::current_exe().ok()?;
    let beside = own.parent()?.parent()?.join("ironkeel");
    beside.is_file().then_some(beside)
}

/// The project's root.
fn project() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// A chart of the project.
pub fn charts(name: &str) -> PathBuf {
    project().join("charts").join(name)
}

/// The image archives that `hack/images` wrote; it is run when there are none yet.
pub fn images() -> Result<Vec<PathBuf>, String> {
    let names = ["busybox-1.tar", "web-1.tar", "web-2.tar"];
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = own.ancestors().nth(3).map(Path::to_owned);
    let places: Vec<PathBuf> =
        target.into_iter().chain([project().join("target")]).map(|place| place.join("images")).collect();
    let found = |place: &PathBuf| names.iter().all(|name| place.join(name).is_file());
    let place = match places.iter().find(|place| found(place)) {
        Some(place) => place.clone(),
        None => {
            let place = places.first().cloned().ok_or("no target directory")?;
            let made = std::process::Command::new(project().join("hack/images"))
                .arg(&place)
                .output()
                .map_err(|error| format!("hack/images cannot be run: {error}"))?;
            if !made.status.success() {
                return Err(format!("hack/images failed: {}", String::from_utf8_lossy(&made.stderr)));
            }
            place
        }
    };
    Ok(names.map(|name| place.join(name)).to_vec())
}

/// What this machine lacks to run containers, or nothing.
pub fn missing_for_node() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("this is not root".to_owned());
    }
    let programs = ["containerd", "containerd-shim-runc-v2", "ctr", "runc", "ip", "nft", "iptables", "busybox"];
    programs.into_iter().find(|name| tool(name).is_none()).map(|name| format!("{name} is not on this machine"))
}

/// A loopback port that nobody listens on at this moment.
///
/// # Panics
/// When the machine has none left.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port can be had");
    listener.local_addr().expect("a bound socket has an address").port()
}
