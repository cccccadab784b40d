//! What the tables promise: nothing of upstream's is missing, what counts is read, and the document says the same.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use super::settings::{Asked, Settings, duration};
use super::table::{Component, Takes, Verdict};
use super::{COMPONENTS, called, help};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Upstream's flags: component, flag, type, default.
const UPSTREAM: &str = include_str!("../../flags/upstream.txt");

fn upstream(component: &Component) -> BTreeMap<&'static str, (&'static str, &'static str)> {
    let lines = UPSTREAM.lines().filter(|line| !line.starts_with('#'));
    let cells = lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    cells.filter(|cells| cells[0] == component.name).map(|cells| (cells[1], (cells[2], cells[3]))).collect()
}

fn takes(kind: &str) -> Takes {
    match kind {
        "bool" | "version" => Takes::Bool,
        "int" | "int32" | "int64" | "uint" | "uint64" | "Level" => Takes::Int,
        "float32" | "float64" | "float" => Takes::Float,
        "duration" => Takes::Duration,
        "ip" => Takes::Ip,
        "stringSlice" | "strings" | "stringArray" | "int32Slice" => Takes::List,
        kind if kind.starts_with("map") || kind == "stringToString" || kind == "colonSeparatedMultimapStringString" => {
            Takes::Map
        }
        _ => Takes::Text,
    }
}

fn settings(component: &Component, words: &[&str]) -> anyhow::Result<Settings> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    match Settings::parse(component, &words)? {
        Asked::Run(settings) => Ok(settings),
        other => anyhow::bail!("{other:?}"),
    }
}

fn component(name: &str) -> Component {
    COMPONENTS.iter().find(|entry| entry.component.name == name).unwrap().component
}

#[test]
fn no_flag_of_upstream_is_missing_and_none_is_invented() {
    for entry in COMPONENTS {
        let component = &entry.component;
        let lines = component.lines().unwrap();
        let known: BTreeSet<&str> = lines
            .iter()
            .filter(|line| line.verdict != Verdict::Own && !line.flag.is_empty())
            .map(|line| line.flag)
            .collect();
        let wanted = upstream(component);
        let missing: Vec<_> = wanted.keys().filter(|flag| !known.contains(**flag)).collect();
        let invented: Vec<_> = known.iter().filter(|flag| !wanted.contains_key(**flag)).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "{}: missing {missing:?}, invented {invented:?}",
            component.name
        );
        let mut keys = BTreeSet::new();
        for line in &lines {
            assert!(keys.insert(line.key()), "{}: {} is there twice", component.name, line.key());
            let Some((kind, default)) = wanted.get(line.flag) else { continue };
            let wider = matches!(line.takes, Takes::Object | Takes::Each)
                || (line.takes == Takes::List && takes(kind) == Takes::Text);
            assert!(line.takes == takes(kind) || wider, "{} --{}: takes {kind}", component.name, line.flag);
            assert!(
                line.default == *default || line.why.contains("upstream's default"),
                "{} --{}: upstream's default is {default:?}, and the table does not say why it is {:?} here",
                component.name,
                line.flag,
                line.default
            );
        }
    }
}

