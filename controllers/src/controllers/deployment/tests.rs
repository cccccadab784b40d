//! Plans of Deployments against a small world in which ReplicaSets come up pod by pod.

use serde_json::{Value, json};

use super::*;

const START: i64 = 1_767_225_600;

/// A Deployment, its ReplicaSets, and what was written about them.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    events: Vec<String>,
    now: i64,
    made: usize,
    /// Whether new pods become available.
    healthy: bool,
}

impl World {
    fn new(spec: &Value) -> Self {
        let mut value = json!({"metadata": {"name": "web", "namespace": "a", "uid": "d", "generation": 1},
            "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600,
                "revisionHistoryLimit": 10, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}}});
        for (name, field) in spec.as_object().unwrap() {
            value["spec"][name] = field.clone();
        }
        let deployment = serde_json::from_value(value).unwrap();
        Self { deployment, sets: Vec::new(), events: Vec::new(), now: START, made: 0, healthy: true }
    }

    fn spec(&mut self) -> &mut DeploymentSpec {
        self.deployment.metadata.generation = self.deployment.metadata.generation.map(|held| held + 1);
        self.deployment.spec.as_mut().unwrap()
    }

    fn image(&mut self, image: &str) {
        let containers = &mut self.spec().template.spec.as_mut().unwrap().containers;
        containers[0].image = Some(image.to_owned());
    }

    fn plan(&self) -> Plan {
        let running =
            self.sets.iter().map(|set| (object::uid(&set.metadata).to_owned(), usize::try_from(current(set)).unwrap()));
        let running = running.collect();
        let now = Timestamp::from_second(self.now).unwrap();
        plan(&Observed { deployment: &self.deployment, sets: &self.sets, running: &running, now })
    }

    /// Plans once and carries it out; whether anything was written.
    fn step(&mut self) -> bool {
        let plan = self.plan();
        let wrote = !plan.writes.is_empty();
        for write in plan.writes {
            match write {
                Write::Create(mut set) => {
                    self.made += 1;
                    set.metadata.uid = Some(format!("rs{}", self.made));
                    set.metadata.generation = Some(1);
                    set.metadata.creation_timestamp = Some(object::time(
                        Timestamp::from_second(self.now + i64::try_from(self.made).unwrap()).unwrap(),
                    ));
                    self.sets.push(*set);
                }
                Write::Update(set) => {
                    let slot = self.sets.iter_mut().find(|one| one.metadata.uid == set.metadata.uid).unwrap();
                    *slot = *set;
                }
                Write::Delete { uid, .. } => self.sets.retain(|set| object::uid(&set.metadata) != uid),
                Write::Status(deployment) => self.deployment = *deployment,
                Write::Event(note) => self.events.push(note.message),
            }
        }
        wrote
    }

    /// Lets each ReplicaSet start or stop one pod.
    fn pods_move(&mut self) {
        for set in &mut self.sets {
            let wanted = replicas(set);
            let is_old = set.spec.as_ref().unwrap().template.as_ref().unwrap().spec.as_ref().unwrap().containers[0]
                .image
                .as_deref()
                == Some("v1");
            let status = set.status.get_or_insert_default();
            status.replicas += (wanted - status.replicas).signum();
            let serving = if self.healthy || is_old { status.replicas } else { 0 };
            status.available_replicas = Some(serving);
            status.ready_replicas = Some(serving);
            status.terminating_replicas = Some(0);
            status.observed_generation = Some(1);
        }
    }

    fn condition(&self, type_: &str) -> (String, String) {
        let one = progress::condition(&self.deployment, type_).unwrap();
        (one.status.clone(), one.reason.clone().unwrap())
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(replicas).collect()
    }

    /// Runs to rest, holding the limits at every step.
    fn settle(&mut self, most: i32, least: i32) {
        for _ in 0..200 {
            let wrote = self.step();
            let total: i32 = self.sets.iter().map(replicas).sum();
            assert!(total <= most, "{:?} exceeds {most}", self.sizes());
            let before: Vec<_> = self.sets.iter().map(|set| set.status.clone()).collect();
            self.pods_move();
            let serving: i32 = self.sets.iter().map(available).sum();
            assert!(serving >= least, "{serving} of {:?} serve, {least} must", self.sizes());
            let moved = before != self.sets.iter().map(|set| set.status.clone()).collect::<Vec<_>>();
            self.now += 1;
            if !wrote && !moved {
                return;
            }
        }
        panic!("no rest: {:?} {:?}", self.sizes(), self.deployment.status);
    }
}

#[test]
fn a_rollout_keeps_its_limits_and_comes_to_rest() {
    for (replicas, surge, unavailable) in [
        (4, json!(1), json!(1)),
        (4, json!(1), json!(0)),
        (4, json!(0), json!(1)),
        (10, json!("25%"), json!("25%")),
        (1, json!("25%"), json!("25%")),
        (3, json!("100%"), json!(0)),
        (5, json!(0), json!("100%")),
        (7, json!(0), json!(0)),
    ] {
        let strategy =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let mut world = World::new(&json!({"replicas": replicas, "strategy": strategy}));
        let (surge, unavailable) = bounds(world.deployment.spec.as_ref().unwrap());
        world.settle(replicas, 0);
        assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
        assert_eq!(world.condition("Available"), ("True".into(), "MinimumReplicasAvailable".into()));
        world.image("v2");
        world.settle(replicas + surge, replicas - unavailable);
        assert_eq!(world.sizes(), [0, replicas], "{strategy}");
        assert_eq!(object::annotation(&world.deployment.metadata, REVISION), Some("2"));
        let status = world.deployment.status.clone().unwrap();
        assert_eq!((status.updated_replicas, status.unavailable_replicas), (Some(replicas), None));
        assert_eq!(world.condition("Progressing").1, "NewReplicaSetAvailable");
    }
}

