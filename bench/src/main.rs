//! The load generator: the same work against any Kubernetes API server, measured the same way, so that ratios are honest.
//!
//! Runs the scenarios of [`scenarios`] one after the other, or compares what two runs measured. Never knows which server it drives:
//! what it sends is what any client may send, and what it needs of a server's process it reads from `/proc`.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal: its answer goes to standard output")]

mod client;
mod fill;
mod load;
mod measure;
mod objects;
mod report;
mod scenario;
mod scenarios;
mod target;
mod usage;
mod watching;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use regex::Regex;

use crate::client::{Encoding, Http};
use crate::measure::Run;
use crate::scenario::{Context, Scenario};
use crate::target::Target;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Loads a Kubernetes API server and says what it did. What it makes lies in namespaces named bench-* and in the group bench.example.test,
/// and is deleted again.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Args {
    /// The server, by kubeconfig; twice for two servers in turn, scenario by scenario.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Vec<PathBuf>,
    /// What to call each server, in the order of the kubeconfigs.
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Processes of a local server, separated by commas, in the order of the kubeconfigs: their processor time and memory are measured.
    #[arg(long, value_name = "PID,PID")]
    pids: Vec<String>,
    /// Only scenarios whose names match.
    #[arg(long, value_name = "REGEX")]
    only: Option<Regex>,
    /// How long each load runs.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long each load runs before it counts.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Multiplies the numbers of objects and watchers: 0.01 shows quickly whether everything works.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Multiplies the rates of loads whose requests are due at fixed times: for a machine, or a state of one, that is slower.
    #[arg(long, default_value_t = 1.0)]
    pace: f64,
    /// The protocol of the connections.
    #[arg(long, value_enum, default_value_t = Http::H1)]
    http: Http,
    /// What reads ask for, and what creates of ConfigMaps send; watches are always JSON.
    #[arg(long, value_enum, default_value_t = Encoding::Json)]
    encoding: Encoding,
    /// Writes what was measured; with two servers, one file each: FILE with the server's name before its ending.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Measures nothing: compares what earlier runs wrote with --json.
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"], conflicts_with = "kubeconfig")]
    compare: Option<Vec<PathBuf>>,
    /// Lists the scenarios.
    #[arg(long)]
    list: bool,
    /// How the summary on standard output looks.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The form of a summary.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns for a terminal.
    Text,
    /// A table for a document.
    Markdown,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.list {
        for scenario in scenarios::ALL {
            println!("{:24} {}", scenario.name, scenario.about);
        }
        return Ok(());
    }
    let runs = match &args.compare {
        Some(files) => files.iter().map(|file| Run::read(file)).collect::<Result<Vec<_>>>()?,
        None => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let runs = runtime.block_on(measure(&args))?;
            runtime.shutdown_timeout(Duration::from_secs(1));
            for run in &runs {
                if let Some(file) = &args.json {
                    run.write(&if runs.len() > 1 { of_server(file, &run.server) } else { file.clone() })?;
                }
            }
            runs
        }
    };
    print!("{}", report::table(&runs, args.output == Output::Markdown));
    if let Some(file) = &args.html {
        std::fs::write(file, report::html(&runs)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Runs every chosen scenario on every server in turn.
async fn measure(args: &Args) -> Result<Vec<Run>> {
    ensure!(!args.kubeconfig.is_empty(), "which server? give --kubeconfig FILE (twice to compare two servers)");
    ensure!(args.seconds > 0.0 && args.warm_up >= 0.0 && args.scale > 0.0, "--seconds and --scale must be above zero");
    ensure!(args.pace > 0.0, "--pace must be above zero");
    let chosen: Vec<&Scenario> = scenarios::ALL
        .iter()
        .copied()
        .filter(|s| args.only.as_ref().is_none_or(|only| only.is_match(s.name)))
        .collect();
    ensure!(!chosen.is_empty(), "no scenario matches; --list shows them");
    let mut servers = vec![];
    for (at, file) in args.kubeconfig.iter().enumerate() {
        let target = Target::from_kubeconfig(file).await?;
        let version = target.version(args.http).await?;
        let name = args.name.get(at).cloned().unwrap_or_else(|| version.clone());
        eprintln!("{name}: {} ({version})", target.address());
        let pids = usage::pids(args.pids.get(at).map_or("", String::as_str))?;
        let context = Context {
            target,
            http: args.http,
            encoding: args.encoding,
            time: Duration::from_secs_f64(args.seconds),
            warm_up: Duration::from_secs_f64(args.warm_up),
            scale: args.scale,
            pace: args.pace,
            pids,
        };
        servers.push((context, Run::new(name, version, args.http, args.encoding)));
    }
    for scenario in chosen {
        for (context, run) in &mut servers {
            eprintln!("{}: {} ...", run.server, scenario.name);
            let measured = scenario::run(scenario, context).await;
            run.add(scenario.name, measured);
        }
    }
    Ok(servers.into_iter().map(|(_, run)| run).collect())
}

/// `a/b.json` of the server `x` is `a/b.x.json`.
fn of_server(file: &std::path::Path, server: &str) -> PathBuf {
    let safe: String =
        server.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' }).collect();
    let ending = file.extension().map_or_else(|| "json".into(), |e| e.to_string_lossy().into_owned());
    file.with_extension(format!("{safe}.{ending}"))
}
