//! What a request for a log may ask for: `PodLogOptions`, of which the kubelet reads the rest.
//!
//! Never reads a log.

use super::options::number;
use crate::answer::Failure;
use crate::road::received::Received;
use api::field_path::{Errors, FieldError, Path};
use api::status::Status;

/// Looks at what the query asks of the log of the pod with this name. Source: upstream's `ValidatePodLogOptions`.
///
/// # Errors
/// 400 for what is no number, 422 for numbers and pairs that make no sense.
pub(super) fn check(received: &Received, pod: &str) -> Result<(), Failure> {
    let given = |name: &str| received.query.get(name).filter(|text| !text.is_empty());
    let numbers = ["tailLines", "limitBytes", "sinceSeconds"].map(|name| given(name).map(number).transpose());
    let [tail, limit, since] = numbers;
    let errors = wrong(tail?, limit?, since?, given("sinceTime").is_some());
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "PodLogOptions", pod, &errors).into()) }
}

fn wrong(tail: Option<i64>, limit: Option<i64>, since: Option<i64>, since_time: bool) -> Errors {
    let mut errors = Errors::new();
    let mut positive = |name: &str, number: Option<i64>, least: i64, detail: &str| {
        if let Some(number) = number.filter(|number| *number < least) {
            errors.push(FieldError::invalid(&Path::new(name), number, detail));
        }
    };
    positive("tailLines", tail, 0, "must be greater than or equal to 0");
    positive("limitBytes", limit, 1, "must be greater than 0");
    if !since_time {
        positive("sinceSeconds", since, 1, "must be greater than 0");
    } else if since.is_some() {
        let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&Path::new("[]"), detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_make_sense() {
        let cases: [(_, _, _, _, &[&str]); 4] = [
            (Some(0), Some(1), Some(1), false, &[]),
            (None, None, None, true, &[]),
            (
                Some(-1),
                Some(0),
                Some(0),
                false,
                &[
                    "tailLines: Invalid value: -1: must be greater than or equal to 0",
                    "limitBytes: Invalid value: 0: must be greater than 0",
                    "sinceSeconds: Invalid value: 0: must be greater than 0",
                ],
            ),
            (
                None,
                None,
                Some(0),
                true,
                &["[]: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"],
            ),
        ];
        for (tail, limit, since, time, sentences) in cases {
            let found: Vec<String> = wrong(tail, limit, since, time).iter().map(ToString::to_string).collect();
            assert_eq!(found, sentences);
        }
    }
}
