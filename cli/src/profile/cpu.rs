//! A profile of processor time as pprof's tools read it (`profile.proto`, gzipped): samples by stack, and the files that the addresses are in.
//!
//! Names of functions are not in it: what is shipped has none. Tools take them from a program of the same build that has.

use super::sampler::{RATE, Refusal, Sampler};
use super::wire::{self, Strings, nanos, packed, span};
use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How often samples are taken out of the way of further ones.
const EVERY: Duration = Duration::from_millis(100);
/// Nanoseconds of processor time that a sample stands for.
const PERIOD: i64 = 1_000_000_000 / RATE as i64;

/// Samples for so long, and gives the profile. Dropped before its end, it ends the sampling.
///
/// # Errors
/// See `Refusal`.
pub(super) async fn profile(time: Duration) -> Result<Vec<u8>, Refusal> {
    let sampler = Sampler::start()?;
    let (began, end) = (SystemTime::now(), Instant::now() + time);
    let mut stacks = Stacks::default();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        tokio::time::sleep(left.min(EVERY)).await;
        sampler.take(|thread, stack| stacks.add(thread, stack));
    }
    let lost = sampler.lost();
    drop(sampler);
    let written = tokio::task::spawn_blocking(move || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let profile = stacks.profile(&maps, thread_name, lost);
        packed(&wire::Profile { time_nanos: nanos(began), duration_nanos: span(time), ..profile })
    });
    Ok(written.await.unwrap_or_default())
}

