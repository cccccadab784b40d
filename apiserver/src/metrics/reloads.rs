//! How often files of configuration were taken up while the server ran, by upstream's names (`authenticationconfig/metrics`,
//! `authorizationconfig/metrics` of `apiserver/pkg/server/options`, v1.36).
//!
//! Never shows what a file says.

use super::registered;
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry};
use storage::clock::{Clock as _, SystemClock};

/// Of one file.
pub(crate) struct Reloads {
    server: String,
    total: IntCounterVec,
    last: GaugeVec,
}

impl Reloads {
    /// `what` is `authentication` or `authorization`, `server` the hash of this server's name.
    pub(crate) fn new(what: &str, server: String, registry: &Registry) -> Reloads {
        const LABELS: [&str; 2] = ["status", "apiserver_id_hash"];
        let options = |name: &str, help: &str| {
            Opts::new(
                format!("apiserver_{what}_config_controller_automatic_{name}"),
                format!("{help} {what} configuration."),
            )
        };
        let total =
            options("reloads_total", "Changes of the file that were taken up or could not be, by status: of the");
        let last =
            options("reload_last_timestamp_seconds", "When that was last, in seconds since 1970, by status: of the");
        Reloads {
            server,
            total: registered(registry, IntCounterVec::new(total, &LABELS)),
            last: registered(registry, GaugeVec::new(last, &LABELS)),
        }
    }

    /// The file was taken up, or could not be.
    pub(crate) fn tell(&self, taken: bool) {
        let labels = [if taken { "success" } else { "failure" }, self.server.as_str()];
        self.total.with_label_values(&labels).inc();
        self.last.with_label_values(&labels).set(SystemClock.unix_millis() as f64 / 1000.0);
    }
}
