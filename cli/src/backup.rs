//! `ironkeel backup`: the store of a cluster as one file, from a running server or from a store that nobody has open.
//!
//! Never writes over a file, and takes away what it could not finish. Keys and certificates are not in the store and not in the file.

use crate::place::{Place, is_locked, size, time};
use crate::progress::Progress;
use anyhow::Context as _;
use apiserver::backup::{PATH, short_lived};
use clap::Args;
use futures::{AsyncBufRead, AsyncReadExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::fs::File;
use std::io::{IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use storage::clock::SystemClock;
use storage::store::backup::{SUMMARY, Source, Summary};

#[derive(Args)]
#[command(after_help = "\
A backup holds the objects of a cluster and their history, as they are stored. It does not hold what lies outside of the store:\n\
certificates and the key that signs service-account tokens (DATA-DIR/pki), and the keys of --encryption-provider-config. Keep those\n\
beside it, apart from it. The file can be read by its owner only: it holds every Secret.")]
pub(crate) struct Backup {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Take it from the server that this kubeconfig names [default: the one that runs on the data directory, if one does]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data_dir", "storage"])]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Where to write the backup; - for standard output
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Where the bytes come from.
enum Origin {
    Store(Box<storage::store::backup::Backup>),
    Server(Pin<Box<dyn AsyncBufRead + Send>>),
}

impl Origin {
    async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        match self {
            Origin::Store(backup) => Ok(backup.next().await?.map(|bytes| bytes.to_vec())),
            Origin::Server(stream) => {
                let mut bytes = vec![0; 64 << 10];
                let read =
                    stream.read(&mut bytes).await.context("the server ended the backup early; its log says why")?;
                bytes.truncate(read);
                Ok((read > 0).then_some(bytes))
            }
        }
    }
}

/// Takes a backup.
pub(crate) async fn run(flags: &Backup) -> anyhow::Result<()> {
    let progress = Progress::new();
    if flags.file.as_os_str() == "-" {
        let mut out = std::io::stdout().lock();
        anyhow::ensure!(!out.is_terminal(), "a backup is no text: name a file, or send standard output somewhere");
        let mut from = open(flags).await?;
        let end = copy(&mut from, &mut out, &progress).await?;
        out.flush()?;
        let summary = Summary::of_end(&end).context("the server ended the backup early; its log says why")?;
        told(flags, &progress, &summary, None);
        return Ok(());
    }
    let path = &flags.file;
    anyhow::ensure!(!path.exists(), "{} is there already; name another file", path.display());
    // Opened first: a store that cannot be read leaves no file.
    let mut from = open(flags).await?;
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let outcome = written(&mut from, &mut file, path, &progress).await;
    match outcome {
        Ok(summary) => {
            told(flags, &progress, &summary, Some(path));
            Ok(())
        }
        Err(error) => {
            if let Err(error) = std::fs::remove_file(path) {
                progress.note(&format!("{} is of no use and could not be removed: {error}", path.display()));
            }
            Err(error)
        }
    }
}

/// Writes the file and reads it again.
async fn written(from: &mut Origin, file: &mut File, path: &Path, progress: &Progress) -> anyhow::Result<Summary> {
    copy(from, file, progress).await?;
    let shown = path.display();
    file.sync_all().with_context(|| format!("cannot write {shown}"))?;
    progress.doing("reading it again");
    let file = std::io::BufReader::new(File::open(path).with_context(|| format!("cannot read {shown}"))?);
    Ok(*Source::verify(file, short_lived)?.summary())
}

/// Copies everything and returns the last bytes.
async fn copy(from: &mut Origin, to: &mut impl Write, progress: &Progress) -> anyhow::Result<Vec<u8>> {
    let (mut copied, mut end) = (0_u64, Vec::new());
    progress.doing("copying");
    while let Some(bytes) = from.next().await? {
        to.write_all(&bytes).context("the backup cannot be written")?;
        copied += u64::try_from(bytes.len()).unwrap_or(0);
        end.extend_from_slice(&bytes);
        end.drain(..end.len().saturating_sub(SUMMARY));
        progress.doing(&format!("copied {}", size(copied)));
    }
    Ok(end)
}

/// The store itself, or the server that has it open.
async fn open(flags: &Backup) -> anyhow::Result<Origin> {
    if let Some(kubeconfig) = &flags.kubeconfig {
        return server(kubeconfig).await;
    }
    match flags.place.open_existing() {
        Ok(kv) => {
            let backup = storage::store::backup::Backup::new(kv, Arc::new(SystemClock), short_lived);
            Ok(Origin::Store(Box::new(backup)))
        }
        Err(error) if is_locked(&error) && flags.place.storage.is_none() => {
            let kubeconfig = flags.place.cluster.data_dir()?.join("pki/admin.kubeconfig");
            server(&kubeconfig)
                .await
                .context("a server runs on the data directory; name its kubeconfig with --kubeconfig")
        }
        Err(error) if is_locked(&error) => {
            Err(error.context("a server has the store open; name its kubeconfig with --kubeconfig"))
        }
        Err(error) => Err(error),
    }
}

async fn server(kubeconfig: &Path) -> anyhow::Result<Origin> {
    let shown = kubeconfig.display();
    let file = Kubeconfig::read_from(kubeconfig).with_context(|| format!("{shown} cannot be read"))?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("{shown} names no server"))?;
    let client = kube::Client::try_from(config).with_context(|| format!("{shown} names no server"))?;
    let request = http::Request::get(PATH).body(Vec::new())?;
    let stream = client.request_stream(request).await.context("the server gives no backup")?;
    Ok(Origin::Server(Box::pin(stream)))
}

fn told(flags: &Backup, progress: &Progress, summary: &Summary, path: Option<&Path>) {
    let Summary { objects, changes, bytes, oldest, oldest_at, latest, latest_at, .. } = *summary;
    let name = path.map_or_else(|| "backup".to_owned(), |path| path.display().to_string());
    let length = path.and_then(|path| path.metadata().ok()).map(|file| format!(", {} on disk", size(file.len())));
    progress.done(&format!(
        "{name}: {objects} objects, {changes} changes, {}{}",
        size(bytes),
        length.unwrap_or_default()
    ));
    progress.done(&format!(
        "it can restore any revision from {oldest} ({}) to {latest} ({})",
        time(oldest_at),
        time(latest_at)
    ));
    let pki = match (&flags.kubeconfig, &flags.place.storage, flags.place.cluster.data_dir()) {
        (None, None, Ok(data)) => data.join("pki").display().to_string(),
        _ => "the pki folder of the data directory".to_owned(),
    };
    progress.note(&format!("keys and certificates are not in it: keep {pki} too"));
    progress.finish();
    if let Some(path) = path {
        eprintln!("Restore it into a new place: ironkeel restore --data-dir DIR {}", path.display());
    }
}
