//! The audit flags of the API server.

use super::settings::Settings;
use anyhow::Context as _;
use apiserver::audit::file::Rotation;
use apiserver::audit::policy::Policy;
use apiserver::audit::queue::{Batch, Mode};
use apiserver::audit::{LogSettings, Settings as Audit, Truncate, WebhookSettings};
use std::path::PathBuf;
use std::time::Duration;

const DAY: u64 = 24 * 60 * 60;
const MEGABYTE: u64 = 1024 * 1024;

/// What the flags say.
#[derive(Debug)]
pub(crate) struct Flags {
    policy: Option<PathBuf>,
    log: Option<LogSettings>,
    webhook: Option<WebhookSettings>,
}

/// Reads the flags; the policy's file is read by `open`.
///
/// # Errors
/// A value that cannot be, of a backend that is on.
pub(crate) fn read(settings: &Settings) -> anyhow::Result<Flags> {
    let (log, webhook) = (log(settings), webhook(settings));
    let log = settings.path("audit-log-path").map(|_| log).transpose()?;
    let webhook = settings.path("audit-webhook-config-file").map(|_| webhook).transpose()?;
    Ok(Flags { policy: settings.path("audit-policy-file"), log, webhook })
}

fn log(settings: &Settings) -> anyhow::Result<LogSettings> {
    version(settings, "log")?;
    let format = settings.text("audit-log-format");
    let known = ["legacy", "json"];
    anyhow::ensure!(
        known.contains(&format.as_str()),
        "invalid audit log format {format}, allowed formats are {:?}",
        known.join(",")
    );
    let number = |name: &str| -> anyhow::Result<u64> {
        let given: i64 = settings.number(&format!("audit-log-{name}"))?;
        u64::try_from(given).ok().with_context(|| format!("--audit-log-{name} {given} can't be a negative number"))
    };
    let rotation = Rotation {
        max_size: number("maxsize")?.saturating_mul(MEGABYTE),
        max_age: Duration::from_secs(number("maxage")?.saturating_mul(DAY)),
        max_backups: usize::try_from(number("maxbackup")?).unwrap_or(usize::MAX),
        compress: settings.bool("audit-log-compress"),
    };
    Ok(LogSettings {
        path: settings.text("audit-log-path"),
        legacy: format == "legacy",
        rotation,
        mode: mode(settings, "log")?,
        truncate: truncate(settings, "log")?,
    })
}

fn webhook(settings: &Settings) -> anyhow::Result<WebhookSettings> {
    version(settings, "webhook")?;
    let backoff = settings.duration("audit-webhook-initial-backoff")?;
    // The old name of the same flag.
    let old = settings.duration("audit-webhook-batch-initial-backoff")?;
    let renamed = settings.is_given("audit-webhook-initial-backoff");
    Ok(WebhookSettings {
        kubeconfig: settings.path("audit-webhook-config-file").unwrap_or_default(),
        initial_backoff: if renamed { backoff } else { old },
        mode: mode(settings, "webhook")?,
        truncate: truncate(settings, "webhook")?,
    })
}

fn version(settings: &Settings, backend: &str) -> anyhow::Result<()> {
    let version = settings.text(&format!("audit-{backend}-version"));
    anyhow::ensure!(
        version == "audit.k8s.io/v1",
        "--audit-{backend}-version {version:?}: invalid group version, allowed versions are [\"audit.k8s.io/v1\"]"
    );
    Ok(())
}

fn mode(settings: &Settings, backend: &str) -> anyhow::Result<Mode> {
    let key = |name: &str| format!("audit-{backend}-{name}");
    let batch = batch(settings, backend);
    match settings.text(&key("mode")).as_str() {
        // What is not used is not judged.
        "blocking" => Ok(Mode::Blocking),
        "blocking-strict" => Ok(Mode::BlockingStrict),
        "batch" => batch.map(Mode::Batch),
        other => {
            anyhow::bail!("invalid audit {backend} mode {other}, allowed modes are \"batch,blocking,blocking-strict\"")
        }
    }
}

fn batch(settings: &Settings, backend: &str) -> anyhow::Result<Batch> {
    let key = |name: &str| format!("audit-{backend}-batch-{name}");
    let number = |name: &str| settings.number::<i64>(&key(name));
    let positive = |given: i64, words: &str| -> anyhow::Result<usize> {
        let number = usize::try_from(given).ok().filter(|number| *number > 0);
        number.with_context(|| format!("invalid audit batch {backend} {words} {given}, must be a positive number"))
    };
    let rate: f64 = settings.raw(&key("throttle-qps")).as_f64().unwrap_or_default();
    let (buffer, size, burst) = (number("buffer-size")?, number("max-size")?, number("throttle-burst")?);
    let wait = settings.duration(&key("max-wait"))?;
    let (buffer, size) = (positive(buffer, "buffer size")?, positive(size, "max batch size")?);
    let mut throttle = None;
    if settings.bool(&key("throttle-enable")) {
        anyhow::ensure!(rate > 0.0, "invalid audit batch {backend} throttle QPS {rate}, must be a positive number");
        throttle = Some((rate, u32::try_from(positive(burst, "throttle burst")?).unwrap_or(u32::MAX)));
    }
    Ok(Batch { buffer, size, wait, throttle })
}

fn truncate(settings: &Settings, backend: &str) -> anyhow::Result<Option<Truncate>> {
    let number = |name: &str| settings.number::<i64>(&format!("audit-{backend}-truncate-{name}"));
    let (event, batch) = (number("max-event-size")?, number("max-batch-size")?);
    let max_event = usize::try_from(event).ok().filter(|size| *size > 0);
    let max_event = max_event.with_context(|| {
        format!("invalid audit truncate {backend} max event size {event}, must be a positive number")
    })?;
    anyhow::ensure!(
        batch >= event,
        "invalid audit truncate {backend} max batch size {batch}, must be greater than max event size ({event})"
    );
    Ok(settings.bool(&format!("audit-{backend}-truncate-enabled")).then_some(Truncate { max_event }))
}

impl Flags {
    /// The audit, its policy read; none when nothing would be recorded.
    ///
    /// # Errors
    /// When the policy cannot be used.
    pub(crate) fn open(self) -> anyhow::Result<Option<Audit>> {
        let Some(path) = &self.policy else {
            if self.log.is_some() || self.webhook.is_some() {
                tracing::warn!(
                    "no audit policy file provided, no events will be recorded for log and webhook backends"
                );
            }
            return Ok(None);
        };
        let text = crate::cluster::read(path)?;
        let (policy, unknown) = Policy::read(text.as_bytes())
            .with_context(|| format!("--audit-policy-file: loading audit policy file {}", path.display()))?;
        for error in unknown {
            tracing::warn!(error, "audit policy contains errors, falling back to lenient decoding");
        }
        if self.log.is_none() && self.webhook.is_none() {
            return Ok(None);
        }
        Ok(Some(Audit { policy, log: self.log, webhook: self.webhook }))
    }
}
