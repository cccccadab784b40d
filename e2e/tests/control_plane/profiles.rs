//! What the process tells of itself: a profile that tools can read, and nothing to whom may not know.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use e2e::{control_plane, runtime};
use http_body_util::BodyExt as _;
use prost::Message as _;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// `perftools.profiles.Profile`, as far as it is looked at.
#[derive(prost::Message)]
struct Profile {
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

#[derive(prost::Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(prost::Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
}

#[test]
fn processor_time_is_a_profile_for_whom_may_read_it() {
    let Some(cluster) = control_plane() else { return };
    let (done, http) = (AtomicBool::new(false), cluster.http());
    let packed = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                http.get("/openapi/v2");
            }
        });
        let bytes = runtime().block_on(async {
            let request =
                http::Request::get("/debug/pprof/profile?seconds=2").body(kube::client::Body::empty()).unwrap();
            let answer = cluster.client().await.send(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["content-type"], "application/octet-stream");
            answer.into_body().collect().await.unwrap().to_bytes()
        });
        done.store(true, Ordering::Relaxed);
        bytes
    });
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed.as_ref()).read_to_end(&mut bytes).unwrap();
    let profile = Profile::decode(bytes.as_slice()).unwrap();
    assert_eq!(profile.duration_nanos, 2_000_000_000);
    for name in ["samples", "count", "cpu", "nanoseconds"] {
        assert!(profile.string_table.iter().any(|text| text == name), "{name}: {:?}", profile.string_table);
    }
    let count: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
    assert!(count >= 3, "{count} samples");
    let place = |id: u64| profile.location.iter().find(|location| location.id == id).unwrap();
    for sample in &profile.sample {
        assert!(!sample.location_id.is_empty());
        assert!(sample.location_id.iter().any(|id| place(*id).mapping_id > 0), "{sample:?} is in no file");
    }

    let kubectl = cluster.kubectl();
    let heap = kubectl.ok("get --raw /debug/pprof/heap?debug=1");
    assert!(heap.contains("resident_bytes "), "{heap}");
    assert!(kubectl.ok("get --raw /debug/pprof/").contains("threadcreate"));
    kubectl.fails("get --raw /debug/pprof/goroutine", "NotFound");
    for page in ["", "profile?seconds=1", "heap", "cmdline"] {
        kubectl.fails(&format!("get --raw /debug/pprof/{page} --as=somebody"), "orbidden");
    }
}
