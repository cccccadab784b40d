//! `ironkeel up`: the whole cluster in one process, from start to clean end.

use crate::flags::Up;
use crate::pki::Subject;
use crate::progress::Progress;
use crate::{cluster, fleet, kubeconfig, node};
use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs a cluster until it is interrupted.
pub(crate) async fn run(flags: Up) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&flags.log).context("--log")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let data = flags.cluster.data_dir()?;
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    if !flags.no_node {
        let missing = node::missing(&flags);
        anyhow::ensure!(
            missing.is_empty(),
            "this machine cannot run containers: {}.\n  Run hack/setup as root, or start the control plane alone: ironkeel up --no-node",
            missing.join("; ")
        );
    }
    let progress = Progress::new();
    // Parts stop in the reverse order of their start.
    let (stop_api, stop_rest) = (CancellationToken::new(), CancellationToken::new());
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let name = node::name(&flags);
    progress.doing("starting the API server");
    let plane = tokio::select! {
        started = cluster::start(&flags, &data, &name, &stop_api) => started?,
        _ = interrupt.recv() => anyhow::bail!("interrupted before the API server was ready"),
        _ = terminate.recv() => anyhow::bail!("ended before the API server was ready"),
    };
    progress.done(&format!("API server ready on {}", plane.url));
    let admin = plane.authority.issue(&Subject {
        file: "admin",
        name: "kubernetes-admin",
        group: Some("system:masters"),
        hosts: Vec::new(),
    })?;
    let text = kubeconfig::render(&plane.url, plane.authority.certificate(), &admin.certificate, &admin.key)?;
    kubeconfig::write_private(&flags.kubeconfig, &text)?;
    // For commands that know the data directory alone.
    kubeconfig::write_private(&data.join("pki/admin.kubeconfig"), &text)?;
    let mut tasks = cluster::converge(&flags, &plane, &stop_rest);
    progress.done("controllers and scheduler started");

    let stop_kubelet = CancellationToken::new();
    let mut running = None;
    if flags.no_node {
        progress.note("no node: pods are accepted but nothing runs them");
    } else {
        let started = tokio::select! {
            started = node::start(&flags, &data, &plane, &progress, &stop_kubelet) => Some(started),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        };
        if let Some(started) = started {
            let node = started?;
            progress.done(&format!("node {} ready", node.name));
            let more = fleet::start(&flags, &data, &plane, &node.name, &node.cluster_dns, &progress);
            match more.await {
                Ok(more) => running = Some((more, node)),
                Err(error) => {
                    stop_kubelet.cancel();
                    node.end(flags.keep_pods, &progress).await?;
                    return Err(error);
                }
            }
        }
    }
    progress.finish();
    if running.is_some() || flags.no_node {
        next_steps(&flags);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }

    let progress = Progress::new();
    stop_kubelet.cancel();
    if let Some((more, node)) = running {
        let end = async {
            more.end(flags.keep_pods).await?;
            node.end(flags.keep_pods, &progress).await
        };
        tokio::select! {
            ended = end => ended?,
            // A second interrupt means now.
            _ = interrupt.recv() => progress.note("not waiting for the pods"),
        }
    }
    stop_rest.cancel();
    while tasks.join_next().await.is_some() {}
    stop_api.cancel();
    tokio::select! {
        () = plane.api.closed() => {}
        _ = interrupt.recv() => {}
    }
    progress.done("stopped");
    progress.finish();
    Ok(())
}

fn next_steps(flags: &Up) {
    let config = flags.kubeconfig.display();
    let mut lines = vec![
        String::new(),
        "The cluster is up. In another terminal:".to_owned(),
        format!(
            "  export KUBECONFIG={}",
            std::path::absolute(&flags.kubeconfig).unwrap_or_else(|_| flags.kubeconfig.clone()).display()
        ),
        "  kubectl get nodes,pods -A".to_owned(),
    ];
    if !flags.no_node {
        let own = std::env::current_exe().map_or_else(|_| "ironkeel".to_owned(), |path| path.display().to_string());
        let directory = match &flags.cluster.data_dir {
            Some(directory) => format!(" --data-dir {}", directory.display()),
            None => String::new(),
        };
        lines.push(format!("  hack/images && {own} image load{directory} target/images/*.tar"));
        lines.push("  kubectl create deployment web --image=ironkeel/web:1 --replicas=3".to_owned());
    }
    lines.push(format!("Ctrl-C stops it; {config} lets anybody who reads it administer the cluster."));
    for line in lines {
        eprintln!("{line}");
    }
}
