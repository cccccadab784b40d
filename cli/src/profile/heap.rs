//! A profile of memory as pprof's tools read it: what is resident, by what it belongs to.
//!
//! Who allocated what is not in it: the allocator takes no samples (docs/decisions/0020). Its stacks are names of ours and no functions.

use super::wire::{self, Strings, nanos, packed};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// The profile of now.
pub(super) fn profile() -> Vec<u8> {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    packed(&wire::Profile { time_nanos: nanos(SystemTime::now()), ..of(&maps) })
}

/// Bytes by kind of memory and by what it belongs to.
fn resident(maps: &str) -> BTreeMap<(&'static str, String), i64> {
    let mut all: BTreeMap<(&'static str, String), i64> = BTreeMap::new();
    let (mut name, mut file) = (String::new(), 0);
    for line in maps.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        let bytes = |from: &str| {
            let line = line.strip_prefix(from)?.trim().strip_suffix(" kB")?;
            line.parse::<i64>().ok().map(|kibibytes| kibibytes * 1024)
        };
        if !first.ends_with(':') && first.contains('-') {
            // Behind five words stands what is mapped, which may have spaces; nothing where it is nobody's but ours.
            name = line.splitn(6, ' ').nth(5).unwrap_or_default().trim().to_owned();
            file = 0;
        } else if let Some(all_of_it) = bytes("Rss:") {
            file = all_of_it;
        } else if let Some(own) = bytes("Anonymous:") {
            let of = if name.is_empty() { "allocator and threads".to_owned() } else { name.clone() };
            *all.entry(("memory of its own", of.clone())).or_default() += own;
            *all.entry(("memory of files", of)).or_default() += file - own;
        }
    }
    all.retain(|_, bytes| *bytes > 0);
    all
}

fn of(maps: &str) -> wire::Profile {
    let mut strings = Strings::default();
    let resident_bytes = wire::ValueType { r#type: strings.id("inuse_space"), unit: strings.id("bytes") };
    let (mut function, mut location, mut places) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut place = |name: &str, strings: &mut Strings| -> u64 {
        let next = function.len() as u64 + 1;
        *places.entry(name.to_owned()).or_insert_with(|| {
            function.push(wire::Function { id: next, name: strings.id(name) });
            let line = vec![wire::Line { function_id: next }];
            location.push(wire::Location { id: next, line, ..wire::Location::default() });
            next
        })
    };
    let mut sample = Vec::new();
    for ((kind, name), bytes) in resident(maps) {
        let location_id = [name.as_str(), kind, "resident memory"].map(|name| place(name, &mut strings)).to_vec();
        sample.push(wire::Sample { location_id, value: vec![bytes], label: Vec::new() });
    }
    let comment = vec![strings.id("what is resident; who allocated it is not sampled")];
    wire::Profile {
        sample_type: vec![resident_bytes],
        period_type: Some(resident_bytes),
        period: 1,
        sample,
        location,
        function,
        comment,
        string_table: strings.table(),
        ..wire::Profile::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;

    const MAPS: &str = "55d0-55e0 r-xp 00001000 08:01 1234                       /usr/bin/iron keel\n\
                        Size:                 64 kB\nRss:                  40 kB\nAnonymous:             8 kB\n\
                        7f00-7f10 rw-p 00000000 00:00 0 \n\
                        Rss:                 100 kB\nAnonymous:           100 kB\nVmFlags: rd wr mr\n\
                        7f20-7f30 rw-p 00000000 00:00 0 \n\
                        Rss:                  28 kB\nAnonymous:            28 kB\n\
                        7ffc-7ffd rw-p 00000000 00:00 0                          [stack]\n\
                        Rss:                   0 kB\nAnonymous:             0 kB\n";

    #[test]
    fn what_is_resident_is_told_by_what_it_belongs_to() {
        let profile = of(MAPS);
        let text = |id: i64| profile.string_table[usize::try_from(id).unwrap()].as_str();
        let name = |id: &u64| {
            let location = profile.location.iter().find(|location| location.id == *id).unwrap();
            let function =
                profile.function.iter().find(|function| function.id == location.line[0].function_id).unwrap();
            text(function.name)
        };
        let shown: Vec<(Vec<&str>, i64)> = profile
            .sample
            .iter()
            .map(|sample| (sample.location_id.iter().map(name).collect(), sample.value[0]))
            .collect();
        let root = "resident memory";
        assert_eq!(
            shown,
            [
                (vec!["/usr/bin/iron keel", "memory of files", root], 32 * 1024),
                (vec!["/usr/bin/iron keel", "memory of its own", root], 8 * 1024),
                (vec!["allocator and threads", "memory of its own", root], 128 * 1024),
            ]
        );
        assert_eq!(text(profile.sample_type[0].r#type), "inuse_space");
    }

    #[test]
    fn this_process_has_some() {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let all: i64 = resident(&maps).values().sum();
        assert!(all > 1 << 20, "{all}");
        assert!(profile().starts_with(&[0x1f, 0x8b]));
    }
}
