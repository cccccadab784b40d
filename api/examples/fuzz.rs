//! Fuzzes the targets of `api::fuzz`, each in a process of its own: what ends a process, like a stack that overflows, is a finding too.
//!
//! `fuzz [--target NAME] [--seconds N] [--seed N] [--corpus DIR]`: each target gets so many seconds of processor time; without a target all
//! run side by side. Inputs are mutated from seeds and from those that reached new code; what code is reached is known only where the
//! compiler was told to count (`cargo xtask fuzz` does so, a plain build mutates blindly). A finding is written to a file, shown with how
//! to run it again (`--input FILE`), and fails the program.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a program that tests")]
#![allow(unsafe_code, reason = "the compiler's coverage counters are given as a range of memory")]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use api::fuzz::{TARGETS, Target};

/// Inputs do not grow beyond this.
const LONGEST: usize = 1 << 16;
/// An input that takes longer is a finding, even where all targets run at once and without optimisation.
const SLOWEST: Duration = Duration::from_secs(10);

mod counters {
    //! Where the compiler counts which code is reached; one process runs one target on one thread.
    use std::sync::Mutex;

    /// Address and length of each range of counters.
    static RANGES: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

    /// Called before `main` by every instrumented module.
    #[unsafe(no_mangle)]
    extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
        let length = (stop as usize).saturating_sub(start as usize);
        let mut ranges = RANGES.lock().unwrap();
        if !ranges.contains(&(start as usize, length)) {
            ranges.push((start as usize, length));
        }
    }

    /// Calls `visit` with the position and count of every counter that moved, and sets all to zero.
    pub(super) fn take(mut visit: impl FnMut(usize, u8)) {
        let mut position = 0;
        for (start, length) in RANGES.lock().unwrap().iter() {
            // SAFETY: the compiler gave this range, it lives as long as the process, and nothing else runs now.
            let counters = unsafe { std::slice::from_raw_parts_mut(*start as *mut u8, *length) };
            // Nearly all are zero: eight at a time.
            for word in counters.chunks_mut(8) {
                if word.iter().fold(0, |any, counter| any | counter) != 0 {
                    for (index, counter) in word.iter_mut().enumerate().filter(|(_, counter)| **counter != 0) {
                        visit(position + index, std::mem::take(counter));
                    }
                }
                position += word.len();
            }
        }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() >> 16) as usize % bound }
    }
}

/// Pieces of the formats that mutation would hardly make by itself.
const WORDS: &[&str] = &[
    "null",
    "true",
    "false",
    "\"\"",
    "{}",
    "[]",
    "-1",
    "0",
    "1e999",
    "9223372036854775808",
    "-9223372036854775808",
    "2147483648",
    "\\u0000",
    "\\ud800",
    "\u{fffd}",
    "$patch",
    "$retainKeys",
    "$setElementOrder/",
    "$deleteFromPrimitiveList/",
    "replace",
    "delete",
    "merge",
    "~0",
    "~1",
    "/-",
    "/",
    "\"",
    ",",
    ":",
    "{",
    "}",
    "[",
    "]",
    "metadata",
    "spec",
    "containers",
    "name",
    "&a ",
    "*a",
    "<<: ",
    "!!int ",
    "- ",
    "? ",
    "|\n ",
    "%",
    "\n",
    "\t",
    "in (",
    ")",
    "notin",
    "!=",
    "==",
    "=",
    ">",
    "Ki",
    "Ei",
    "m",
    "e9",
    "0.000000001",
    "-----BEGIN ",
    "*/0",
    "@every ",
    "2024-02-30T00:00:00Z",
    "25%",
];

fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut out = corpus[random.below(corpus.len())].clone();
    for _ in 0..1 + random.below(6) {
        let at = random.below(out.len() + 1);
        let most = if random.below(8) == 0 { out.len().max(1) } else { 16 };
        let count = 1 + random.below(most);
        let end = (at + count).min(out.len());
        match random.below(8) {
            0 if at < out.len() => out[at] ^= 1 << random.below(8),
            1 if at < out.len() => out[at] = random.next() as u8,
            2 => drop(out.drain(at..end)),
            3 => {
                let piece = out[at..end].to_vec();
                let to = random.below(out.len() + 1);
                out.splice(to..to, piece);
            }
            4 => {
                let word = WORDS[random.below(WORDS.len())].bytes();
                out.splice(at..at, word);
            }
            5 => {
                let word = WORDS[random.below(WORDS.len())].bytes();
                out.splice(at..end, word);
            }
            6 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let to = (from + count).min(other.len());
                out.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                let bytes: Vec<u8> = (0..count.min(8)).map(|_| random.next() as u8).collect();
                out.splice(at..at, bytes);
            }
        }
    }
    out.truncate(LONGEST);
    out
}

struct Arguments {
    target: Option<String>,
    seconds: u64,
    seed: u64,
    corpus: Option<PathBuf>,
    input: Option<PathBuf>,
}

