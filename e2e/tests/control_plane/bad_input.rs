//! Requests that no tool would send: each is answered with the Status that upstream gives, and harms nothing.

use e2e::{Http, control_plane};
use serde_json::{Value, json};

/// A request and the Status it must get.
struct Case {
    method: &'static str,
    /// Below `/api/v1/namespaces/bad/`, unless it begins with a slash.
    path: &'static str,
    content_type: &'static str,
    body: String,
    code: u16,
    reason: &'static str,
    message: &'static str,
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

fn case(
    (method, path): (&'static str, &'static str),
    (content_type, body): (&'static str, impl Into<String>),
    (code, reason, message): (u16, &'static str, &'static str),
) -> Case {
    Case { method, path, content_type, body: body.into(), code, reason, message }
}

fn config_map(fields: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"x"}}{fields}}}"#)
}

fn check(http: &Http, case: &Case) {
    let path =
        if case.path.starts_with('/') { case.path.to_owned() } else { format!("/api/v1/namespaces/bad/{}", case.path) };
    let shown: String = case.body.chars().take(120).collect();
    let shown = format!("{} {path} {shown}", case.method);
    let answer = http.send(case.method, &path, case.content_type, case.body.as_bytes());
    let field = |name: &str| answer.body.get(name).cloned().unwrap_or_default();
    assert_eq!(
        (answer.status, field("reason"), field("message")),
        (case.code, Value::from(case.reason), Value::from(case.message)),
        "{shown}: {}",
        answer.body
    );
    assert_eq!(
        (field("kind"), field("status"), field("code")),
        ("Status".into(), "Failure".into(), case.code.into()),
        "{shown}"
    );
}

/// Runs all and names every one that went wrong.
fn check_all(http: &Http, cases: &[Case]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(http, case)));
            outcome.err().map(|error| error.downcast::<String>().map_or_else(|_| "a panic".to_owned(), |text| *text))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} went wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
    // Whatever was said, the server stands.
    assert_eq!(http.get("/readyz").status, 200);
}

