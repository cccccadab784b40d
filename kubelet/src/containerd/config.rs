//! The text of containerd's configuration file and the version it is written for. Pure: reads and starts nothing.

use std::fmt::Write;
use std::path::Path;

use super::Error;
use super::image::PAUSE_IMAGE;

/// Major and minor number of a containerd release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1 or 2: decides the layout of the configuration file.
    pub major: u32,
    /// Decides which options exist.
    pub minor: u32,
}

impl Version {
    /// Reads what `containerd --version` prints: `containerd github.com/containerd/containerd v1.7.24 …`.
    pub fn parse(output: &str) -> Option<Self> {
        let word = output.split_whitespace().nth(2)?;
        let mut numbers = word.trim_start_matches('v').split('.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self { major, minor })
    }

    /// Whether the configuration below is understood: CRI v1 came with 1.6.
    ///
    /// # Errors
    /// [`Error::Version`] for an older release.
    pub fn supported(self) -> Result<Self, Error> {
        if self >= (Self { major: 1, minor: 6 }) {
            Ok(self)
        } else {
            Err(Error::Version { found: format!("{}.{}", self.major, self.minor) })
        }
    }
}

/// What the configuration of one instance depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings<'a> {
    /// The release the file is for.
    pub(super) version: Version,
    /// containerd's own directory; `root`, `state` and `certs.d` lie in it.
    pub(super) directory: &'a Path,
    /// The socket to listen on.
    pub(super) socket: &'a Path,
    /// Where CNI network configurations are read from.
    pub(super) cni_conf_dir: &'a Path,
    /// Where CNI plugins lie.
    pub(super) cni_bin_dir: &'a Path,
    /// Set where the process may not lower `oom_score_adj` (no `CAP_SYS_RESOURCE`): runc would fail on every sandbox.
    pub(super) restrict_oom_score_adj: bool,
}

/// Plugins that would touch places outside the instance's own directory, or that no pod needs.
const DISABLED: [&str; 8] = [
    "io.containerd.internal.v1.opt",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];

