//! What a request for a log may ask for: `PodLogOptions`, of which the kubelet reads the rest.
//!
//! Never reads a log.

use super::options::number;
use crate::answer::Failure;
use crate::road::received::Received;
use api::codec;
use api::field_path::{Errors, FieldError, Path};
use api::status::Status;

/// Looks at what the query asks of the log of the pod with this name. Source: upstream's `ValidatePodLogOptions`.
///
/// # Errors
/// 400 for what is no number or time, 422 for numbers and pairs that make no sense; `streams` says that one stream can be asked for.
pub(super) fn check(received: &Received, pod: &str, streams: bool) -> Result<(), Failure> {
    let given = |name: &str| received.query.get(name).filter(|text| !text.is_empty());
    let numbers = ["tailLines", "limitBytes", "sinceSeconds"].map(|name| given(name).map(number).transpose());
    let [tail, limit, since] = numbers;
    let time = given("sinceTime").filter(|text| *text != "null");
    if let Some(why) = time.and_then(|text| codec::time(text).err()) {
        return Err(Status::bad_request(why).into());
    }
    let asked = Asked { tail: tail?, limit: limit?, since: since?, time: time.is_some() };
    let errors = wrong(&asked, received.query.get("stream"), streams);
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "PodLogOptions", pod, &errors).into()) }
}

/// What is asked of a log beside its stream.
#[derive(Default)]
struct Asked {
    tail: Option<i64>,
    limit: Option<i64>,
    since: Option<i64>,
    time: bool,
}

/// What a container writes to, and all of it.
const STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

fn wrong(asked: &Asked, stream: Option<&str>, streams: bool) -> Errors {
    let Asked { tail, limit, since, time } = *asked;
    let mut errors = Errors::new();
    let mut positive = |name: &str, number: Option<i64>, least: i64, detail: &str| {
        if let Some(number) = number.filter(|number| *number < least) {
            errors.push(FieldError::invalid(&Path::new(name), number, detail));
        }
    };
    positive("tailLines", tail, 0, "must be greater than or equal to 0");
    positive("limitBytes", limit, 1, "must be greater than 0");
    if !time {
        positive("sinceSeconds", since, 1, "must be greater than 0");
    } else if since.is_some() {
        let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&Path::new("[]"), detail));
    }
    let field = Path::new("stream");
    match stream {
        Some(_) if !streams => errors.push(FieldError::forbidden(&field, "may not be specified")),
        Some(stream) => {
            if !STREAMS.contains(&stream) {
                errors.push(FieldError::not_supported(&field, stream, &STREAMS));
            }
            if stream != "All" && tail.is_some() {
                let detail = "`tailLines` and specific `stream` are mutually exclusive for now";
                errors.push(FieldError::forbidden(&Path::new("[]"), detail));
            }
        }
        None => {}
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_makes_sense() {
        let check = |asked: Asked, stream: Option<&str>, streams: bool, sentences: &[&str]| {
            let found: Vec<String> = wrong(&asked, stream, streams).iter().map(ToString::to_string).collect();
            assert_eq!(found, sentences);
        };
        let first =
            |tail, limit, since| Asked { tail: Some(tail), limit: Some(limit), since: Some(since), time: false };
        check(first(0, 1, 1), None, false, &[]);
        check(Asked { time: true, ..Asked::default() }, None, true, &[]);
        check(
            first(-1, 0, 0),
            None,
            false,
            &[
                "tailLines: Invalid value: -1: must be greater than or equal to 0",
                "limitBytes: Invalid value: 0: must be greater than 0",
                "sinceSeconds: Invalid value: 0: must be greater than 0",
            ],
        );
        check(
            Asked { since: Some(0), time: true, ..Asked::default() },
            None,
            false,
            &["[]: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"],
        );
        check(Asked::default(), Some("All"), false, &["stream: Forbidden: may not be specified"]);
        check(first(0, 1, 1), Some("All"), true, &[]);
        check(
            first(0, 1, 1),
            Some("x"),
            true,
            &[
                "stream: Unsupported value: \"x\": supported values: \"All\", \"Stderr\", \"Stdout\"",
                "[]: Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
            ],
        );
    }
}
