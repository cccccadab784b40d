//! What a person sees while a cluster starts: a spinner on a terminal, plain lines elsewhere.
//!
//! Colours only on terminals, and not where `NO_COLOR` is set.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Progress of a start.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    colour: bool,
}

impl Progress {
    /// Begins to show progress.
    pub(crate) fn new() -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(80));
            bar
        });
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        Progress { bar, started: Instant::now(), colour }
    }

    /// Says what is being done.
    pub(crate) fn doing(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// Says what is done, with the time since the start.
    pub(crate) fn done(&self, what: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        let mark = if self.colour { "\u{1b}[32m✓\u{1b}[0m" } else { "*" };
        self.line(&format!("{mark} {what} ({seconds:.1}s)"));
    }

    /// Says something that went otherwise than asked.
    pub(crate) fn note(&self, what: &str) {
        let mark = if self.colour { "\u{1b}[33m!\u{1b}[0m" } else { "!" };
        self.line(&format!("{mark} {what}"));
    }

    /// Ends the spinner.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // Nobody reads standard error any more: that must not end the cluster.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }
}