/// The whole configuration file: version 2 for containerd 1, version 3 for containerd 2, equal in effect.
pub(super) fn text(settings: &Settings<'_>) -> String {
    let Settings { version, directory, socket, cni_conf_dir, cni_bin_dir, restrict_oom_score_adj } = settings;
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let disabled: Vec<String> = DISABLED.iter().map(|name| quoted(name)).collect();
    let (root, state, certs) =
        (path(&directory.join("root")), path(&directory.join("state")), path(&directory.join("certs.d")));
    let (socket, conf_dir, bin_dir) = (path(socket), path(cni_conf_dir), path(cni_bin_dir));
    let pause = quoted(PAUSE_IMAGE);
    let layout = if version.major >= 2 { 3 } else { 2 };

    let mut out = String::from("# Written by ironkeel at each start; changes are lost.\n");
    let head = format!(
        "version = {layout}\nroot = {root}\nstate = {state}\ndisabled_plugins = [{}]\n\n[grpc]\naddress = {socket}\n",
        disabled.join(", ")
    );
    out.push_str(&head);
    let streaming = "disable_tcp_service = true\nstream_server_address = \"127.0.0.1\"\nstream_server_port = \"0\"\n";
    let oom = format!("restrict_oom_score_adj = {restrict_oom_score_adj}\nnetns_mounts_under_state_dir = true\n");
    let mut table = |name: &str, body: &str| {
        write!(out, "\n[plugins.{name}]\n{body}").expect("writing to a string never fails");
    };
    let runtime = if layout == 3 {
        let images = "\"io.containerd.cri.v1.images\"";
        let runtime = "\"io.containerd.cri.v1.runtime\"";
        table("\"io.containerd.grpc.v1.cri\"", streaming);
        table(images, "snapshotter = \"overlayfs\"\n");
        table(&format!("{images}.pinned_images"), &format!("sandbox = {pause}\n"));
        table(&format!("{images}.registry"), &format!("config_path = {certs}\n"));
        table(runtime, &oom);
        let bin = if version.minor >= 1 { format!("bin_dirs = [{bin_dir}]") } else { format!("bin_dir = {bin_dir}") };
        table(&format!("{runtime}.cni"), &format!("{bin}\nconf_dir = {conf_dir}\n"));
        table(&format!("{runtime}.containerd"), "default_runtime_name = \"runc\"\n");
        runtime
    } else {
        let cri = "\"io.containerd.grpc.v1.cri\"";
        table(cri, &format!("sandbox_image = {pause}\n{streaming}{oom}"));
        table(&format!("{cri}.registry"), &format!("config_path = {certs}\n"));
        table(&format!("{cri}.cni"), &format!("bin_dir = {bin_dir}\nconf_dir = {conf_dir}\n"));
        table(&format!("{cri}.containerd"), "snapshotter = \"overlayfs\"\ndefault_runtime_name = \"runc\"\n");
        cri
    };
    table(&format!("{runtime}.containerd.runtimes.runc"), "runtime_type = \"io.containerd.runc.v2\"\n");
    table(&format!("{runtime}.containerd.runtimes.runc.options"), "SystemdCgroup = false\n");
    out
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            c if c.is_control() => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a string never fails");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether `CAP_SYS_RESOURCE` (24, capabilities(7)) is in the effective set that a `/proc/<pid>/status` file shows.
pub(super) fn may_lower_oom_score(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set & (1 << 24) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(major: u32, minor: u32) -> String {
        text(&Settings {
            version: Version { major, minor },
            directory: Path::new("/data/containerd"),
            socket: Path::new("/data/containerd/containerd.sock"),
            cni_conf_dir: Path::new("/data/cni/net.d"),
            cni_bin_dir: Path::new("/usr/lib/cni"),
            restrict_oom_score_adj: true,
        })
    }

    #[test]
    fn versions_are_read() {
        let check = |output: &str, want: Option<(u32, u32)>| {
            assert_eq!(Version::parse(output).map(|v| (v.major, v.minor)), want, "{output}");
        };
        check("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", Some((1, 6)));
        check("containerd github.com/containerd/containerd/v2 v2.1.9 abc", Some((2, 1)));
        check("containerd github.com/containerd/containerd v1.7.24~ds1", Some((1, 7)));
        check("containerd", None);
        check("containerd x unknown", None);
        assert!(Version { major: 1, minor: 5 }.supported().is_err());
        assert!(Version { major: 2, minor: 0 }.supported().is_ok());
    }

    #[test]
    fn the_layout_follows_the_release() {
        let one = settings(1, 6);
        assert!(one.contains("version = 2\n"), "{one}");
        assert!(one.contains("sandbox_image = \"docker.io/ironkeel/pause:1\"\n"), "{one}");
        assert!(one.contains(
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nSystemdCgroup = false\n"
        ));
        assert!(!one.contains("cri.v1.runtime"), "{one}");
        let two = settings(2, 1);
        assert!(two.contains("version = 3\n"), "{two}");
        assert!(two.contains(
            "[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"docker.io/ironkeel/pause:1\"\n"
        ));
        assert!(two.contains("bin_dirs = [\"/usr/lib/cni\"]\n"), "{two}");
        assert!(settings(2, 0).contains("bin_dir = \"/usr/lib/cni\"\n"));
        for text in [one, two] {
            assert!(text.contains("root = \"/data/containerd/root\"\nstate = \"/data/containerd/state\"\n"), "{text}");
            assert!(text.contains("restrict_oom_score_adj = true\nnetns_mounts_under_state_dir = true\n"), "{text}");
            assert!(text.contains("stream_server_port = \"0\"\n"), "{text}");
        }
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("/a b/\"c\\d\n"), "\"/a b/\\\"c\\\\d\\u000a\"");
    }

    #[test]
    fn the_capability_is_read_from_the_status_file() {
        assert!(may_lower_oom_score("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_lower_oom_score("CapEff:\t000001fffeffffff\n"));
        assert!(!may_lower_oom_score(""));
    }
}
