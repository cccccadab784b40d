//! Whether the server of an APIService is available, and why not: upstream's conditions in upstream's words.
//!
//! Never writes them.

use super::Remote;
use crate::cache::{Cache, Entry};
use crate::server::Server;
use api::json::{Value, json};
use api::value;
use std::sync::Arc;

/// How many questions are asked at once; one good answer is enough.
const ATTEMPTS: usize = 5;

/// The condition `Available`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Verdict {
        Verdict { status: "False", reason, message }
    }

    fn good() -> Verdict {
        Verdict { status: "True", reason: "Passed", message: "all checks passed".to_owned() }
    }

    /// Of what this server serves itself.
    pub(super) fn local() -> Verdict {
        let message = "Local APIServices are always available".to_owned();
        Verdict { status: "True", reason: "Local", message }
    }

    pub(super) fn is_good(&self) -> bool {
        self.status == "True"
    }

    /// The APIService with this verdict; the time is that of the last change between available and not.
    pub(super) fn said(&self, object: &Value, now: &str) -> Value {
        let mut object = object.clone();
        let mut conditions = value::items(&object, "status.conditions").to_vec();
        let at = conditions.iter().position(|condition| value::text(condition, "type") == "Available");
        let known = at.and_then(|at| conditions.get_mut(at));
        let since = known.as_ref().filter(|known| value::text(known, "status") == self.status);
        let since = since.map_or(now, |known| value::text(known, "lastTransitionTime")).to_owned();
        let new = json!({"type": "Available", "status": self.status, "lastTransitionTime": since,
            "reason": self.reason, "message": self.message});
        match known {
            Some(known) => *known = new,
            None => conditions.push(new),
        }
        value::set(&mut object, "status.conditions", conditions);
        object
    }
}

/// The Service of an APIService and the slices of its endpoints.
pub(super) struct Surroundings {
    service: Option<Arc<Entry>>,
    slices: Vec<Arc<Entry>>,
    /// Changes when one of them does.
    pub(super) key: String,
}

impl Surroundings {
    pub(super) fn of(services: &Arc<Cache>, slices: &Arc<Cache>, remote: &Remote) -> Surroundings {
        let service = services.peek(&remote.namespace, &remote.service);
        let all = slices.snapshot();
        let own = all.objects.iter().filter(|(key, entry)| {
            *key.namespace == *remote.namespace
                && entry.labels.get("kubernetes.io/service-name").is_some_and(|name| *name == *remote.service)
        });
        let slices: Vec<Arc<Entry>> = own.map(|(_, entry)| Arc::clone(entry)).collect();
        let revisions: Vec<u64> = service.iter().chain(&slices).map(|entry| entry.revision).collect();
        Surroundings { service, slices, key: format!("{revisions:?}") }
    }
}

/// What is wrong before anybody is asked.
fn before(remote: &Remote, service: Option<&Value>, slices: &[Value]) -> Option<Verdict> {
    let place = format!("service/{} in {:?}", remote.service, remote.namespace);
    let Some(service) = service else {
        return Some(Verdict::no("ServiceNotFound", format!("{place} is not present")));
    };
    if !matches!(value::text(service, "spec.type"), "" | "ClusterIP") {
        return None;
    }
    let mut ports = value::items(service, "spec.ports").iter();
    let Some(port) = ports.find(|port| value::int(port, "port") == Some(i64::from(remote.port))) else {
        return Some(Verdict::no("ServicePortError", format!("{place} is not listening on port {}", remote.port)));
    };
    if slices.is_empty() {
        return Some(Verdict::no("EndpointsNotFound", format!("cannot find endpointslices for {place}")));
    }
    let name = value::text(port, "name");
    let ready = |endpoint: &Value| value::get(endpoint, "conditions.ready").and_then(Value::as_bool).unwrap_or(true);
    let named = |port: &Value| value::text(port, "name") == name && value::int(port, "port").is_some();
    let active = slices.iter().any(|slice| {
        value::items(slice, "endpoints").iter().any(ready) && value::items(slice, "ports").iter().any(named)
    });
    (!active).then(|| {
        let message = format!("endpointslices for {place} have no addresses with port name {name:?}");
        Verdict::no("MissingEndpoints", message)
    })
}

