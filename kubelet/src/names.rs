//! Labels and annotations under which pods and containers are found again in the runtime, by upstream's names.

use std::collections::HashMap;

/// Label: pod name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: pod namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: pod uid.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: container name within its pod.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation: hash of the fields whose change restarts a container.
pub const HASH: &str = "io.kubernetes.container.hash";
/// Annotation: how many containers of this name ran before, decimal.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: path of the termination message inside the container.
pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation: `File` or `FallbackToLogsOnError`.
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: the pod's termination grace period, seconds.
pub const POD_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Annotation: `resources` of the container when it was made, JSON.
pub const RESOURCES: &str = "io.kubernetes.container.resources";

/// The runtime's selector for one pod.
pub fn uid_selector(uid: &str) -> HashMap<String, String> {
    HashMap::from([(POD_UID.to_owned(), uid.to_owned())])
}
