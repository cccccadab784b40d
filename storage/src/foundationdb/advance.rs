//! Moves the database's versions on: rows that another engine stamped must not lie ahead of them.
//!
//! Writes one system key, as FoundationDB's own restore does; the cluster recovers once and goes on from there. Never moves them back.

use std::time::Duration;

use fdb::FdbError;
use fdb::options::TransactionOption;
use tokio::time::Instant;

use super::{Inner, ORDER_BITS, tx};
use crate::kv::{KvError, Version};

/// The least version of the next commit: 8 little-endian bytes (FoundationDB, `SystemData`).
const KEY: &[u8] = b"\xff/minRequiredCommitVersion";
/// How long the recovery may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between looks at the cluster while it recovers.
const PAUSE: Duration = Duration::from_millis(100);

/// Returns when read versions have reached `version`, and the servers that hold the data as well.
pub(super) async fn to(engine: &Inner, version: Version) -> Result<(), KvError> {
    let begun = Instant::now();
    let least = (version.0 >> ORDER_BITS) + 1;
    tx::check_version(least)?;
    loop {
        let failed = match step(engine, version, least).await {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(e) => Some(engine.place.read(e)),
        };
        if begun.elapsed() > PATIENCE {
            let text = format!("the database did not move on to version {version} within {PATIENCE:?}");
            return Err(failed.unwrap_or(KvError::Unavailable(text)));
        }
        if let Some(e @ (KvError::Misuse(_) | KvError::TooLarge { .. })) = failed {
            return Err(e);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether they are there; asks for it otherwise. Asking twice does no harm, so an unknown outcome does not matter.
async fn step(engine: &Inner, version: Version, least: u64) -> Result<bool, FdbError> {
    let raw = engine.database.create_trx()?;
    raw.set_option(TransactionOption::AccessSystemKeys)?;
    let now = raw.get_read_version().await?;
    // The bound that a read version covers reaches `version` one version early; the one after it is past all doubt.
    if u64::try_from(now).is_ok_and(|now| now > version.0 >> ORDER_BITS) {
        // Storage servers take seconds to follow over a gap of this size, and reads wait for them.
        raw.get(KEY, true).await?;
        return Ok(true);
    }
    raw.set(KEY, &least.to_le_bytes());
    raw.commit().await?;
    Ok(false)
}