/// Looks at what is around the server, then asks it.
pub(super) async fn check(server: &Server, remote: &Remote, surroundings: &Surroundings) -> Verdict {
    let service = surroundings.service.as_ref().map(|entry| entry.value());
    let slices: Vec<Value> = surroundings.slices.iter().map(|entry| entry.value()).collect();
    if let Some(verdict) = before(remote, service.as_ref(), &slices) {
        return verdict;
    }
    let path = match remote.group.as_str() {
        "" => format!("/api/{}", remote.version),
        group => format!("/apis/{group}/{}", remote.version),
    };
    let attempt = || {
        let path = &path;
        Box::pin(async move {
            let (url, answer) = remote.get(server, path, "*/*").await;
            match answer {
                Ok(got) if (200..300).contains(&got.code) => Ok(()),
                Ok(got) => {
                    let why = format!("bad status from {url}: {}", got.code);
                    Err(format!("failing or missing response from {url}: {why}"))
                }
                Err(why) if url.is_empty() => Err(why),
                Err(why) => Err(format!("failing or missing response from {url}: {why}")),
            }
        })
    };
    match futures::future::select_ok((0..ATTEMPTS).map(|_| attempt())).await {
        Ok(_) => Verdict::good(),
        Err(why) => Verdict::no("FailedDiscoveryCheck", why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let object = json!({"metadata": {"name": "v1.g.io"}, "spec": {"group": "g.io", "version": "v1",
            "insecureSkipTLSVerify": true, "service": {"namespace": "n", "name": "s", "port": 443}}});
        let remote = Remote::read(&object, None).unwrap();
        let service = json!({"spec": {"type": "ClusterIP", "ports": [{"name": "a", "port": 443}]}});
        let slice = |port: &str, ready: bool| json!({"ports": [{"name": port, "port": 1}], "endpoints": [{"conditions": {"ready": ready}}]});
        let check = |service: Option<&Value>, slices: &[Value], expected: Option<(&str, &str)>| {
            let verdict = before(&remote, service, slices);
            assert_eq!(verdict.as_ref().map(|verdict| (verdict.reason, verdict.message.as_str())), expected);
        };
        check(None, &[], Some(("ServiceNotFound", r#"service/s in "n" is not present"#)));
        let other = json!({"spec": {"ports": [{"port": 80}]}});
        check(Some(&other), &[], Some(("ServicePortError", r#"service/s in "n" is not listening on port 443"#)));
        check(Some(&service), &[], Some(("EndpointsNotFound", r#"cannot find endpointslices for service/s in "n""#)));
        let missing = r#"endpointslices for service/s in "n" have no addresses with port name "a""#;
        check(Some(&service), &[slice("a", false)], Some(("MissingEndpoints", missing)));
        check(Some(&service), &[slice("b", true)], Some(("MissingEndpoints", missing)));
        check(Some(&service), &[slice("b", true), slice("a", true)], None);
        let elsewhere = json!({"spec": {"type": "ExternalName"}});
        check(Some(&elsewhere), &[], None);
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let no = |why: &str| Verdict::no("MissingEndpoints", why.to_owned());
        let first = no("a").said(&json!({}), "t1");
        let second = no("b").said(&first, "t2");
        let third = Verdict::good().said(&second, "t3");
        let time = |object: &Value| {
            value::text(&value::items(object, "status.conditions")[0], "lastTransitionTime").to_owned()
        };
        assert_eq!([time(&first), time(&second), time(&third)], ["t1", "t1", "t3"]);
        assert_eq!(value::items(&second, "status.conditions")[0]["message"], "b");
        assert_eq!(value::items(&third, "status.conditions").len(), 1);
        assert_eq!(Verdict::good().said(&third, "t4"), third);
    }
}
