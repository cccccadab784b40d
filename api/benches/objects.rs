//! What the objects of a request cost in processor time: `cargo bench -p api`.
//!
//! Prints one line per figure with its bound, and judges nothing: bounds hold on a quiet machine. `BENCH_ROUNDS` (9) and `BENCH_MILLIS`
//! (300 per round) set the size; for a profiler, `BENCH_ONLY` names figures by a part of their names and `BENCH_RUNS` says how often they
//! run, unmeasured. Started without `--bench` (`cargo test --benches`), it only shows that it runs.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that measures")]

mod rounds;

use std::hint::black_box;
use std::time::Instant;

use api::apply::{FieldSet, Manager, Operation, apply_resetting, update};
use api::codec::{Strictness, json, protobuf, yaml};
use api::json::Value;
use api::kind::Kind;
use api::{judgement, kinds, schema, value};
use rounds::{env, processor_time, rounds, wanted};

// The one that the server runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const POD: &str = include_str!("pod.json");
const DEPLOYMENT: &str = include_str!("deployment.json");
const TIME: &str = "2026-01-02T03:04:05Z";

/// Prints the median over rounds of the microseconds of processor time that one run takes.
fn figure(name: &str, bound: Option<f64>, mut run: impl FnMut()) {
    if !wanted(name) {
        return;
    }
    // For whoever counts instructions: so many runs and nothing else.
    let runs = env("BENCH_RUNS", 0, 0);
    if runs > 0 {
        return (0..runs).for_each(|_| run());
    }
    let (rounds, time) = rounds();
    let mut all: Vec<f64> = (0..rounds)
        .map(|_| {
            let (begun, used, mut runs) = (Instant::now(), processor_time(), 0_u32);
            while begun.elapsed() < time {
                for _ in 0..16 {
                    run();
                }
                runs += 16;
            }
            (processor_time() - used).as_secs_f64() * 1e6 / f64::from(runs)
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let at = |part: usize| all.get((all.len() - 1) * part / 4).copied().unwrap_or(f64::NAN);
    let bound = bound.map_or_else(String::new, |bound| format!(", bound {bound}"));
    println!("{name}: {:.1} us ({:.1} to {:.1}{bound})", at(2), at(0), at(4));
}

/// Constant defaults and those of the kind.
fn default(kind: &Kind, object: &mut Value) {
    schema::defaults::apply(object, kind.schema());
    kind.hooks.default(object);
}

/// What only the server sets, so that the object is a valid one.
fn fill(object: &mut Value) {
    value::set(object, "metadata.uid", "5b0c1f9e-2f5b-4c0e-9a55-0123456789ab");
    value::set(object, "metadata.creationTimestamp", TIME);
}

fn validated(kind: &Kind, object: &Value) {
    let errors = judgement::create(object, kind);
    assert!(errors.is_empty(), "{errors:?}");
}

fn who(manager: &str, operation: Operation) -> Manager<'_> {
    Manager { manager, operation, api_version: "apps/v1", time: TIME, subresource: "", versions: None }
}

/// The body of a create, from bytes to bytes.
fn pods() {
    let kind = kinds::by_gvk("", "v1", "Pod").unwrap();
    let schema = kind.schema();
    let text = POD.trim_end().as_bytes();
    let whole = |mut object: Value| {
        default(kind, &mut object);
        kind.hooks.prepare_create(&mut object);
        fill(&mut object);
        validated(kind, &object);
        object
    };
    let pod = json::decode(text, schema, Strictness::Strict).unwrap().value;
    let wire = protobuf::encode(&pod, schema).unwrap();
    println!("a pod of {} bytes of JSON, {} of protobuf", text.len(), wire.len());
    figure("pod, JSON: decode, default, validate, encode", Some(60.0), || {
        let object = json::decode(black_box(text), schema, Strictness::Warn).unwrap().value;
        black_box(json::encode(&whole(object), schema));
    });
    figure("pod, protobuf: decode, default, validate, encode", None, || {
        let object = protobuf::decode(black_box(&wire), schema, Strictness::Warn).unwrap().value;
        black_box(protobuf::encode(&whole(object), schema).unwrap());
    });
    figure("part: JSON decode", None, || {
        black_box(json::decode(black_box(text), schema, Strictness::Warn).unwrap());
    });
    figure("part: protobuf decode", None, || {
        black_box(protobuf::decode(black_box(&wire), schema, Strictness::Warn).unwrap());
    });
    let full = whole(pod.clone());
    figure("part: copy of the pod", None, || {
        black_box(black_box(&pod).clone());
    });
    figure("part: copy and default", None, || {
        let mut object = pod.clone();
        default(kind, &mut object);
        black_box(object);
    });
    figure("part: validate", None, || validated(kind, black_box(&full)));
    figure("part: JSON encode", None, || {
        black_box(json::encode(black_box(&full), schema));
    });
    figure("part: protobuf encode", None, || {
        black_box(protobuf::encode(black_box(&full), schema).unwrap());
    });
}

/// A server-side apply that changes one field, from the bytes of the configuration and of the stored object to those of the new one.
fn applies() {
    let kind = kinds::by_gvk("apps", "v1", "Deployment").unwrap();
    let schema = kind.schema();
    let mut reset = FieldSet::default();
    reset.insert_subtree(&["status"]);
    let reset = &reset;
    let applied = |live: Option<&Value>, text: &[u8]| {
        let configuration = yaml::decode_applied(text, schema, Strictness::Warn).unwrap().value;
        apply_resetting(live, &configuration, schema, &who("kubectl", Operation::Apply), false, reset).unwrap()
    };
    // The live object as a first apply of the same text and the controller's writes leave it.
    let stored_after = |text: &str| {
        let mut live = applied(None, text.as_bytes());
        default(kind, &mut live);
        kind.hooks.prepare_create(&mut live);
        fill(&mut live);
        value::set(&mut live, "metadata.generation", 1);
        // The controller writes the status and an annotation of its own.
        let mut told = live.clone();
        value::map_mut(&mut told, "metadata.annotations").insert("deployment.kubernetes.io/revision", "1".into());
        let live = update(Some(&live), told, schema, &who("controller", Operation::Update), reset).unwrap();
        let mut told = live.clone();
        value::set(&mut told, "status.replicas", 3);
        value::set(&mut told, "status.observedGeneration", 1);
        let controller = Manager { subresource: "status", ..who("controller", Operation::Update) };
        let live = update(Some(&live), told, schema, &controller, &FieldSet::default()).unwrap();
        json::encode(&live, schema)
    };
    let change = |text: &str| text.replace("web:4.2.1", "web:4.2.2");
    let block = String::from_utf8(yaml::encode(&api::json::from_str(DEPLOYMENT).unwrap(), schema)).unwrap();
    let (stored, stored_of_yaml) = (stored_after(DEPLOYMENT), stored_after(&block));
    let (as_json, as_yaml) = (change(DEPLOYMENT), change(&block));
    let whole = |stored: &[u8], text: &str| {
        let live: Value = json::stored(black_box(stored)).unwrap();
        let mut object = applied(Some(&live), black_box(text).as_bytes());
        default(kind, &mut object);
        kind.hooks.prepare_update(&mut object, &live);
        value::set(&mut object, "metadata.resourceVersion", "2");
        let errors = judgement::update(&object, &live, kind);
        assert!(errors.is_empty(), "{errors:?}");
        black_box(json::encode(&object, schema));
    };
    println!("a deployment of {} bytes of JSON, {} stored", DEPLOYMENT.trim_end().len(), stored.len());
    figure("deployment: apply of JSON, a field changed", Some(300.0), || whole(&stored, &as_json));
    figure("deployment: apply of YAML, a field changed", Some(300.0), || whole(&stored_of_yaml, &as_yaml));
    figure("deployment: apply of YAML to what was applied as JSON", None, || whole(&stored, &as_yaml));
    figure("deployment: apply of JSON, nothing changed", Some(300.0), || whole(&stored, DEPLOYMENT));
    let configuration = yaml::decode_applied(as_json.as_bytes(), schema, Strictness::Warn).unwrap().value;
    figure("part: YAML decode of JSON", None, || {
        black_box(yaml::decode_applied(black_box(as_json.as_bytes()), schema, Strictness::Warn).unwrap());
    });
    figure("part: YAML decode of YAML", None, || {
        black_box(yaml::decode_applied(black_box(as_yaml.as_bytes()), schema, Strictness::Warn).unwrap());
    });
    figure("part: the stored object read by serde_json", None, || {
        black_box(api::json::from_slice::<Value>(black_box(&stored)).unwrap());
    });
    figure("part: the stored object read as the server does", None, || {
        black_box(json::stored(black_box(&stored)).unwrap());
    });
    figure("part: the stored object read by schema", None, || {
        black_box(json::decode(black_box(&stored), schema, Strictness::Ignore).unwrap());
    });
    let live: Value = api::json::from_slice(&stored).unwrap();
    figure("part: the stored object written", None, || {
        black_box(json::encode(black_box(&live), schema));
    });
    figure("part: copy of the stored object", None, || {
        black_box(black_box(&live).clone());
    });
    figure("part: merge and ownership", None, || {
        let who = who("kubectl", Operation::Apply);
        black_box(apply_resetting(Some(black_box(&live)), &configuration, schema, &who, false, reset).unwrap());
    });
}

fn main() {
    pods();
    applies();
}