#[test]
fn bodies() {
    let Some(cluster) = control_plane() else { return };
    let (http, post) = (cluster.http(), ("POST", "configmaps"));
    http.post("/api/v1/namespaces", &json!({"metadata": {"name": "bad"}}));
    let large = config_map(&format!(r#","data":{{"k":"{}"}}"#, "x".repeat(4 << 20)));
    check_all(
        &http,
        &[
            case(
                post,
                (JSON, ""),
                (
                    400,
                    "BadRequest",
                    "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
                ),
            ),
            case(
                post,
                (JSON, r#"{"kind":"ConfigMap""#),
                (
                    400,
                    "BadRequest",
                    r#"the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({"kind":"ConfigMap")"#,
                ),
            ),
            case(
                post,
                (JSON, "{} {}"),
                (
                    400,
                    "BadRequest",
                    "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: invalid character '{' after top-level value ({} {})",
                ),
            ),
            case(
                post,
                (JSON, r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}"#),
                (
                    400,
                    "BadRequest",
                    r#"Secret in version "v1" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion"#,
                ),
            ),
            case(
                post,
                (JSON, r#"{"apiVersion":"v2","kind":"ConfigMap","metadata":{"name":"x"}}"#),
                (
                    400,
                    "BadRequest",
                    r#"ConfigMap in version "v2" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "v2" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
                ),
            ),
            case(
                post,
                (JSON, config_map(r#","data":{"k":1}"#)),
                (
                    400,
                    "BadRequest",
                    r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string"#,
                ),
            ),
            case(
                post,
                (JSON, config_map(r#","data":"k""#)),
                (
                    400,
                    "BadRequest",
                    r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string"#,
                ),
            ),
            case(
                post,
                ("text/plain", config_map("")),
                (
                    415,
                    "UnsupportedMediaType",
                    "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
                ),
            ),
            case(post, (JSON, large), (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")),
            case(
                ("POST", "configmaps?fieldValidation=Strict"),
                (JSON, config_map(r#","nothing":1"#)),
                (
                    400,
                    "BadRequest",
                    r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "nothing""#,
                ),
            ),
            case(
                ("POST", "configmaps?fieldValidation=Strict"),
                (JSON, config_map(r#","data":{"k":"1","k":"2"}"#)),
                (
                    400,
                    "BadRequest",
                    r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data.k""#,
                ),
            ),
            case(
                ("POST", "configmaps?fieldValidation=Strict"),
                (YAML, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nnothing: 1\n"),
                (
                    400,
                    "BadRequest",
                    r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "nothing""#,
                ),
            ),
            case(
                ("POST", "configmaps?fieldValidation=Perhaps"),
                (JSON, config_map("")),
                (
                    422,
                    "Invalid",
                    r#"CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Perhaps": supported values: "", "Ignore", "Strict", "Warn""#,
                ),
            ),
        ],
    );
    // Not one of them left anything.
    assert_eq!(http.get("/api/v1/namespaces/bad/configmaps/x").status, 404);
}

#[test]
fn names_and_places() {
    let Some(cluster) = control_plane() else { return };
    let http = cluster.http();
    http.post("/api/v1/namespaces", &json!({"metadata": {"name": "bad"}}));
    http.post("/api/v1/namespaces/bad/configmaps", &json!({"metadata": {"name": "there"}}));
    let post = ("POST", "configmaps");
    let named = |metadata: &str| (JSON, format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{metadata}}}"#));
    check_all(
        &http,
        &[
            case(
                post,
                named("{}"),
                (
                    422,
                    "Invalid",
                    "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
                ),
            ),
            case(
                post,
                named(r#"{"name":"A_b"}"#),
                (
                    422,
                    "Invalid",
                    "ConfigMap \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ),
            ),
            case(
                post,
                named(r#"{"name":"x","labels":{"a b":"c"}}"#),
                (
                    422,
                    "Invalid",
                    "ConfigMap \"x\" is invalid: metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                ),
            ),
            case(
                post,
                named(r#"{"name":"x","namespace":"other"}"#),
                (
                    400,
                    "BadRequest",
                    "the namespace of the provided object does not match the namespace sent on the request",
                ),
            ),
            case(post, named(r#"{"name":"there"}"#), (409, "AlreadyExists", "configmaps \"there\" already exists")),
            case(
                ("PUT", "configmaps/there"),
                named(r#"{"name":"other"}"#),
                (400, "BadRequest", "the name of the object (other) does not match the name on the URL (there)"),
            ),
            case(
                ("PUT", "configmaps/none"),
                named(r#"{"name":"none","resourceVersion":"7"}"#),
                (404, "NotFound", "configmaps \"none\" not found"),
            ),
            case(("DELETE", "configmaps/none"), (JSON, ""), (404, "NotFound", "configmaps \"none\" not found")),
            case(
                ("PATCH", "configmaps"),
                ("application/merge-patch+json", "{}"),
                (405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
            ),
            case(
                ("POST", "/api/v1/namespaces/none/configmaps"),
                named(r#"{"name":"x"}"#),
                (404, "NotFound", "namespaces \"none\" not found"),
            ),
            case(("GET", "nothings"), ("", ""), (404, "NotFound", "the server could not find the requested resource")),
            case(
                ("PATCH", "configmaps/there"),
                ("application/merge-patch+json", "{"),
                (400, "BadRequest", "error decoding patch: unexpected end of JSON input"),
            ),
        ],
    );
    for path in ["/apis/nothing.example.com/v1/things", "/nothing"] {
        let answer = http.get(path);
        assert_eq!((answer.status, answer.body), (404, Value::from("404 page not found\n")), "{path}");
    }
}

#[test]
fn queries() {
    let Some(cluster) = control_plane() else { return };
    let http = cluster.http();
    http.post("/api/v1/namespaces", &json!({"metadata": {"name": "bad"}}));
    let get = |path: &'static str, code: u16, reason: &'static str, message: &'static str| {
        case(("GET", path), ("", ""), (code, reason, message))
    };
    check_all(
        &http,
        &[
            get(
                "configmaps?labelSelector=a%20b",
                400,
                "BadRequest",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            get(
                "configmaps?labelSelector=a%20in%20b",
                400,
                "BadRequest",
                "unable to parse requirement: found 'b' expected: '('",
            ),
            get(
                "configmaps?fieldSelector=nothing%3D1",
                400,
                "BadRequest",
                "\"nothing\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            ),
            get("pods?fieldSelector=spec.nothing%3D1", 400, "BadRequest", "field label not supported: spec.nothing"),
            get("configmaps?fieldSelector=a", 400, "BadRequest", "invalid selector: 'a'; can't understand 'a'"),
            get("configmaps?limit=x", 400, "BadRequest", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            get(
                "configmaps?resourceVersionMatch=Exact",
                422,
                "Invalid",
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            get(
                "configmaps?resourceVersion=0&resourceVersionMatch=Exact",
                422,
                "Invalid",
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
        ],
    );
}

#[test]
fn warnings_are_given_where_nothing_is_refused() {
    let Some(cluster) = control_plane() else { return };
    let http = cluster.http();
    let kubectl = cluster.namespace("warned");
    let check = |path: &str, body: &str, want: &[&str]| {
        let answer = http.send("POST", path, JSON, body.as_bytes());
        assert!(answer.status < 300, "{}", answer.body);
        assert_eq!(answer.warnings, want, "{path} {body}");
    };
    let named = |name: &str, more: &str| format!(r#"{{"metadata":{{"name":"{name}"}}{more}}}"#);
    let maps = "/api/v1/namespaces/warned/configmaps";
    check(maps, &named("plain", ""), &[]);
    check(maps, &named("unknown", r#","nothing":1"#), &["unknown field \"nothing\""]);
    check(&format!("{maps}?fieldValidation=Ignore"), &named("ignored", r#","nothing":1"#), &[]);
    check(maps, &named("twice", r#","data":{"k":"1","k":"2"}"#), &["duplicate field \"data.k\""]);
    assert_eq!(kubectl.ok("get configmap twice -o jsonpath={.data.k}"), "2");
    // kubectl validates strictly unless told otherwise, and shows warnings.
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: k}\nnothing: 1\n";
    kubectl.feed("create -f -", text.as_bytes()).check_failed("strict decoding error: unknown field \"nothing\"");
    let output = kubectl.feed("create --validate=warn -f -", text.as_bytes());
    assert!(output.code == 0 && output.stderr.contains("Warning: unknown field \"nothing\""), "{output}");
    kubectl
        .feed("create -f -", b"kind: [unclosed")
        .check_failed("error parsing STDIN: error converting YAML to JSON: yaml:");
    kubectl
        .feed("create --validate=false -f -", b"apiVersion: v1\nkind: Nothing\nmetadata: {name: x}")
        .check_failed("no matches for kind \"Nothing\" in version \"v1\"");
}

#[test]
fn what_is_large_or_deep_is_answered_in_time() {
    let Some(cluster) = control_plane() else { return };
    let http = cluster.http();
    http.post("/api/v1/namespaces", &json!({"metadata": {"name": "large"}}));
    let maps = "/api/v1/namespaces/large/configmaps";
    assert_eq!(http.post(maps, &json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).status, 201);
    let (patch, merge) = ("application/json-patch+json", "application/merge-patch+json");
    let strategic = "application/strategic-merge-patch+json";
    let many = |count: usize, operation: &str| format!("[{}]", vec![operation; count].join(","));
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(10_001), close.repeat(10_001));
    let long = |size: usize| config_map(&format!(r#","data":{{"k":"{}"}}"#, "x".repeat(size)));
    let keys = |count: usize| (0..count).map(|n| format!("\"e2e.test/{n}\"")).collect::<Vec<_>>().join(",");
    let one = format!("{maps}/a");
    let mut wrong = Vec::new();
    let mut check = |(method, path): (&str, &str), media: &str, body: &[u8], code: u16, want: &str| {
        let begun = std::time::Instant::now();
        let answer = http.send(method, path, media, body);
        let (shown, took) = (answer.body.to_string(), begun.elapsed());
        if answer.status != code || !shown.contains(want) || took > std::time::Duration::from_secs(20) {
            let begins = String::from_utf8_lossy(body.get(..body.len().min(80)).unwrap_or_default()).into_owned();
            wrong.push(format!("{method} {path} {media} {begins}, {} bytes, in {took:?}: {shown:.600}", body.len()));
        }
    };
    let (post, change) = (("POST", maps), ("PATCH", one.as_str()));
    // Nesting.
    let objects = deep(r#"{"a":"#, "}").replace(r#"{"a":}"#, r#"{"a":1}"#);
    check(post, JSON, objects.as_bytes(), 400, "exceeded max depth");
    check(post, JSON, deep("[", "]").as_bytes(), 400, "");
    check(post, JSON, "[".repeat(3_000_000).as_bytes(), 400, "");
    check(post, YAML, deep("[", "]").as_bytes(), 400, "error converting YAML to JSON: yaml:");
    check(post, YAML, "- ".repeat(10_001).as_bytes(), 400, "");
    check(change, merge, objects.as_bytes(), 400, "exceeded max depth");
    check(change, strategic, objects.as_bytes(), 400, "exceeded max depth");
    check(change, patch, deep("[", "]").as_bytes(), 400, "exceeded max depth");
    // Patches of many operations.
    let test = r#"{"op":"test","path":"/kind","value":"ConfigMap"}"#;
    check(change, patch, many(10_000, test).as_bytes(), 200, "\"ConfigMap\"");
    let limit = "The allowed maximum operations in a JSON patch is 10000, got 10001";
    check(change, patch, many(10_001, test).as_bytes(), 413, limit);
    let unfit = "the server rejected our request due to an error in our request";
    let grow = r#"{"op":"add","path":"/x","value":["0123456789"]},{"op":"copy","from":"/x","path":"/x/-"}"#;
    let double = format!("[{grow},{}]", vec![r#"{"op":"copy","from":"/x","path":"/x/-"}"#; 9_000].join(","));
    check(change, patch, double.as_bytes(), 422, unfit);
    let nest = r#"{"op":"add","path":"/b","value":{}},{"op":"move","from":"/data","path":"/b/a"},{"op":"move","from":"/b","path":"/data"}"#;
    check(change, patch, many(3_333, nest).as_bytes(), 422, unfit);
    // As long as a body may be.
    check(post, JSON, long(3 << 20).as_bytes(), 413, "Request entity too large: limit is 3145728");
    check(change, merge, &[b' '; (3 << 20) + 1], 413, "Request entity too large: limit is 3145728");
    check(post, JSON, long(2_900_000).as_bytes(), 422, "Too long");
    let list = format!(r#"{{"metadata":{{"finalizers":[{}]}}}}"#, keys(100_000));
    check(("PATCH", &format!("{one}?dryRun=All")), strategic, list.as_bytes(), 200, "");
    // What is no text.
    check(post, JSON, b"{\"metadata\":{\"name\":\"\xff\xfe\"}}", 422, "Invalid value");
    check(post, JSON, b"\xff\xfe", 400, "couldn't get version/kind; json parse error: invalid character");
    check(post, YAML, b"\xff\xfe: 1", 400, "");
    check(post, "application/vnd.kubernetes.protobuf", b"k8s\0\xff\xff\xff\xff", 400, "");
    check(post, "application/vnd.kubernetes.protobuf", b"{}", 400, "expected prefix");
    // Types of media.
    let accepted = "the body of the request was in an unknown format - accepted media types include:";
    for media in ["text/html", "application/x-www-form-urlencoded", "application/cbor2", "nonsense"] {
        check(post, media, long(1).as_bytes(), 415, accepted);
        check(change, media, b"{}", 415, "415: Unsupported Media Type");
    }
    // Tokens.
    for (token, why) in [
        ("%25", "illegal base64 data at input byte 0"),
        ("e30", "server does not recognize this encoded version"),
        ("ew", "unexpected end of JSON input"),
    ] {
        let want = format!("invalid continue token: continue key is not valid: {why}");
        check(("GET", &format!("{maps}?continue={token}")), "", b"", 400, &want);
    }
    let router = "406: Not Acceptable";
    for (accept, said) in [
        ("text/html", router),
        ("application/cbor2", router),
        ("application/json;as=Nothing;v=v1;g=meta.k8s.io", "only the following media types are accepted: "),
    ] {
        let answer = http.get_as(maps, accept);
        let shown = answer.body.to_string();
        if answer.status != 406 || !shown.contains(said) {
            wrong.push(format!("{accept}: {shown:.600}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    // Whatever was said, the server stands, and the object is what it was.
    assert_eq!(http.get("/readyz").status, 200);
    assert_eq!(http.get(&one).body["data"], json!({"k": "v"}));
}