fn arguments() -> Option<Arguments> {
    let clock = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let mut out = Arguments { target: None, seconds: 10, seed: clock.as_secs(), corpus: None, input: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--target" => out.target = Some(value),
            "--seconds" => out.seconds = value.parse().ok()?,
            "--seed" => out.seed = value.parse().ok()?,
            "--corpus" => out.corpus = Some(value.into()),
            "--input" => out.input = Some(value.into()),
            _ => return None,
        }
    }
    Some(out)
}

/// One target in this process.
fn run(target: &Target, arguments: &Arguments) {
    if let Some(input) = &arguments.input {
        (target.run)(&fs::read(input).unwrap());
        return;
    }
    let mut corpus: Vec<Vec<u8>> = target.seeds.iter().map(|seed| seed.to_vec()).collect();
    let folder = arguments.corpus.as_ref().map(|corpus| corpus.join(target.name));
    if let Some(folder) = &folder {
        fs::create_dir_all(folder).unwrap();
        corpus.extend(fs::read_dir(folder).unwrap().filter_map(|entry| fs::read(entry.unwrap().path()).ok()));
    }
    // Written before every run, so that it is there when the process is not.
    let now = fs::File::create(now(target)).unwrap();
    let mut random = Random(arguments.seed.wrapping_mul(2).wrapping_add(1));
    let mut seen = Vec::new();
    let (begun, mut runs, mut first) = (busy(), 0_u64, corpus.clone());
    // Some inputs take less than asking for the time.
    while runs % 64 != 0 || busy().saturating_sub(begun) < Duration::from_secs(arguments.seconds) {
        let fresh = first.pop();
        let input = fresh.clone().unwrap_or_else(|| mutate(&mut random, &corpus));
        now.write_all_at(&[&(input.len() as u64).to_le_bytes()[..], &input].concat(), 0).unwrap();
        let run = || {
            let started = Instant::now();
            (target.run)(&input);
            started.elapsed()
        };
        // Once more, if need be: the process may have been stopped meanwhile.
        let least = Some(run()).filter(|time| *time < SLOWEST).unwrap_or_else(run);
        assert!(least < SLOWEST, "{least:?} for {} bytes", input.len());
        runs += 1;
        let mut new = false;
        counters::take(|position, count| {
            if seen.len() <= position {
                seen.resize(position + 1, 0_u8);
            }
            // Counts in steps of powers of two: a loop that runs once more is nothing new.
            let bit = 1 << (u8::BITS - 1 - count.leading_zeros());
            new |= seen[position] & bit == 0;
            seen[position] |= bit;
        });
        if new && fresh.is_none() {
            if let Some(folder) = &folder {
                fs::write(folder.join(format!("{:016x}", random.next())), &input).unwrap();
            }
            corpus.push(input);
        }
    }
    let reached = seen.iter().filter(|counts| **counts != 0).count();
    println!("{}: {runs} inputs, {} kept, {reached} places reached", target.name, corpus.len());
}

/// Processor time of this thread, which is the only one that works: targets side by side share processors with each other and with others.
fn busy() -> Duration {
    let used = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(used.split(' ').next().unwrap().parse().unwrap())
}

fn now(target: &Target) -> PathBuf {
    std::env::temp_dir().join(format!("ik-fuzz-{}-{}", target.name, std::process::id()))
}

/// All targets, each in a process of its own.
fn all(arguments: &Arguments) -> bool {
    println!("{} targets for {} s of processor time each, --seed {}", TARGETS.len(), arguments.seconds, arguments.seed);
    let program = std::env::current_exe().unwrap();
    let children: Vec<_> = TARGETS
        .iter()
        .map(|target| {
            let mut command = Command::new(&program);
            command.args(["--target", target.name, "--seconds", &arguments.seconds.to_string()]);
            command.args(["--seed", &arguments.seed.to_string()]);
            if let Some(corpus) = &arguments.corpus {
                command.arg("--corpus").arg(corpus);
            }
            (target, command.spawn().unwrap())
        })
        .collect();
    let mut good = true;
    for (target, mut child) in children {
        let id = child.id();
        let status = child.wait().unwrap();
        let now = std::env::temp_dir().join(format!("ik-fuzz-{}-{id}", target.name));
        if !status.success() {
            good = false;
            let found = found(&now).unwrap_or_default();
            let file = std::env::temp_dir().join(format!("ik-fuzz-found-{}", target.name));
            fs::write(&file, &found).unwrap();
            println!("{} ended with {status}; again: --target {} --input {}", target.name, target.name, file.display());
            println!("{}", String::from_utf8_lossy(&found[..found.len().min(2000)]));
        }
        let _ = fs::remove_file(now);
    }
    good
}

/// The input of the last run.
fn found(now: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(now).ok()?;
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?).map(<[u8]>::to_vec)
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        println!("usage: fuzz [--target NAME] [--seconds N] [--seed N] [--corpus DIR] [--input FILE]");
        return ExitCode::from(2);
    };
    match &arguments.target {
        None => return if all(&arguments) { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        Some(name) => match TARGETS.iter().find(|target| target.name == name) {
            Some(target) => run(target, &arguments),
            None => {
                println!(
                    "no target {name}; there are {:?}",
                    TARGETS.iter().map(|target| target.name).collect::<Vec<_>>()
                );
                return ExitCode::from(2);
            }
        },
    }
    ExitCode::SUCCESS
}
