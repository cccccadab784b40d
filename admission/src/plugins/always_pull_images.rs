//! `AlwaysPullImages`: every image is asked for at its registry, so that nobody runs what somebody else pulled.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::field_path::{FieldError, Path};
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct AlwaysPullImages;

pub(crate) static PLUGIN: AlwaysPullImages = AlwaysPullImages;

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    fn by_default(&self) -> bool {
        false
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, _: &dyn Lookup) -> Result<(), Refusal> {
        if concerns(request, pod) {
            pull(pod);
        }
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, pod: &Value, _: &dyn Lookup) -> Result<(), Refusal> {
        if !concerns(request, pod) {
            return Ok(());
        }
        let wrong: Vec<String> = policies(pod)
            .filter(|(_, policy)| *policy != "Always")
            .map(|(path, policy)| {
                let error = FieldError::not_supported(&path, policy, &["Always"]);
                request.forbidden(&error.to_string()).0.message
            })
            .collect();
        match wrong.as_slice() {
            [] => Ok(()),
            [one] => Err(refusal(request, one)),
            many => Err(refusal(request, &format!("[{}]", many.join(", ")))),
        }
    }
}

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn refusal(request: &Request<'_>, message: &str) -> Refusal {
    let Refusal(mut status) = request.forbidden("");
    message.clone_into(&mut status.message);
    Refusal(status)
}

/// Pods, unless an update brings no image that was not there.
fn concerns(request: &Request<'_>, pod: &Value) -> bool {
    if !request.is_open() || !request.is("pods", "") {
        return false;
    }
    let images = |pod| LISTS.iter().flat_map(move |list| value::items(pod, &format!("spec.{list}")).to_vec());
    let image = |container: Value| value::text(&container, "image").to_owned();
    let old: Vec<String> = images(request.old).map(image).collect();
    request.operation == Operation::Create || images(pod).map(image).any(|image| !old.contains(&image))
}

fn policies(pod: &Value) -> impl Iterator<Item = (Path, &str)> {
    let containers = LISTS.iter().flat_map(move |list| {
        let all = value::items(pod, &format!("spec.{list}")).iter().enumerate();
        all.map(move |(at, container)| {
            let path = Path::new("spec").child(list).index(at).child("imagePullPolicy");
            (path, value::text(container, "imagePullPolicy"))
        })
    });
    let volumes = value::items(pod, "spec.volumes").iter().enumerate().filter_map(|(at, volume)| {
        let image = volume.get("image").filter(|image| !image.is_null())?;
        let path = Path::new("spec").child("volumes").index(at).child("image").child("pullPolicy");
        Some((path, value::text(image, "pullPolicy")))
    });
    containers.chain(volumes)
}

fn pull(pod: &mut Value) {
    for list in LISTS {
        for container in value::items_mut(pod, &format!("spec.{list}")) {
            value::set(container, "imagePullPolicy", "Always");
        }
    }
    for volume in value::items_mut(pod, "spec.volumes") {
        if volume.get("image").is_some_and(|image| !image.is_null()) {
            value::set(volume, "image.pullPolicy", "Always");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn everything_is_pulled() {
        let mut pod = json!({"spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "c", "imagePullPolicy": "Never"}],
            "volumes": [{"name": "v", "image": {"reference": "r"}}, {"name": "e", "emptyDir": {}}]}});
        let before: Vec<String> = policies(&pod).map(|(path, policy)| format!("{path}={policy}")).collect();
        assert_eq!(
            before,
            [
                "spec.initContainers[0].imagePullPolicy=",
                "spec.containers[0].imagePullPolicy=Never",
                "spec.volumes[0].image.pullPolicy="
            ]
        );
        pull(&mut pod);
        assert!(policies(&pod).all(|(_, policy)| policy == "Always"));
        assert_eq!(pod["spec"]["volumes"][1], json!({"name": "e", "emptyDir": {}}));
    }
}
