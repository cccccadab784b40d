//! `/debug/api_priority_and_fairness/dump_*`: what levels, queues and requests are doing, as upstream's tables.
//!
//! Never changes anything but the time of what it looks at.

use super::dispatcher::{Dispatcher, Request, Response};
use super::{Fairness, Parcel};

/// Where the dumps are.
pub(crate) const ROOT: &str = "/debug/api_priority_and_fairness/";

/// Queues of one level that are shown though nothing is in them.
const SHOWN: u32 = 1 << 16;

const LEVELS: [&str; 10] = [
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const QUEUES: [&str; 9] = [
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];
// The fifth one is spelled like this there.
const REQUESTS: [&str; 10] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
const DETAILS: [&str; 8] =
    ["UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource"];

/// The table that a path below `ROOT` names. `millis` is now, since 1970.
pub(crate) fn answer(fairness: &Fairness, name: &str, details: bool, millis: u64) -> Option<String> {
    let rows = match name {
        "dump_priority_levels" => levels(fairness),
        "dump_queues" => queues(fairness),
        "dump_requests" => requests(fairness, details, millis),
        _ => return None,
    };
    Some(table(&rows))
}

type Row = Vec<String>;

fn row<const N: usize>(words: [&str; N]) -> Row {
    words.map(str::to_owned).to_vec()
}

/// Columns as wide as their widest cell; the last one as wide as it is.
fn table(rows: &[Row]) -> String {
    const NARROWEST: usize = 8;
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count() + 2);
        cells.max().unwrap_or_default().max(NARROWEST)
    };
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let mut out = String::new();
    for row in rows {
        let last = row.len().saturating_sub(1);
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column == last {
                out.push_str(cell);
            } else {
                let cell = format!("{cell},");
                out.push_str(&format!("{cell:<width$}"));
            }
        }
        out.push('\n');
    }
    out
}

fn levels(fairness: &Fairness) -> Vec<Row> {
    let mut rows = vec![row(LEVELS)];
    for (name, held) in fairness.levels.lock().iter() {
        held.level.tick();
        let state = held.level.state.lock();
        let counts = state.counts();
        let active = state.queues.values().filter(|queue| !queue.waiting.is_empty()).count();
        rows.push(vec![
            name.clone(),
            active.to_string(),
            state.is_idle().to_string(),
            held.quiescing.to_string(),
            state.waiting().to_string(),
            state.running().to_string(),
            counts.dispatched.to_string(),
            counts.refused.to_string(),
            "0".to_owned(),
            counts.cancelled.to_string(),
        ]);
    }
    rows
}

fn queues(fairness: &Fairness) -> Vec<Row> {
    let mut rows = vec![row(QUEUES)];
    for (name, held) in fairness.levels.lock().iter() {
        held.level.tick();
        let state = held.level.state.lock();
        let known = match state.response() {
            Response::Queue { dealer, .. } => dealer.deck().min(SHOWN),
            Response::Exempt | Response::Refuse => 0,
        };
        let beyond = state.queues.keys().copied().filter(|index| *index >= known);
        for index in (0..known).chain(beyond) {
            let own = state.queues.get(&index);
            let number = |of: fn(&super::dispatcher::Queue) -> usize| own.map_or(0, of).to_string();
            rows.push(vec![
                name.clone(),
                index.to_string(),
                number(|queue| queue.waiting.len()),
                number(|queue| queue.running),
                number(|queue| queue.seats as usize),
                work(own.map_or(0, |queue| queue.next)),
                number(|queue| queue.wanted.0 as usize),
                number(|queue| queue.wanted.1 as usize),
                work(own.map_or(0, |queue| queue.work)),
            ]);
        }
    }
    rows
}

fn requests(fairness: &Fairness, details: bool, millis: u64) -> Vec<Row> {
    let mut header = row(REQUESTS);
    if details {
        header.extend(row(DETAILS));
    }
    let mut rows = vec![header];
    for (name, held) in fairness.levels.lock().iter() {
        held.level.tick();
        let now = fairness.shared.now();
        let state = held.level.state.lock();
        let wall = |nanos: u64| time(millis, now.saturating_sub(nanos));
        let mut add = |(queue, place): (String, String), request: &Request<Parcel>| {
            let Parcel { schema, user, info, .. } = &request.parcel;
            let mut row = vec![
                name.clone(),
                schema.name.clone(),
                queue,
                place,
                schema.distinguisher.of(user, info).to_owned(),
                wall(request.arrived),
                request.work.seats.to_string(),
                request.work.lingering.to_string(),
                duration(request.work.linger),
                request.began.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), wall),
            ];
            if details {
                let version = match info.group.as_str() {
                    "" => info.version.clone(),
                    group => format!("{group}/{}", info.version),
                };
                row.extend([user, &info.verb, &info.path, &info.namespace, &info.name].map(String::clone));
                row.extend([version, info.resource.clone(), info.subresource.clone()]);
            }
            rows.push(row);
        };
        for (index, queue) in &state.queues {
            for (place, id) in queue.waiting.iter().enumerate() {
                if let Some(request) = state.requests.get(id) {
                    add((index.to_string(), place.to_string()), request);
                }
            }
        }
        let none = || "-1".to_owned();
        running(&state).for_each(|request| {
            add((request.queue.map_or_else(none, |queue| queue.to_string()), none()), request);
        });
    }
    rows
}

fn running(state: &Dispatcher<Parcel>) -> impl Iterator<Item = &Request<Parcel>> {
    state.requests.values().filter(|request| request.began.is_some() && !request.is_answered())
}

/// Seat-nanoseconds as seat-seconds.
fn work(nanos: i128) -> String {
    let hundredths = (nanos.max(0) / 10).unsigned_abs();
    format!("{}.{:08}ss", hundredths / 100_000_000, hundredths % 100_000_000)
}

/// As Go writes one.
fn duration(nanos: u64) -> String {
    api::meta::duration_text(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// The time so many nanoseconds before `millis`.
fn time(millis: u64, before: u64) -> String {
    let nanos = i128::from(millis) * 1_000_000 - i128::from(before);
    jiff::Timestamp::from_nanosecond(nanos).map_or_else(|_| String::new(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_as_upstreams_are() {
        let rows = [row(["PriorityLevelName", "Index", "Last"]), row(["catch-all", "0", "123456789"])];
        assert_eq!(table(&rows), "PriorityLevelName, Index,  Last\ncatch-all,         0,      123456789\n");
        assert_eq!(
            (work(0), work(12_345_678_909), work(30)),
            ("0.00000000ss".into(), "12.34567890ss".into(), "0.00000003ss".into())
        );
        assert_eq!(
            (duration(0), duration(5_000_000), duration(1_500_000_000)),
            ("0s".into(), "5ms".into(), "1.5s".into())
        );
        assert_eq!(time(1_000, 1_000), "1970-01-01T00:00:00.999999Z");
    }
}
