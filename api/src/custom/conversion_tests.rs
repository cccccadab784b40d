//! Questions and answers of conversion webhooks, as data.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use super::*;

fn conversion(reviews: &[&str]) -> Conversion {
    Conversion::read(&json!({
        "group": "g.io",
        "versions": [{"name": "v1"}, {"name": "v2"}],
        "conversion": {"strategy": "Webhook", "webhook": {
            "clientConfig": {"url": "https://a.b/c"}, "conversionReviewVersions": reviews,
        }},
    }))
    .unwrap()
}

fn object(version: &str, name: &str) -> Value {
    json!({"apiVersion": format!("g.io/{version}"), "kind": "T", "spec": {"a": 1},
        "metadata": {"name": name, "namespace": "n", "uid": "u", "generation": 2, "labels": {"a": "b"}}})
}

fn review(version: &str, response: &Value) -> String {
    json!({"apiVersion": format!("apiextensions.k8s.io/{version}"), "kind": "ConversionReview", "response": response})
        .to_string()
}

#[test]
fn questions() {
    assert!(Conversion::read(&json!({"conversion": {"strategy": "None"}})).is_none());
    let asked = [object("v1", "a")];
    let check = |reviews: &[&str], expected: Result<&str, &str>| {
        let question = conversion(reviews).question(&asked, "g.io/v2", "1");
        let said = question.as_ref().map(|question| value::text(question, "apiVersion"));
        assert_eq!(said.map_err(String::as_str), expected, "{reviews:?}");
    };
    check(&["v1", "v1beta1"], Ok("apiextensions.k8s.io/v1"));
    check(&["v7", "v1beta1", "v1"], Ok("apiextensions.k8s.io/v1beta1"));
    check(&["v7"], Err("no supported conversion review versions"));
    let question = conversion(&["v1"]).question(&asked, "g.io/v2", "1").unwrap();
    assert_eq!(question["request"], json!({"uid": "1", "desiredAPIVersion": "g.io/v2", "objects": asked}));
    assert_eq!(
        conversion(&["v1"]).question(&[object("v3", "a")], "g.io/v2", "1").unwrap_err(),
        "request to convert CR from an invalid group/version: g.io/v3"
    );
}

#[test]
fn labels_and_annotations_are_the_webhooks() {
    let mut converted = object("v2", "a");
    converted["metadata"]["labels"] = json!({"c": "d"});
    converted["metadata"]["annotations"] = json!({"e": "f"});
    converted["metadata"]["generation"] = json!(7);
    converted["metadata"]["finalizers"] = json!(["x/y"]);
    let answer = review("v1", &json!({"uid": "1", "result": {"status": "Success"}, "convertedObjects": [converted]}));
    let got = conversion(&["v1"]).answer(&[object("v1", "a")], "g.io/v2", "1", answer.as_bytes()).unwrap();
    let mut expected = object("v2", "a");
    expected["metadata"]["labels"] = json!({"c": "d"});
    expected["metadata"]["annotations"] = json!({"e": "f"});
    assert_eq!(got, [expected]);
}

#[test]
fn answers_that_are_wrong() {
    let of = "conversion webhook for g.io/v1, Kind=T";
    let (one, two) = ([object("v1", "a")], [object("v1", "a"), object("v1", "b")]);
    let check = |reviews: &[&str], asked: &[Value], answer: &str, expected: &str| {
        let got = conversion(reviews).answer(asked, "g.io/v2", "1", answer.as_bytes());
        assert_eq!(got.unwrap_err(), format!("{of} {expected}"));
    };
    let with = |objects: &[Value]| {
        review("v1", &json!({"uid": "1", "result": {"status": "Success"}, "convertedObjects": objects}))
    };
    let changed = |path: &str, new: Value| {
        let mut object = object("v2", "a");
        value::set(&mut object, path, new);
        with(&[object])
    };
    check(&["v1"], &one, "{}", "failed: Object 'Kind' is missing in '{}'");
    check(
        &["v1"],
        &one,
        &review("v1beta1", &json!({})),
        "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got apiextensions.k8s.io/v1beta1, Kind=ConversionReview",
    );
    check(&["v1"], &one, &review("v1", &Value::Null), "failed: no response provided");
    check(&["v1"], &one, &review("v1", &json!({"uid": "2"})), r#"failed: expected response.uid="1", got "2""#);
    let status = |status: &str, message: &str| json!({"uid": "1", "result": {"status": status, "message": message}});
    check(&["v1"], &one, &review("v1", &status("Odd", "")), "failed: response.result.status was 'Odd', not 'Success'");
    check(&["v1beta1"], &one, &review("v1beta1", &status("Failure", "cannot")), "failed: cannot");
    check(&["v1"], &one, &with(&[]), "returned 0 objects, expected 1");
    check(
        &["v1"],
        &one,
        &with(&[object("v1", "a")]),
        "returned invalid object at index 0: invalid groupVersion (expected g.io/v2, received g.io/v1)",
    );
    check(
        &["v1"],
        &one,
        &changed("kind", "U".into()),
        "returned invalid object at index 0: invalid kind (expected T, received U)",
    );
    check(
        &["v1"],
        &one,
        &changed("metadata.name", "b".into()),
        "returned invalid object: must have the same name: a != b",
    );
    check(
        &["v1"],
        &one,
        &changed("metadata.uid", "v".into()),
        "returned invalid object: must have the same UID: u != v",
    );
    check(
        &["v1"],
        &one,
        &changed("metadata.labels", json!({"a": 1})),
        "returned invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object",
    );
    check(
        &["v1"],
        &two,
        &with(&[object("v2", "a"), object("v2", "c")]),
        "returned invalid converted object at index 1: must have the same name: b != c",
    );
}

#[test]
fn metadata_that_is_none() {
    let mut converted = object("v2", "");
    converted["metadata"] = json!({"labels": {"a b": "c"}});
    assert!(restore(&object("v1", "a"), &mut converted.clone()).unwrap_err().starts_with("metadata.labels: "));
    converted["metadata"] = json!({"annotations": []});
    assert_eq!(
        restore(&object("v1", "a"), &mut converted.clone()).unwrap_err(),
        "invalid metadata.annotations of type []interface {} in converted object"
    );
    converted.as_object_mut().unwrap().remove("metadata");
    assert_eq!(restore(&object("v1", "a"), &mut converted).unwrap_err(), "missing metadata in converted object");
}
