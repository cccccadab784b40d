//! Where the process spends its processor time: the kernel counts it, and at each tick the thread that runs notes its own stack.
//!
//! In the signal's handler nothing is allocated, nothing is locked and nobody is waited for: what finds no room is lost and counted. Nothing of
//! it exists while nobody asks.

use nix::errno::Errno;
use nix::libc;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Ticks in a second of processor time, as Go has it.
pub(super) const RATE: u32 = 100;
/// Callers that are noted.
const DEPTH: usize = 96;
/// Frames of the handler itself above the interrupted one.
const OWN: usize = 2;
/// Samples that wait to be taken: those of a tenth of a second of a hundred processors.
const ROOM: usize = 1024;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const FULL: u32 = 2;

/// A sample on its way from the handler to who asked.
struct Slot {
    state: AtomicU32,
    thread: AtomicI32,
    depth: AtomicUsize,
    stack: [AtomicUsize; DEPTH],
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            state: AtomicU32::new(FREE),
            thread: AtomicI32::new(0),
            depth: AtomicUsize::new(0),
            stack: [const { AtomicUsize::new(0) }; DEPTH],
        }
    }
}

// Pages of zeros until somebody asks.
static SLOTS: [Slot; ROOM] = [const { Slot::new() }; ROOM];
static NEXT: AtomicUsize = AtomicUsize::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);
static RUNS: AtomicBool = AtomicBool::new(false);

/// Puts a stack, the innermost address first, where it will be taken from.
fn note(thread: i32, stack: impl Iterator<Item = usize>) {
    let at = NEXT.fetch_add(1, Ordering::Relaxed) % ROOM;
    let Some(slot) = SLOTS.get(at) else { return };
    if slot.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_err() {
        LOST.fetch_add(1, Ordering::Relaxed);
        return;
    }
    slot.thread.store(thread, Ordering::Relaxed);
    let mut depth = 0;
    for (place, address) in slot.stack.iter().zip(stack) {
        place.store(address, Ordering::Relaxed);
        depth += 1;
    }
    slot.depth.store(depth, Ordering::Relaxed);
    slot.state.store(FULL, Ordering::Release);
}

/// Why there are no samples.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Somebody else samples.
    #[error("cpu profiling already in use")]
    Busy,
    /// The kernel refuses.
    #[error("{0}")]
    Kernel(Errno),
}

/// Samples for as long as it lives. There is one at most.
#[derive(Debug)]
pub(super) struct Sampler(());

impl Sampler {
    /// Begins.
    ///
    /// # Errors
    /// See `Refusal`.
    pub(super) fn start() -> Result<Sampler, Refusal> {
        if RUNS.swap(true, Ordering::AcqRel) {
            return Err(Refusal::Busy);
        }
        // From here on the end of the sampler makes all of it undone.
        let sampler = Sampler(());
        // What a handler of the sampler before noted late.
        sampler.take(|_, _| {});
        LOST.store(0, Ordering::Relaxed);
        kernel::handle(true).and_then(|()| kernel::every(1_000_000 / RATE)).map_err(Refusal::Kernel)?;
        Ok(sampler)
    }

    /// Gives the samples since the last time, each with its thread and the innermost address first.
    pub(super) fn take(&self, mut give: impl FnMut(i32, &[usize])) {
        let mut stack = Vec::with_capacity(DEPTH);
        for slot in SLOTS.iter().filter(|slot| slot.state.load(Ordering::Acquire) == FULL) {
            stack.clear();
            let depth = slot.depth.load(Ordering::Relaxed);
            stack.extend(slot.stack.iter().take(depth).map(|place| place.load(Ordering::Relaxed)));
            let thread = slot.thread.load(Ordering::Relaxed);
            slot.state.store(FREE, Ordering::Release);
            give(thread, &stack);
        }
    }

    /// Samples that found no room.
    pub(super) fn lost(&self) -> u64 {
        LOST.load(Ordering::Relaxed)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // A signal that is under way finds somebody who ignores it; by itself it would end the process.
        if let Err(error) = kernel::every(0).and_then(|()| kernel::handle(false)) {
            tracing::error!(%error, "the sampling of stacks does not end");
        }
        RUNS.store(false, Ordering::Release);
    }
}

#[allow(unsafe_code, reason = "the kernel tells of processor time by a signal")]
mod kernel {
    use super::{DEPTH, Errno, OWN, c_int, c_void, libc, note};
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    /// Has ticks handled, or ignored.
    pub(super) fn handle(noted: bool) -> Result<(), Errno> {
        let handler = if noted { SigHandler::SigAction(tick) } else { SigHandler::SigIgn };
        if noted {
            // The first call loads the unwinder, which a handler must not.
            let mut one = [std::ptr::null_mut(); 1];
            // SAFETY: the array has room for the one address that is asked for.
            unsafe { libc::backtrace(one.as_mut_ptr(), 1) };
        }
        let action = SigAction::new(handler, SaFlags::SA_RESTART | SaFlags::SA_SIGINFO, SigSet::empty());
        // SAFETY: `tick` does only what a handler may, and nobody else in the process asks for SIGPROF.
        unsafe { sigaction(Signal::SIGPROF, &action) }.map(drop)
    }

    /// A tick after so many microseconds of the process's processor time; zero for none.
    pub(super) fn every(micros: u32) -> Result<(), Errno> {
        let time = libc::timeval { tv_sec: 0, tv_usec: libc::suseconds_t::from(micros) };
        let wanted = libc::itimerval { it_interval: time, it_value: time };
        // SAFETY: the kernel reads the one structure and writes nothing.
        Errno::result(unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const wanted, std::ptr::null_mut()) }).map(drop)
    }

    /// Runs on the thread whose time was counted, wherever it is.
    extern "C" fn tick(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
        let errno = Errno::last_raw();
        let mut stack = [std::ptr::null_mut::<c_void>(); DEPTH + OWN];
        let room = c_int::try_from(stack.len()).unwrap_or(0);
        // SAFETY: the array has room for as many addresses as are asked for. The C library's unwinder neither allocates nor waits for a lock
        // that the interrupted code could hold, once it is loaded.
        let depth = usize::try_from(unsafe { libc::backtrace(stack.as_mut_ptr(), room) }).unwrap_or(0);
        let seen = || stack.iter().take(depth).map(|address| address.addr());
        // SAFETY: the kernel gives this handler the state of the thread.
        let interrupted = unsafe { interrupted(context) };
        let own = seen().position(|address| address == interrupted);
        let thread = nix::unistd::gettid().as_raw();
        match own {
            Some(own) => note(thread, seen().skip(own)),
            None => note(thread, std::iter::once(interrupted).chain(seen().skip(OWN))),
        }
        Errno::set_raw(errno);
    }

    /// Where the thread was.
    #[cfg(target_arch = "x86_64")]
    unsafe fn interrupted(context: *mut c_void) -> usize {
        let index = usize::try_from(libc::REG_RIP).unwrap_or(0);
        // SAFETY: the caller's.
        let state = unsafe { &*context.cast::<libc::ucontext_t>() };
        state.uc_mcontext.gregs.get(index).and_then(|at| usize::try_from(*at).ok()).unwrap_or(0)
    }

    /// Where the thread was.
    #[cfg(target_arch = "aarch64")]
    unsafe fn interrupted(context: *mut c_void) -> usize {
        // SAFETY: the caller's.
        let state = unsafe { &*context.cast::<libc::ucontext_t>() };
        usize::try_from(state.uc_mcontext.pc).unwrap_or(0)
    }
}
