//! What a pod's worker does for resizes in place: asks the node for what the spec says, remembers how far a resize is, and
//! tells of it. What a resize means is decided in [`crate::resize`] and [`crate::plan`].

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Worker;
use crate::admit;
use crate::events::about_pod;
use crate::model::{self, Observed};
use crate::plan::Plan;
use crate::resize::{self, Pending, Progress};

/// How long after a failed attempt the next follows.
const RETRY: SignedDuration = SignedDuration::from_secs(2);

impl Worker {
    /// The pod with the resources that the node grants it: those of its spec, where they fit.
    pub(super) fn granted(&mut self, gone: bool) -> Arc<core::Pod> {
        let pod = self.base.clone();
        let mut ledger = self.node.ledger.lock();
        let Some(granted) = ledger.granted(model::uid(&pod)) else { return pod };
        let asked = resize::asked(&pod);
        if resize::same(&granted, &asked) {
            ledger.grant(pod.clone());
            drop(ledger);
            if self.memory.resize.pending.take().is_some() {
                // It waits no more, so that those behind it may go.
                self.node.freed.send_replace(());
            }
            return pod;
        }
        if gone || pod.metadata.deletion_timestamp.is_some() || model::is_terminal(&pod) {
            return resize::with(&pod, &granted);
        }
        let generation = pod.metadata.generation;
        let about = about_pod(&pod, None);
        let refusal = |pod: &core::Pod| {
            let others = ledger.others(model::uid(pod));
            admit::refusal(pod, &others, &self.node.allocatable, &self.node.config).map(|(_, message)| message)
        };
        // What asks for less needs no room; else whoever comes first and fits is woken as this pod was.
        let before = || ledger.ahead_of(&pod).iter().any(|other| refusal(other).is_none());
        let refused = match refusal(&pod) {
            None if resize::grows(&granted, &asked) && before() => Some("another pod's resize comes first".to_owned()),
            other => other,
        };
        let Some(message) = refused else {
            ledger.grant(pod.clone());
            drop(ledger);
            self.memory.resize.pending = None;
            self.memory.resize.progress = Some(Progress { generation, error: None });
            self.memory.resize.retry_at = None;
            let text = resize::event("Pod resize started", &pod, generation, None);
            self.node.events.normal(about, "ResizeStarted", text);
            self.node.freed.send_replace(());
            self.freed.mark_unchanged();
            return pod;
        };
        ledger.wait(pod.clone());
        drop(ledger);
        if self.memory.resize.pending.as_ref().is_none_or(|pending| pending.generation != generation) {
            let text = resize::event("Pod resize Deferred", &pod, generation, Some(&message));
            self.node.events.warning(about, "ResizeDeferred", text);
        }
        self.memory.resize.pending = Some(Pending { message, generation });
        resize::with(&pod, &granted)
    }

    /// Remembers whether a resize is under way, and tells when it is done.
    pub(super) fn note_resize(&mut self, pod: &core::Pod, plan: &Plan) {
        if plan.resizing && !plan.ending {
            let generation = pod.metadata.generation;
            self.memory.resize.progress.get_or_insert(Progress { generation, error: None });
        } else if let Some(done) = self.memory.resize.progress.take()
            && !plan.ending
        {
            let text = resize::event("Pod resize completed", pod, done.generation, None);
            self.node.events.normal(about_pod(pod, None), "ResizeCompleted", text);
        }
    }

    pub(super) fn note_failed_resize(&mut self, message: String, now: Timestamp) {
        self.memory.resize.retry_at = now.checked_add(RETRY).ok();
        let generation = self.base.metadata.generation;
        let progress = self.memory.resize.progress.get_or_insert(Progress { generation, error: None });
        if progress.error.as_ref() != Some(&message) {
            let text = resize::event("Pod resize error", &self.base, progress.generation, Some(&message));
            self.node.events.warning(about_pod(&self.base, None), "ResizeError", text);
            progress.error = Some(message);
        }
    }

    /// The resources of the running containers, by id.
    pub(super) fn actual(&self, observed: &Observed) -> BTreeMap<String, core::ResourceRequirements> {
        let running = observed.containers.iter().filter(|run| run.alive());
        running.filter_map(|run| Some((run.id.clone(), self.memory.resize.actual(run)?.clone()))).collect()
    }
}
