//! Order, waits and returns, on virtual time.

use super::*;
use serde_json::{Value, from_value, json};

fn pod(uid: &str, priority: i32, with: impl Into<Value>) -> Arc<PodInfo> {
    let mut spec =
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}], "priority": priority});
    if let (Some(spec), Value::Object(with)) = (spec.as_object_mut(), with.into()) {
        spec.extend(with);
    }
    let pod = json!({"metadata": {"name": uid, "uid": uid, "namespace": "d"}, "spec": spec});
    Arc::new(PodInfo::new(Arc::new(from_value(pod).unwrap())))
}

fn take(queue: &mut Queue, at: u64) -> String {
    queue.take(Duration::from_secs(at)).map(|pod| pod.uid().to_owned()).unwrap_or_default()
}

fn plugin(name: &str) -> Vec<usize> {
    vec![PLUGINS.iter().position(|plugin| plugin.name() == name).unwrap()]
}

fn seconds(at: u64) -> Moment {
    Duration::from_secs(at)
}

#[test]
fn priority_then_age() {
    let mut queue = Queue::default();
    for (uid, priority) in [("a", 0), ("b", 5), ("c", 5), ("d", -1)] {
        queue.offer(pod(uid, priority, json!({})));
    }
    queue.offer(pod("d", 9, json!({})));
    queue.remove("c");
    assert_eq!([0; 4].map(|at| take(&mut queue, at)), ["d", "b", "a", ""]);
}

#[test]
fn failures_wait_longer_each_time() {
    let mut queue = Queue::default();
    queue.offer(pod("a", 0, json!({})));
    let mut now = 0;
    for wait in [1, 2, 4, 8, 10, 10] {
        assert_eq!(take(&mut queue, now), "a");
        queue.retry("a", seconds(now));
        assert_eq!(queue.next_wake(), Some(seconds(now + wait)));
        assert_eq!(take(&mut queue, now + wait - 1), "");
        now += wait;
    }
}

#[test]
fn refused_pods_wait_for_what_helps() {
    let node =
        |cpu: &str| from_value(json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": cpu}}})).unwrap();
    let other = pod("other", 0, json!({}));
    let check = |event: &Event<'_>, helps: bool| {
        let mut queue = Queue::default();
        queue.offer(pod("a", 0, json!({})));
        assert_eq!(take(&mut queue, 0), "a");
        queue.refuse("a", plugin("NodeResourcesFit"), seconds(0));
        assert_eq!(take(&mut queue, 100), "");
        queue.happened(event, seconds(100));
        assert_eq!(take(&mut queue, 100), if helps { "a" } else { "" }, "{event:?}");
    };
    check(&Event::NodeAdded(&node("1")), true);
    check(&Event::NodeAdded(&node("500m")), false);
    check(&Event::NodeChanged(&node("1"), &node("2")), true);
    check(&Event::NodeChanged(&node("2"), &node("2")), false);
    check(&Event::PodGone(&other.pod), true);
    check(&Event::PodBound(&other.pod), false);
}

#[test]
fn a_helped_pod_goes_ahead_only_when_nobody_else_waits() {
    let mut queue = Queue::default();
    queue.offer(pod("a", 0, json!({})));
    assert_eq!(take(&mut queue, 0), "a");
    queue.refuse("a", Vec::new(), seconds(0));
    queue.happened(&Event::NamespaceChanged, seconds(0));
    queue.offer(pod("b", 0, json!({})));
    assert_eq!(
        (take(&mut queue, 0), take(&mut queue, 0), take(&mut queue, 0)),
        ("b".to_owned(), "a".to_owned(), String::new())
    );
}

#[test]
fn refusals_grow_stale() {
    let mut queue = Queue::default();
    queue.offer(pod("a", 0, json!({})));
    take(&mut queue, 0);
    queue.refuse("a", plugin("NodeName"), seconds(0));
    assert_eq!(queue.next_wake(), Some(seconds(300)));
    assert_eq!((take(&mut queue, 299), take(&mut queue, 300)), (String::new(), "a".to_owned()));
}

#[test]
fn gates_hold_back() {
    let mut queue = Queue::default();
    queue.offer(pod("a", 0, json!({"schedulingGates": [{"name": "g"}]})));
    assert_eq!(take(&mut queue, 0), "");
    queue.happened(&Event::NamespaceChanged, seconds(1));
    assert_eq!((take(&mut queue, 400), queue.next_wake()), (String::new(), None));
    queue.offer(pod("a", 0, json!({})));
    assert_eq!(take(&mut queue, 400), "a");
}

#[test]
fn only_what_matters_wakes_a_refused_pod() {
    let mut queue = Queue::default();
    queue.offer(pod("a", 0, json!({})));
    take(&mut queue, 0);
    queue.refuse("a", plugin("NodeName"), seconds(0));
    queue.offer(pod("a", 0, json!({})));
    assert_eq!(take(&mut queue, 1), "", "nothing changed");
    queue.offer(pod("a", 0, json!({"tolerations": [{"operator": "Exists"}]})));
    assert_eq!(take(&mut queue, 1), "a");
    queue.offer(pod("a", 3, json!({})));
    assert_eq!(take(&mut queue, 1), "", "it is being bound");
}

/// Numbers for `/metrics` follow every move.
#[test]
fn who_waits_where_is_counted() {
    let mut queue = Queue::default();
    let waiting = |queue: &Queue| queue.waiting().filter(|(_, pods)| *pods > 0).collect::<Vec<_>>();
    for uid in ["a", "b", "c"] {
        queue.offer(pod(uid, 0, json!({})));
    }
    queue.offer(pod("g", 0, json!({"schedulingGates": [{"name": "x"}]})));
    assert_eq!(waiting(&queue), [("active", 3), ("gated", 1)]);
    assert_eq!((take(&mut queue, 1), take(&mut queue, 2)), ("a".to_owned(), "b".to_owned()));
    queue.refuse("a", plugin("NodeResourcesFit"), seconds(1));
    queue.retry("b", seconds(3));
    assert_eq!(waiting(&queue), [("active", 1), ("backoff", 1), ("gated", 1), ("unschedulable", 1)]);
    assert_eq!(queue.refusals().collect::<Vec<_>>(), [("NodeResourcesFit", 1)]);
    // What only changed in its status comes from nowhere.
    queue.offer(pod("c", 0, json!({})));
    let came = queue.take_incoming();
    assert_eq!(came.get(&("PodAdd", "active")), Some(&3));
    assert_eq!(came.get(&("ScheduleAttemptFailure", "unschedulable")), Some(&1));
    assert_eq!((came.values().sum::<u64>(), queue.take_incoming().len()), (6, 0));
    let tried = queue.tried("b").unwrap();
    assert_eq!((tried.tries, tried.first, tried.last), (1, seconds(2), seconds(2)));
    for uid in ["a", "b", "c", "g"] {
        queue.remove(uid);
    }
    assert_eq!((waiting(&queue), queue.refusals().map(|(_, pods)| pods).sum::<usize>()), (Vec::new(), 0));
}
