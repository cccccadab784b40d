//! How much work a request is, guessed before it is done: seats by the size of what is listed, and by how many watch what is written.
//!
//! Pure. Source: KEP-1040, "Request Width"; numbers are upstream's (`apiserver/pkg/util/flowcontrol/request`).

use super::dispatcher::Work;
use crate::road::received::{Query, RequestInfo};

/// Bytes of a list that take one seat.
const BYTES: u64 = 100_000;
/// A list out of the cache holds no more than this at once.
const MOST_BYTES: u64 = 1_000_000;
/// Most seats of a list, and of a write.
const WIDEST: (u32, u32) = (100, 10);
/// Watches that share one seat, and for how many nanoseconds after each event.
const WATCHES: u32 = 10;
const EVENT: u64 = 5_000_000;

/// All objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

/// The guess. `widest` is the bound of the level, 0 without one; `size` says how large the kind of the request is, `None` for one that nobody
/// keeps here, and `watches` how many watches a write wakes. Only what the request needs is asked for.
pub(super) fn guess(
    info: &RequestInfo,
    query: &Query,
    widest: u32,
    size: impl FnOnce() -> Option<Size>,
    watches: impl FnOnce() -> u32,
) -> Work {
    let bound = |most: u32| if widest == 0 { most } else { widest.min(most) };
    match info.verb.as_str() {
        "list" | "watch" => {
            let bound = bound(WIDEST.0);
            let seats = listed(info, query, size).unwrap_or(bound).clamp(1, bound);
            Work { seats, ..Work::ONE }
        }
        "create" | "update" | "patch" | "delete" => written(info, bound(WIDEST.1), watches),
        _ => Work::ONE,
    }
}

/// `None` for parameters that will be refused: nobody knows what they mean.
fn listed(info: &RequestInfo, query: &Query, size: impl FnOnce() -> Option<Size>) -> Option<u32> {
    let number = |name: &str| match query.get(name).filter(|text| !text.is_empty()) {
        None => Some(0),
        Some(text) => text.parse::<i64>().ok(),
    };
    let limit = number("limit")?;
    number("timeoutSeconds")?;
    // A watch that goes on from a version begins with nothing.
    if info.verb == "watch" {
        let fresh = query.get("resourceVersion").is_none_or(|version| matches!(version, "" | "0"));
        if !fresh && !query.flag("sendInitialEvents") {
            return Some(1);
        }
    }
    // Somebody else's work.
    let Some(size) = size() else { return Some(1) };
    let average = size.bytes.checked_div(size.objects).unwrap_or_default();
    let objects = match u64::try_from(limit) {
        _ if !info.name.is_empty() => 1,
        Ok(limit) if limit > 0 => limit.min(size.objects),
        _ => size.objects,
    };
    let bytes = objects.saturating_mul(average).min(MOST_BYTES);
    u32::try_from(bytes.div_ceil(BYTES)).ok()
}

/// Each of those who watch takes a part of a seat for a moment after the answer. More seats than `bound` become fewer for longer: a wide request
/// waits until all its seats are free at once.
fn written(info: &RequestInfo, bound: u32, watches: impl FnOnce() -> u32) -> Work {
    // A token is written nowhere.
    if info.resource == "serviceaccounts" && info.subresource == "token" {
        return Work::ONE;
    }
    let watches = watches();
    if watches < WATCHES {
        return Work::ONE;
    }
    let seats = watches.div_ceil(WATCHES);
    let lingering = seats.min(bound);
    let linger = u64::from(seats) * EVENT / u64::from(lingering.max(1));
    Work { seats: 1, lingering, linger }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Objects and bytes of the kind, and who watches it.
    #[derive(Clone, Copy)]
    struct Known(u64, u64, u32);

    #[test]
    fn wide_is_what_is_large_or_watched() {
        let check = |request: &str, widest: u32, facts: Known, want: (u32, u32, u64)| {
            let (method, target) = request.split_once(' ').unwrap();
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let query = Query::parse(query);
            let info = RequestInfo::parse(method, path, &query);
            let Known(objects, bytes, watches) = facts;
            let size = || (info.group != "elsewhere").then_some(Size { objects, bytes });
            let work = guess(&info, &query, widest, size, || watches);
            assert_eq!((work.seats, work.lingering, work.linger / 1_000_000), want, "{request}");
        };
        let (pods, pod) = ("/api/v1/namespaces/a/pods", "/api/v1/namespaces/a/pods/b");
        let large = || Known(1000, 2_000_000, 0);
        check(&format!("GET {pod}"), 0, large(), (1, 0, 0));
        check(&format!("GET {pods}"), 0, large(), (10, 0, 0));
        check(&format!("GET {pods}"), 4, large(), (4, 0, 0));
        check(&format!("GET {pods}?limit=100"), 0, large(), (2, 0, 0));
        check(&format!("GET {pods}?limit=x"), 0, large(), (100, 0, 0));
        check(&format!("GET {pods}?fieldSelector=metadata.name%3Db"), 0, large(), (1, 0, 0));
        check(&format!("GET {pods}"), 0, Known(0, 0, 0), (1, 0, 0));
        check("GET /apis/elsewhere/v1/things", 0, large(), (1, 0, 0));
        check(&format!("GET {pods}?watch=1"), 0, large(), (10, 0, 0));
        check(&format!("GET {pods}?watch=1&resourceVersion=0"), 0, large(), (10, 0, 0));
        check(&format!("GET {pods}?watch=1&resourceVersion=7"), 0, large(), (1, 0, 0));
        check(&format!("GET {pods}?watch=1&resourceVersion=7&sendInitialEvents=true"), 0, large(), (10, 0, 0));
        let watched = |watches| Known(0, 0, watches);
        check(&format!("PUT {pod}"), 0, watched(9), (1, 0, 0));
        check(&format!("PUT {pod}"), 0, watched(10), (1, 1, 5));
        check(&format!("POST {pods}"), 0, watched(55), (1, 6, 5));
        check(&format!("DELETE {pod}"), 0, watched(1000), (1, 10, 50));
        check(&format!("PATCH {pod}"), 4, watched(1000), (1, 4, 125));
        check(&format!("DELETE {pods}"), 0, watched(1000), (1, 0, 0));
        check("POST /api/v1/namespaces/a/serviceaccounts/b/token", 0, watched(1000), (1, 0, 0));
        check("GET /version", 0, large(), (1, 0, 0));
    }
}
