//! `/containerLogs/{namespace}/{pod}/{container}`: the log of the present or the previous run.

use std::path::PathBuf;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::{Body, Server, first, query, text};
use crate::logs::{self, Options};
use crate::model;

/// Options from query parameters.
fn options(query: &[(String, String)], now: Timestamp) -> Result<(Options, bool), String> {
    let flag = |name: &str| first(query, &[name]).is_some_and(|value| matches!(value, "true" | "1" | ""));
    let number = |name: &str| -> Result<Option<i64>, String> {
        let Some(text) = first(query, &[name]).filter(|text| !text.is_empty() && *text != "all") else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| format!("invalid {name}: {text:?} is not a number"))
    };
    let count = |name: &str, least: i64| -> Result<Option<u64>, String> {
        match number(name)? {
            Some(value) if value < least => Err(format!("{name} must be greater than or equal to {least}")),
            Some(value) => Ok(u64::try_from(value).ok()),
            None => Ok(None),
        }
    };
    let since_time = match first(query, &["sinceTime"]).filter(|text| !text.is_empty()) {
        Some(text) => Some(text.parse::<Timestamp>().map_err(|_| format!("invalid sinceTime: {text:?}"))?),
        None => None,
    };
    let since_seconds = match number("sinceSeconds")? {
        Some(seconds) if seconds < 1 => return Err("sinceSeconds must be greater than 0".to_owned()),
        Some(seconds) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
        None => None,
    };
    let stream = match first(query, &["stream"]) {
        Some("Stdout") => Some("stdout".to_owned()),
        Some("Stderr") => Some("stderr".to_owned()),
        _ => None,
    };
    let options = Options {
        follow: flag("follow"),
        tail: count("tailLines", 0)?,
        since: since_time.or(since_seconds),
        timestamps: flag("timestamps"),
        limit: count("limitBytes", 1)?,
        stream,
    };
    Ok((options, flag("previous")))
}

/// Id and log of the run that is asked for, or the sentence that refuses.
fn choose(pod: &core::Pod, container: &str, previous: bool) -> Result<String, String> {
    let name = model::name(pod);
    let status = model::api_status(pod, container);
    let waiting = status.and_then(|status| status.state.as_ref()?.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let missing = || {
        if matches!(reason, "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull") {
            format!(
                "container {container:?} in pod {name:?} is waiting to start: {}",
                match reason {
                    "ErrImagePull" => "image can't be pulled",
                    "ErrImageNeverPull" => "image is not present with pull policy of Never",
                    _ => "trying and failing to pull image",
                }
            )
        } else if waiting.is_some() {
            format!("container {container:?} in pod {name:?} is waiting to start: {reason}")
        } else {
            format!("container {container:?} in pod {name:?} is not available")
        }
    };
    let status = status.ok_or_else(missing)?;
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()?.container_id.as_deref());
    let id = if previous {
        last.ok_or_else(|| format!("previous terminated container {container:?} in pod {name:?} not found"))?
    } else if let Some(state) = status.state.as_ref().filter(|state| state.waiting.is_none()) {
        let ended = state.terminated.as_ref().and_then(|ended| ended.container_id.as_deref());
        ended.or(status.container_id.as_deref()).ok_or_else(missing)?
    } else {
        last.ok_or_else(missing)?
    };
    Ok(id.split_once("://").map_or(id, |(_, id)| id).to_owned())
}

pub(crate) async fn serve(
    server: &Server,
    request: &Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Response<Body> {
    let (options, previous) = match options(&query(request), Timestamp::now()) {
        Ok(options) => options,
        Err(error) => return text(StatusCode::BAD_REQUEST, error),
    };
    let Some(found) = server.pods.find(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod {pod:?} does not exist\n"));
    };
    if model::find_container(&found, container).is_none() {
        let message = format!("container {container:?} not found in pod {pod:?}\n");
        return text(StatusCode::NOT_FOUND, message);
    }
    // The runtime may be ahead of the status that the API server holds.
    let newest = server.node.cri.observe(model::uid(&found)).await.ok();
    let run = newest.as_ref().and_then(|observed| observed.latest(container)).filter(|_| !previous);
    let id = match run.map(|run| Ok(run.id.clone())).unwrap_or_else(|| choose(&found, container, previous)) {
        Ok(id) => id,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let status = match server.node.cri.container_status(&id).await {
        Ok(status) => status,
        Err(error) => {
            return text(
                StatusCode::BAD_REQUEST,
                format!("unable to retrieve container logs for containerd://{id}: {error}"),
            );
        }
    };
    let path = PathBuf::from(&status.log_path);
    let (sender, receiver) = mpsc::channel::<Bytes>(16);
    let cri = server.node.cri.clone();
    tokio::spawn(async move {
        let running = || async {
            cri.container_status(&id)
                .await
                .is_ok_and(|status| status.state == crate::cri::v1::ContainerState::ContainerRunning as i32)
        };
        if let Err(error) = logs::read(path, options, sender, running).await {
            tracing::debug!(%error, "log not read");
        }
    });
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok(Frame::data(bytes)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn query_parameters() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let (found, previous) = options(
            &pairs(&[("follow", "true"), ("tailLines", "5"), ("sinceSeconds", "60"), ("previous", "true")]),
            now,
        )
        .unwrap();
        let expected = Options {
            follow: true,
            tail: Some(5),
            since: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            ..Options::default()
        };
        assert_eq!((found, previous), (expected, true));
        for bad in
            [("tailLines", "-1"), ("tailLines", "x"), ("limitBytes", "0"), ("sinceTime", "noon"), ("sinceSeconds", "0")]
        {
            assert!(options(&pairs(&[bad]), now).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_run_that_is_asked_for() {
        let pod = |state: serde_json::Value, last: serde_json::Value| -> core::Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]},
                "status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "containerID": "containerd://now", "state": state, "lastState": last}]}}))
            .unwrap()
        };
        let ended = json!({"terminated": {"exitCode": 1, "containerID": "containerd://before"}});
        let running = json!({"running": {}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let cases = [
            (running.clone(), json!({}), false, Ok("now")),
            (running.clone(), ended.clone(), true, Ok("before")),
            (running, json!({}), true, Err(())),
            (waiting.clone(), ended, false, Ok("before")),
            (waiting, json!({}), false, Err(())),
        ];
        for (state, last, previous, expected) in cases {
            let found = choose(&pod(state.clone(), last), "c", previous);
            assert_eq!(found.as_deref().map_err(|_| ()), expected, "{state} {previous}");
        }
    }
}