#[test]
fn an_undo_takes_the_old_set_back_under_a_new_revision() {
    let mut world = World::new(&json!({}));
    world.settle(5, 0);
    object::put(&mut world.deployment.metadata.annotations, "kubernetes.io/change-cause", "second");
    world.image("v2");
    world.settle(5, 3);
    assert_eq!(object::annotation(&world.sets[1].metadata, "kubernetes.io/change-cause"), Some("second"));
    world.image("v1");
    world.settle(5, 3);
    assert_eq!(world.sizes(), [4, 0]);
    let first = &world.sets[0].metadata;
    assert_eq!((object::annotation(first, REVISION), object::annotation(first, HISTORY)), (Some("3"), Some("1")));
    assert_eq!(object::annotation(&world.deployment.metadata, REVISION), Some("3"));
    assert_eq!(world.sets.len(), 2);
}

#[test]
fn recreate_stops_all_before_it_starts_any() {
    let mut world = World::new(&json!({"strategy": {"type": "Recreate"}}));
    world.settle(4, 0);
    world.image("v2");
    let mut together = false;
    for _ in 0..40 {
        world.step();
        let running: Vec<_> = world.sets.iter().filter(|set| current(set) > 0).collect();
        together |= running.len() > 1;
        world.pods_move();
        world.now += 1;
    }
    assert!(!together, "old and new ran at once");
    assert_eq!(world.sizes(), [0, 4]);
}

#[test]
fn a_rollout_that_stands_still_times_out_and_recovers() {
    let mut world = World::new(&json!({}));
    world.settle(4, 0);
    world.healthy = false;
    world.image("v2");
    world.settle(5, 3);
    assert_eq!(world.condition("Progressing").1, "ReplicaSetUpdated");
    let wake = i64::try_from(world.plan().wake.unwrap()).unwrap();
    assert!((500..=601).contains(&wake), "{wake}");
    world.now += wake;
    world.settle(5, 3);
    assert_eq!(world.condition("Progressing"), ("False".into(), "ProgressDeadlineExceeded".into()));
    assert_eq!(world.plan().wake, None);
    world.healthy = true;
    world.settle(5, 3);
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(&json!({}));
    world.settle(4, 0);
    world.spec().paused = Some(true);
    world.image("v2");
    world.settle(4, 3);
    assert_eq!(world.sizes(), [4]);
    assert_eq!(world.condition("Progressing"), ("Unknown".into(), "DeploymentPaused".into()));
    world.spec().replicas = Some(6);
    world.settle(6, 3);
    assert_eq!(world.sizes(), [6]);
    world.spec().paused = None;
    world.settle(7, 5);
    assert_eq!(world.sizes(), [0, 6]);
}

#[test]
fn scaling_in_the_midst_of_a_rollout_is_proportional() {
    let mut world = World::new(&json!({"replicas": 10,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}));
    world.settle(10, 0);
    world.healthy = false;
    world.image("v2");
    world.settle(13, 8);
    assert_eq!(world.sizes(), [8, 5]);
    world.spec().replicas = Some(15);
    world.step();
    assert_eq!(world.sizes(), [11, 7], "as upstream documents it");
    assert!(world.events.iter().any(|text| text.contains("from 8 to 11")), "{:?}", world.events);
}

#[test]
fn old_sets_go_beyond_the_history_limit() {
    let mut world = World::new(&json!({"revisionHistoryLimit": 2}));
    for image in ["v1", "v2", "v3", "v4", "v5"] {
        world.image(image);
        world.settle(5, 0);
    }
    let revisions: Vec<_> = world.sets.iter().map(revision_of).collect();
    assert_eq!(revisions, [3, 4, 5]);
}

#[test]
fn a_plan_at_rest_writes_nothing() {
    let mut world = World::new(&json!({}));
    world.settle(4, 0);
    assert_eq!(world.plan(), Plan::default());
    let names: Vec<_> = world.sets.iter().map(|set| object::name(&set.metadata).to_owned()).collect();
    let hash = object::label(&world.sets[0].metadata, HASH).unwrap();
    assert_eq!(names, [format!("web-{hash}")]);
    let selector = &world.sets[0].spec.as_ref().unwrap().selector;
    assert_eq!(selector.match_labels.as_ref().unwrap()[HASH], hash);
    assert_eq!(world.events[0], format!("Scaled up replica set web-{hash} from 0 to 4"));
}

#[test]
fn a_failed_creation_is_told() {
    let world = World::new(&json!({}));
    let failed = creation_failed(&world.deployment, "no room", Timestamp::from_second(START).unwrap()).unwrap();
    assert_eq!(progress::condition(&failed, "Progressing").unwrap().reason.as_deref(), Some("ReplicaSetCreateError"));
}