/// What the kernel calls a thread of ours; empty when it is gone.
fn thread_name(thread: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// How often each stack was seen, by thread.
#[derive(Default)]
struct Stacks(HashMap<(i32, Vec<usize>), i64>);

impl Stacks {
    fn add(&mut self, thread: i32, stack: &[usize]) {
        *self.0.entry((thread, stack.to_vec())).or_default() += 1;
    }

    /// The profile, given the text of `/proc/self/maps` and the names of threads.
    fn profile(self, maps: &str, name: impl Fn(i32) -> String, lost: u64) -> wire::Profile {
        let mut strings = Strings::default();
        let mut named = |kind: &str, unit: &str| wire::ValueType { r#type: strings.id(kind), unit: strings.id(unit) };
        let sample_type = vec![named("samples", "count"), named("cpu", "nanoseconds")];
        let period_type = Some(named("cpu", "nanoseconds"));
        let mapping: Vec<wire::Mapping> = maps
            .lines()
            .filter_map(|line| mapped(line, &mut strings))
            .zip(1..)
            .map(|(it, id)| wire::Mapping { id, ..it })
            .collect();
        let mut locations: HashMap<u64, wire::Location> = HashMap::new();
        let mut sample = Vec::with_capacity(self.0.len());
        let key = strings.id("thread");
        for ((thread, stack), count) in self.0 {
            let mut location_id = Vec::with_capacity(stack.len());
            for (depth, address) in stack.into_iter().enumerate() {
                // Of a caller the address behind the call is known, and the call is meant.
                let address = (address as u64).saturating_sub(u64::from(depth > 0));
                let id = locations.len() as u64 + 1;
                let location = locations.entry(address).or_insert_with(|| {
                    let file = mapping.iter().find(|it| (it.memory_start..it.memory_limit).contains(&address));
                    wire::Location { id, mapping_id: file.map_or(0, |file| file.id), address, line: Vec::new() }
                });
                location_id.push(location.id);
            }
            let name = name(thread);
            let label = (!name.is_empty()).then(|| wire::Label { key, str: strings.id(&name) });
            sample.push(wire::Sample {
                location_id,
                value: vec![count, count * PERIOD],
                label: label.into_iter().collect(),
            });
        }
        let mut location: Vec<wire::Location> = locations.into_values().collect();
        location.sort_by_key(|location| location.id);
        let comment = (lost > 0).then(|| strings.id(&format!("{lost} samples were lost"))).into_iter().collect();
        let string_table = strings.table();
        wire::Profile {
            sample_type,
            sample,
            mapping,
            location,
            string_table,
            period_type,
            period: PERIOD,
            comment,
            ..wire::Profile::default()
        }
    }
}

/// A line of `/proc/self/maps` about code in a file.
fn mapped(line: &str, strings: &mut Strings) -> Option<wire::Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (start, limit) = words.next()?.split_once('-')?;
    let code = words.next()?.contains('x');
    let offset = words.next()?;
    // The path may have spaces.
    let path = line.find('/').and_then(|at| line.get(at..)).or_else(|| line.rsplit(' ').next()).unwrap_or_default();
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    code.then_some(wire::Mapping {
        id: 0,
        memory_start: number(start)?,
        memory_limit: number(limit)?,
        file_offset: number(offset)?,
        filename: strings.id(path),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use prost::Message as _;
    use std::hint::black_box;
    use std::io::Read as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const MAPS: &str = "1000-2000 r--p 00000000 08:01 1   /usr/bin/ironkeel\n\
                        2000-3000 r-xp 00001000 08:01 1   /usr/bin/iron keel\n\
                        7000-8000 r-xp 00000000 00:00 0   [vdso]\n";

    #[test]
    fn stacks_become_samples_with_the_files_of_their_addresses() {
        let mut stacks = Stacks::default();
        for _ in 0..3 {
            stacks.add(7, &[0x2010, 0x7021, 0x9000]);
        }
        let profile = stacks.profile(MAPS, |thread| format!("worker-{thread}"), 2);
        let text = |id: i64| profile.string_table[usize::try_from(id).unwrap()].as_str();
        assert_eq!(text(0), "");
        let kinds: Vec<(&str, &str)> =
            profile.sample_type.iter().map(|kind| (text(kind.r#type), text(kind.unit))).collect();
        assert_eq!(kinds, [("samples", "count"), ("cpu", "nanoseconds")]);
        let sample = &profile.sample[0];
        assert_eq!(sample.value, [3, 30_000_000]);
        assert_eq!((text(sample.label[0].key), text(sample.label[0].str)), ("thread", "worker-7"));
        let places: Vec<(u64, &str)> = sample
            .location_id
            .iter()
            .map(|id| {
                let location = profile.location.iter().find(|it| it.id == *id).unwrap();
                let file = profile.mapping.iter().find(|it| it.id == location.mapping_id);
                (location.address, file.map_or("", |file| text(file.filename)))
            })
            .collect();
        assert_eq!(places, [(0x2010, "/usr/bin/iron keel"), (0x7020, "[vdso]"), (0x8fff, "")]);
        assert_eq!(profile.mapping[0].file_offset, 0x1000);
        assert_eq!(text(profile.comment[0]), "2 samples were lost");
    }

    /// Processor time of this test's own thread is in its profile, one profile is taken at a time, and one that is given up makes room.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thread_that_works_is_seen() {
        let stop = Arc::new(AtomicBool::new(false));
        let worker = std::thread::Builder::new().name("hard-at-work".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut number = 1_u64;
                while !stop.load(Ordering::Relaxed) {
                    number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).rotate_left(7));
                }
            }
        });
        let given_up = tokio::time::timeout(Duration::from_millis(50), profile(Duration::from_secs(60))).await;
        assert!(given_up.is_err());
        let first = tokio::spawn(profile(Duration::from_millis(1500)));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(profile(Duration::from_secs(1)).await.unwrap_err(), Refusal::Busy);
        let packed = first.await.unwrap().unwrap();
        stop.store(true, Ordering::Relaxed);
        worker.unwrap().join().unwrap();

        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
        let profile = wire::Profile::decode(bytes.as_slice()).unwrap();
        let text = |id: i64| profile.string_table[usize::try_from(id).unwrap()].as_str();
        let own = |sample: &&wire::Sample| sample.label.iter().any(|label| text(label.str) == "hard-at-work");
        let samples: Vec<&wire::Sample> = profile.sample.iter().filter(own).collect();
        let count: i64 = samples.iter().map(|sample| sample.value[0]).sum();
        assert!(count >= 5, "{count} samples of a second's work");
        // The stack is unwound through the handler: the loop has callers, and all are in files.
        let deepest = samples.iter().max_by_key(|sample| sample.location_id.len()).unwrap();
        assert!(deepest.location_id.len() > 3, "{deepest:?}");
        let program = std::env::current_exe().unwrap();
        let found = deepest.location_id.iter().any(|id| {
            let location = profile.location.iter().find(|it| it.id == *id).unwrap();
            let file = profile.mapping.iter().find(|it| it.id == location.mapping_id);
            file.is_some_and(|file| text(file.filename) == program.to_str().unwrap())
        });
        assert!(found, "no address of {} in {deepest:?}", program.display());
    }
}