/// A line that says "same" and that nobody reads would be a lie, and so would one that says "ignored" and counts.
#[test]
fn what_the_tables_call_the_same_is_read_and_nothing_else() {
    for entry in COMPONENTS {
        let component = &entry.component;
        let lines = component.lines().unwrap();
        // Where a start needs files, their names are enough.
        let mut words = Vec::new();
        for flag in
            ["kubeconfig", "service-account-issuer", "service-account-signing-key-file", "service-cluster-ip-range"]
        {
            if lines.iter().any(|line| line.flag == flag && line.verdict == Verdict::Same) {
                let value = if flag.ends_with("range") { "10.96.0.0/12" } else { "/x" };
                words.push(format!("--{flag}={value}"));
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let settings = settings(component, &words).unwrap();
        (entry.read_all)(&settings).unwrap();
        let mut read = settings.asked();
        // Read for every component, before its own file sees them.
        read.extend(["config", "v", "logging-format", "version", "help"]);
        for line in &lines {
            let counts = matches!(line.verdict, Verdict::Same | Verdict::Own);
            let stands = read.contains(line.key());
            let general = ["config", "v", "logging-format", "version", "help"].contains(&line.key());
            assert!(
                counts == stands || general,
                "{}: {} is {:?}, and read: {stands}",
                component.name,
                line.key(),
                line.verdict
            );
        }
    }
}

/// The part of `docs/flags.md` that is about a component.
fn document(component: &Component) -> anyhow::Result<String> {
    use std::fmt::Write as _;
    let mut out = String::new();
    writeln!(out, "## `ironkeel {}` (`{}`)\n", component.name, component.upstream)?;
    if let Some((_, kind)) = component.document {
        writeln!(out, "`--config` names a `{kind}`; the second column is the field in it that a flag stands for.\n")?;
    }
    writeln!(out, "| flag | field | takes | default | | why |\n|---|---|---|---|---|---|")?;
    for line in component.lines()? {
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let flag = if line.flag.is_empty() { String::new() } else { format!("`--{}`", line.flag) };
        writeln!(
            out,
            "| {flag} | {} | {} | {} | {} | {} |",
            code(line.field),
            line.takes.word(),
            code(line.default),
            line.verdict.word(),
            line.why
        )?;
    }
    Ok(out)
}

#[test]
fn the_document_is_made_of_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/flags.md");
    let mut text = String::from(
        "# Flags\n\nEvery flag of the programs of Kubernetes v1.36, and what becomes of it here. Made from the tables in `cli/flags/`; \
         `UPDATE=1 cargo test -p cli the_document` writes it.\n\n\
         **same**: it means what it means upstream. **ignored**: it is taken; another value than the default is warned of at the start. \
         **refused**: another value than the default ends the start, because what it asks for would silently be missing. **own**: \
         upstream has no such flag. Fields without a flag are those of the configuration file. An unknown flag or field ends the start.\n\n\
         A link to `ironkeel` that is called like upstream's program, such as `kubelet`, is that command.\n",
    );
    for entry in COMPONENTS {
        text.push('\n');
        text.push_str(&document(&entry.component).unwrap());
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(std::fs::read_to_string(path).is_ok_and(|old| old == text), "docs/flags.md is old: UPDATE=1 writes it");
}

#[test]
fn mistakes_are_said_with_a_way_out() {
    let proxy = component("proxy");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let config = file.display().to_string();
    let with = |text: &str| {
        std::fs::write(&file, text).unwrap();
        format!("--config={config}")
    };
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    let cases: [(String, &str); 8] = [
        ("--kubeconfg=x".into(), "unknown flag: --kubeconfg (did you mean --kubeconfig?)"),
        ("--entirely-different=x".into(), "unknown flag: --entirely-different"),
        ("word".into(), "\"word\" is not a flag, and `proxy` takes nothing else"),
        (
            "--masquerade-all=maybe".into(),
            "invalid argument \"maybe\" for \"--masquerade-all\" flag: it is neither true nor false",
        ),
        ("--kubeconfig".into(), "flag needs an argument: --kubeconfig"),
        ("--init-only".into(), "--init-only: the proxy needs root"),
        (with(&format!("{head}clusterCidr: x\n")), "unknown field: clusterCidr (did you mean clusterCIDR?)"),
        (with("kind: Pod\napiVersion: v1\n"), "no kind \"Pod\" is registered for version \"v1\""),
    ];
    for (word, want) in cases {
        // The last file written stands: the two cases that name one are made to differ.
        if want.starts_with("unknown field") {
            with(&format!("{head}clusterCidr: x\n"));
        }
        if want.starts_with("no kind") {
            with("kind: Pod\napiVersion: v1\n");
        }
        let error = format!("{:#}", settings(&proxy, &[&word]).unwrap_err());
        assert!(error.contains(want), "{word}: {error}");
    }
}

#[test]
fn audit_flags_are_judged_where_their_backend_is_on() {
    let entry = COMPONENTS.iter().find(|entry| entry.component.name == "apiserver").unwrap();
    let check = |words: &str, want: &str| {
        let base =
            "--service-account-issuer=/x --service-account-signing-key-file=/x --service-cluster-ip-range=10.96.0.0/12";
        let words: Vec<&str> = base.split(' ').chain(words.split(' ')).collect();
        let read = (entry.read_all)(&settings(&entry.component, &words).unwrap());
        let error = read.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(if want.is_empty() { error.is_empty() } else { error.contains(want) }, "{words:?}: {error}");
    };
    check("--audit-log-mode=never", "");
    check("--audit-log-path=- --audit-log-mode=never", "invalid audit log mode never, allowed modes are");
    check(
        "--audit-log-path=- --audit-log-format=xml",
        "invalid audit log format xml, allowed formats are \"legacy,json\"",
    );
    check("--audit-log-path=- --audit-log-maxage=-1", "--audit-log-maxage -1 can't be a negative number");
    check("--audit-log-path=- --audit-log-version=audit.k8s.io/v1beta1", "invalid group version");
    check("--audit-log-path=- --audit-log-batch-buffer-size=0", "");
    let batch = "--audit-log-path=- --audit-log-mode=batch";
    check(
        &format!("{batch} --audit-log-batch-buffer-size=0"),
        "invalid audit batch log buffer size 0, must be a positive number",
    );
    check(&format!("{batch} --audit-log-batch-throttle-enable"), "invalid audit batch log throttle QPS 0");
    check("--audit-webhook-batch-throttle-burst=0", "");
    check("--audit-webhook-config-file=/x --audit-webhook-batch-throttle-burst=0", "webhook throttle burst 0");
    check(
        "--audit-webhook-config-file=/x --audit-webhook-truncate-max-batch-size=5",
        "must be greater than max event size (102400)",
    );
    check("--audit-webhook-config-file=/x --audit-webhook-batch-initial-backoff=1s", "");
}

#[test]
fn flags_stand_over_the_file_and_the_file_over_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 7\nclusterDNS: [10.0.0.10]\n\
                authentication: {x509: {clientCAFile: /ca}, anonymous: {enabled: false}}\nstaticPodPath: /etc/kubernetes/manifests\n\
                registerWithTaints: [{key: a, value: b, effect: NoExecute}]\ncgroupDriver: systemd\n\
                containerRuntimeEndpoint: \"\"\nsyncFrequency: 0s\nlogging: {flushFrequency: 0, verbosity: 3}\nmemorySwap: {}\n";
    std::fs::write(&file, text).unwrap();
    let config = format!("--config={}", file.display());
    let kubelet = component("kubelet");
    let read = settings(
        &kubelet,
        &[&config, "--kubeconfig", "/k", "--cluster_dns=10.0.0.1,10.0.0.2", "--cluster-dns=10.0.0.3", "-v", "4"],
    )
    .unwrap();
    assert_eq!(read.number::<u32>("max-pods").unwrap(), 7);
    assert_eq!(read.list("cluster-dns"), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!((read.text("client-ca-file"), read.text("kubeconfig")), ("/ca".to_owned(), "/k".to_owned()));
    assert_eq!((read.text("root-dir"), read.number::<u32>("v").unwrap()), ("/var/lib/kubelet".to_owned(), 4));
    let warned: Vec<&str> = read.warnings.iter().filter_map(|warning| warning.split(' ').next()).collect();
    assert_eq!(warned, ["--cgroup-driver"]);
    assert_eq!(read.text("pod-manifest-path"), "/etc/kubernetes/manifests");
    assert_eq!(read.text("container-runtime-endpoint"), "unix:///run/containerd/containerd.sock");
    let read = settings(&kubelet, &[&config, "--max-pods=9", "--register-with-taints=x=y:NoSchedule"]).unwrap();
    assert_eq!(read.number::<u32>("max-pods").unwrap(), 9);
    assert_eq!(read.list("register-with-taints"), ["x=y:NoSchedule"]);
    let error = settings(&kubelet, &["--authorization-mode=AlwaysAllow"]).unwrap_err();
    assert!(error.to_string().starts_with("--authorization-mode: "), "{error:#}");
}

#[test]
fn durations_are_gos() {
    let cases = [("1h30m", 5400.0), ("1.5s", 1.5), ("100ms", 0.1), ("0", 0.0), ("-1m", 0.0), ("0s", 0.0)];
    for (text, seconds) in cases {
        assert_eq!(duration(text), Some(Duration::from_secs_f64(seconds)), "{text}");
    }
    assert!(["", "5", "h", "1x", "soon"].iter().all(|text| duration(text).is_none()));
}

#[test]
fn a_link_with_upstreams_name_is_the_command() {
    assert_eq!(called("/usr/bin/kube-proxy"), Some("proxy"));
    assert_eq!((called("kubelet"), called("ironkeel")), (Some("kubelet"), None));
    for entry in COMPONENTS {
        let text = help(&entry.component).unwrap();
        assert!(text.contains("--kubeconfig") || entry.component.name == "apiserver", "{text}");
    }
}
