//! A single-threaded executor that picks the next task by chance, one step at a time, so that a seed decides the whole order.
//!
//! Never sleeps by itself: when no task is ready it waits inside the runtime it was called in, whose time it does not touch.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::future::LocalBoxFuture;
use futures::task::{ArcWake, AtomicWaker, waker};
use rand::Rng;
use rand::rngs::StdRng;

/// Steps taken before other work of the runtime gets a turn.
const AT_ONCE: usize = 64;

/// Tasks in groups. A group is what dies together: a process.
pub(super) struct Tasks {
    tasks: Vec<Task>,
    root: Arc<AtomicWaker>,
}

struct Task {
    group: usize,
    future: LocalBoxFuture<'static, ()>,
    flag: Arc<Flag>,
}

struct Flag {
    ready: AtomicBool,
    root: Arc<AtomicWaker>,
}

impl ArcWake for Flag {
    fn wake_by_ref(this: &Arc<Self>) {
        this.ready.store(true, Ordering::Release);
        this.root.wake();
    }
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self { tasks: Vec::new(), root: Arc::default() }
    }

    /// Adds a task, ready to run.
    pub(super) fn spawn(&mut self, group: usize, future: LocalBoxFuture<'static, ()>) {
        let flag = Arc::new(Flag { ready: AtomicBool::new(true), root: self.root.clone() });
        self.tasks.push(Task { group, future, flag });
    }

    /// Runs until a task of the group `leader` ends, or none is left; false when that took more than `limit` steps. Before each step
    /// `crashes` hears which group is about to run; when it answers with tasks, the group dies where it stands and these begin in its place.
    pub(super) async fn run(
        &mut self,
        leader: usize,
        rng: &mut StdRng,
        limit: usize,
        mut crashes: impl FnMut(usize, &mut StdRng) -> Option<Vec<LocalBoxFuture<'static, ()>>>,
    ) -> bool {
        let mut steps = 0;
        let mut ready = Vec::new();
        poll_fn(|cx| {
            self.root.register(cx.waker());
            for _ in 0..AT_ONCE {
                if self.tasks.is_empty() {
                    return Poll::Ready(true);
                }
                ready.clear();
                let is_ready = |(_, task): &(usize, &Task)| task.flag.ready.load(Ordering::Acquire);
                ready.extend(self.tasks.iter().enumerate().filter(is_ready).map(|(i, _)| i));
                if ready.is_empty() {
                    return Poll::Pending;
                }
                steps += 1;
                if steps > limit {
                    return Poll::Ready(false);
                }
                let next = ready[rng.random_range(0..ready.len())];
                let group = self.tasks[next].group;
                if let Some(after) = crashes(group, rng) {
                    self.tasks.retain(|task| task.group != group);
                    for future in after {
                        self.spawn(group, future);
                    }
                    continue;
                }
                let task = &mut self.tasks[next];
                task.flag.ready.store(false, Ordering::Release);
                if task.future.as_mut().poll(&mut Context::from_waker(&waker(task.flag.clone()))).is_ready() {
                    // In order, so that the seed alone decides which task an index means.
                    self.tasks.remove(next);
                    if group == leader {
                        return Poll::Ready(true);
                    }
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }
}
