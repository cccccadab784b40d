//! Paths that are no resources: discovery, OpenAPI, health, version, metrics, profiles, keys.
//!
//! Never builds a document; `documents.rs` keeps them.

use crate::answer::{Answer, Body, Failure};
use crate::authn::tokens;
use crate::backup;
use crate::documents::{self, Document};
use crate::encoded::pretty;
use crate::encryption;
use crate::fairness::{self, Seats};
use crate::offer::Offer;
use crate::profiling::Page;
use crate::road::negotiated::Medium;
use crate::road::received::Received;
use crate::server::Server;
use crate::verb::shown;
use api::kind::Kind;
use api::schema::native;
use api::served::Served;
use api::status::Status;
use std::sync::atomic::Ordering;

/// Named health checks: name, and whether it holds.
type Check = (&'static str, fn(&Server) -> bool);

/// What `/livez` asks; `/readyz` asks more.
const ALIVE: &[Check] = &[("ping", |_| true), ("log", |_| true)];
const READY: &[Check] = &[
    ("poststarthook/bootstrap", |server| server.ready.load(Ordering::Acquire)),
    ("shutdown", |server| !server.ends.asked.is_cancelled()),
];

/// Answers a request for a path that is no resource.
///
/// # Errors
/// 404 for a path that nothing serves, 405 for methods that the page has no answer to.
pub async fn answer(server: &Server, received: &Received) -> Result<Answer, Failure> {
    if received.info.path == encryption::rewrite::PATH {
        return encryption::rewrite::answer(server, received).await;
    }
    let path = received.info.path.as_str();
    let asked = match path {
        backup::PATH | "/metrics" => received.method == "GET" || received.method == "HEAD",
        _ => received.method == "GET" || !routed(path),
    };
    if !asked && path == backup::PATH {
        return Err(Status::no_such_method().into());
    }
    match page(server, received).await {
        // Nobody serves it, whatever the method.
        Ok(answer) if !asked && answer.code != 404 => Err(Status::no_such_method().into()),
        answer => answer,
    }
}

/// Pages of upstream's router, which answer to GET alone; the handlers of others do not look at the method.
const ROUTED: [&str; 4] = ["/.well-known/openid-configuration", "/api", "/openid/v1/jwks", "/version"];

fn routed(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let version = path.strip_prefix("/apis/").is_some_and(|rest| rest.contains('/'));
    ROUTED.contains(&path) || path.starts_with("/api/") || version
}

/// For a path that nobody serves: below what the router has it is said in other words than elsewhere.
///
/// # Errors
/// 404.
pub fn nowhere(served: &Served, path: &str) -> Result<Answer, Failure> {
    let below = |root: &&str| path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let group = path.strip_prefix("/apis/").and_then(|rest| rest.split('/').next());
    if ROUTED.iter().any(below) || group.is_some_and(|group| !group.is_empty() && served.has_native_group(group)) {
        return Err(Status::no_such_path().into());
    }
    Ok(Answer::no_such_page())
}

async fn page(server: &Server, received: &Received) -> Result<Answer, Failure> {
    let path = received.info.path.as_str();
    // As upstream, whose discovery is served with slashes behind it and whose other pages are not.
    let bare = if path == "/apis//" { path } else { path.trim_end_matches('/') };
    let path = if slashes_end(bare) { bare } else { path };
    let offer = server.offer();
    match path {
        "/" | "/index.html" => {
            let paths = paths(offer.served.kinds(), server.aggregates.paths());
            let listed = api::json::json!({ "paths": paths });
            Ok(Answer::bytes(200, "application/json", format!("{listed:#}")))
        }
        "/version" => {
            let schema = native().schema("io.k8s.apimachinery.pkg.version.Info");
            let schema = schema.ok_or_else(|| Status::internal("no schema for a version"))?;
            let version = api::codec::json::encode(&offer.documents.version, schema);
            Ok(Answer::bytes(200, "application/json", pretty(&version)))
        }
        "/metrics" => {
            server.seats.tell();
            Ok(Answer::bytes(200, "text/plain; version=0.0.4; charset=utf-8", server.metrics.text()))
        }
        backup::PATH => backup::answer(server, received).await,
        "/healthz" | "/livez" | "/readyz" => health(server, received, path.trim_start_matches('/')).await,
        "/openid/v1/jwks" => {
            let media = "application/jwk-set+json";
            if received.method == "GET" && !accepted(received.header("accept"), media) {
                let mut status = Status::not_acceptable("");
                status.message = format!("406: Not Acceptable\n\nAvailable representations: {media}");
                return Err(Status { details: api::json::json!({}), ..status }.into());
            }
            let body = tokens::jwks(&server.keys).to_string();
            Ok(Answer::bytes(200, media, body).with("cache-control", "public, max-age=3600"))
        }
        "/.well-known/openid-configuration" => {
            let issuer = server.signer.issuer();
            let own = || format!("https://{}:{}/openid/v1/jwks", server.config.advertise, server.config.listen.port());
            let uri = server.config.tokens.jwks_uri.clone().unwrap_or_else(own);
            let body = tokens::discovery(issuer, &uri, &server.keys);
            Ok(Answer::json(200, &body).with("cache-control", "public, max-age=3600"))
        }
        "/api" | "/apis" => {
            let version = aggregated_version(received.header("accept").unwrap_or_default());
            let merged = if path == "/apis" { server.aggregates.document(&offer, path, version) } else { None };
            if let Some(version) = version
                && let Some(document) = merged.as_ref().or_else(|| offer.documents.aggregated(path, version))
            {
                let media = match version {
                    "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                    _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
                };
                return Ok(discovered(received, document, media));
            }
            if path == "/api" {
                let address = format!("{}:{}", server.config.advertise, server.config.listen.port());
                let medium = Medium { pretty: received.pretty(), ..Medium::JSON };
                let versions = openapi::discovery::core_versions(&address);
                return shown::value(medium, &versions, shown::meta_schema("APIVersions")?, 200);
            }
            match merged {
                Some(document) => Ok(discovered(received, &document, "application/json")),
                None => plain(&offer, received, path),
            }
        }
        "/openapi/v3" => match server.aggregates.document(&offer, path, None) {
            Some(document) => Ok(conditional(received, &document, INDEX, "no-cache, private")),
            None => described(&offer, received, "v3"),
        },
        "/openapi/v2" => match server.aggregates.v2(&offer) {
            Some(forms) => chosen(&*forms, received, "v2"),
            None => described(&offer, received, "v2"),
        },
        _ if path.starts_with("/openapi/v3/") => described(&offer, received, path.trim_start_matches("/openapi/")),
        _ if path.starts_with("/apis/") && path.matches('/').count() == 2 => {
            match server.aggregates.document(&offer, path, None) {
                Some(document) => Ok(discovered(received, &document, "application/json")),
                None => plain(&offer, received, path),
            }
        }
        _ if path.starts_with("/api/") || path.starts_with("/apis/") => plain(&offer, received, path),
        _ => {
            if let Some(page) = profiled(server, received).await {
                return Ok(page.into());
            }
            if let Some(table) = path.strip_prefix(fairness::dump::ROOT) {
                return Ok(dump(server, received, table));
            }
            for root in ["healthz", "livez", "readyz"] {
                if let Some(name) = path.strip_prefix(&format!("/{root}/")) {
                    return one_check(server, root, name).await;
                }
            }
            nowhere(&offer.served, path)
        }
    }
}

/// The media type of the index of OpenAPI's documents: upstream leaves it to Go, which guesses.
const INDEX: &str = "text/plain; charset=utf-8";

/// Whether an `Accept` header takes this media type.
fn accepted(accept: Option<&str>, media: &str) -> bool {
    let accept = accept.filter(|accept| !accept.trim().is_empty()).unwrap_or("*/*");
    let kind = media.split('/').next().unwrap_or_default();
    accept.split(',').filter_map(|clause| clause.split(';').next()).map(str::trim).any(|wanted| {
        wanted == "*/*" || wanted == media || wanted.strip_suffix("/*").is_some_and(|wanted| wanted == kind)
    })
}

/// Whether slashes behind a path change nothing.
fn slashes_end(path: &str) -> bool {
    ROUTED.contains(&path) || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/")
}

/// What the process tells of itself.
async fn profiled(server: &Server, received: &Received) -> Option<Page> {
    let profiling = server.config.profiling.as_ref()?;
    let (method, path) = (received.method.as_str(), &received.info.path);
    Page::of(&**profiling, method, path, received.request.query_string()).await
}

/// What priority and fairness is doing.
fn dump(server: &Server, received: &Received, table: &str) -> Answer {
    let details = received.query.get("includeRequestDetails").is_some_and(|given| !given.is_empty());
    let Seats::Fair(fairness) = &server.seats else { return Answer::no_such_page() };
    match fairness::dump::answer(fairness, table, details, server.clock.unix_millis()) {
        Some(text) => Answer::bytes(200, "text/plain; charset=utf-8", text),
        None => Answer::no_such_page(),
    }
}

/// An OpenAPI document by its path below `/openapi/`.
fn described(offer: &Offer, received: &Received, path: &str) -> Result<Answer, Failure> {
    match offer.documents.openapi(path) {
        Some(offers) => chosen(offers, received, path),
        None => Ok(Answer::bytes(404, "", "")),
    }
}

/// The encoding of a document that the client prefers.
fn chosen(offers: &[documents::Form], received: &Received, path: &str) -> Result<Answer, Failure> {
    let Some(documents::Form { media, document, .. }) = documents::choose(offers, received.header("accept")) else {
        let offered: Vec<&str> = offers.iter().map(|offer| offer.media).collect();
        return Err(Status::not_acceptable(&offered.join(", ")).into());
    };
    let (name, hash) = (path.strip_prefix("v3/"), received.query.get("hash").filter(|hash| !hash.is_empty()));
    let media = if path == "v3" { INDEX } else { media };
    match (name, hash) {
        // Asked for by the hash of a document that is no longer served.
        (Some(name), Some(hash)) if hash != document.etag => {
            Ok(Answer::bytes(301, media, "").with("location", documents::v3_url(name, &document.etag)))
        }
        // What is asked for by its own hash never changes.
        (Some(_), Some(_)) => Ok(conditional(received, document, media, "public, immutable, max-age=31536000")),
        _ => Ok(conditional(received, document, media, "no-cache, private")),
    }
}

fn plain(offer: &Offer, received: &Received, path: &str) -> Result<Answer, Failure> {
    let Some(document) = offer.documents.plain(path) else { return nowhere(&offer.served, path) };
    Ok(discovered(received, document, "application/json"))
}

/// A document of discovery, indented for whom seems to be a person.
fn discovered(received: &Received, document: &Document, media: &'static str) -> Answer {
    let mut answer = conditional(received, document, media, "public");
    if let Body::Bytes(bytes) = &answer.body
        && received.pretty()
    {
        answer.body = Body::Bytes(pretty(bytes).into());
    }
    answer
}

fn conditional(received: &Received, document: &Document, media: &'static str, cache: &str) -> Answer {
    let etag = format!("\"{}\"", document.etag);
    let same = received.header("if-none-match").is_some_and(|header| header.contains(&document.etag));
    let answer = if same { Answer::bytes(304, "", "") } else { Answer::bytes(200, media, document.bytes.clone()) };
    answer.with("etag", etag).with("vary", "Accept").with("cache-control", cache)
}

/// The version of aggregated discovery that the client prefers, if any.
fn aggregated_version(accept: &str) -> Option<&'static str> {
    accept.split(',').find_map(|clause| {
        let clause: String = clause.chars().filter(|c| !c.is_whitespace()).collect();
        let aggregated = clause.starts_with("application/json") && clause.contains("as=APIGroupDiscoveryList");
        match aggregated {
            true if clause.contains("v=v2beta1") => Some("v2beta1"),
            true if clause.contains("v=v2") => Some("v2"),
            _ => None,
        }
    })
}

/// Everything that can be asked for, beside objects; `others` are the paths of groups that are not ours.
fn paths(kinds: &[&Kind], others: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for kind in kinds {
        let root = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
        out.push(format!("{root}/{}", kind.version));
        out.push(root);
    }
    out.extend(others);
    out.sort();
    out.dedup();
    out
}

fn checks(root: &str) -> impl Iterator<Item = &'static Check> {
    ALIVE.iter().chain(READY.iter().filter(move |_| root != "livez"))
}

/// What takes time to ask: name and outcome, if there is any. Never part of `/livez`: a restart mends no key service.
async fn key_services(server: &Server, root: &str) -> Option<(&'static str, bool)> {
    let encryption = &server.config.encryption;
    if root == "livez" || !encryption.has_check() {
        return None;
    }
    let outcome = encryption.check().await;
    if let Err(error) = &outcome {
        tracing::warn!(error, "kms-providers is not well");
    }
    Some(("kms-providers", outcome.is_ok()))
}

async fn one_check(server: &Server, root: &str, name: &str) -> Result<Answer, Failure> {
    let holds = match checks(root).find(|(known, _)| *known == name) {
        Some((_, check)) => check(server),
        None => match key_services(server, root).await {
            Some((known, holds)) if known == name => holds,
            _ => return Ok(Answer::no_such_page()),
        },
    };
    server.metrics.checked(name, root, holds);
    if holds {
        return Ok(Answer::bytes(200, "text/plain; charset=utf-8", "ok"));
    }
    Ok(Answer::bytes(500, "text/plain; charset=utf-8", format!("internal server error: {name} failed\n")))
}

async fn health(server: &Server, received: &Received, root: &str) -> Result<Answer, Failure> {
    let excluded: Vec<&str> = received.query.all("exclude").collect();
    let mut unknown: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
    let mut lines = String::new();
    let mut failed = false;
    let slow = key_services(server, root).await;
    let quick = checks(root).map(|(name, check)| (*name, check(server)));
    for (name, holds) in quick.chain(slow) {
        unknown.retain(|excluded| excluded.trim_matches('"') != name);
        server.metrics.checked(name, root, holds);
        if excluded.contains(&name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if holds {
            lines.push_str(&format!("[+]{name} ok\n"));
        } else {
            failed = true;
            lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
        }
    }
    if !unknown.is_empty() {
        unknown.sort_unstable();
        unknown.dedup();
        let names = unknown.join(",");
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    let text = |code, text: String| {
        Answer::bytes(code, "text/plain; charset=utf-8", text).with("x-content-type-options", "nosniff")
    };
    if failed {
        return Ok(text(500, format!("{lines}{root} check failed\n")));
    }
    let told = received.query.get("verbose").is_some();
    Ok(text(200, if told { format!("{lines}{root} check passed\n") } else { "ok".to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::{accepted, nowhere, routed, slashes_end};
    use crate::answer::Failure;
    use api::served::Served;

    #[test]
    fn what_the_router_has_is_said_otherwise() {
        for (path, said) in [
            ("/api/v2", true),
            ("/apis/apps/v9/a/b", true),
            ("/api//v1/pods", true),
            ("/version/x", true),
            ("/apis//v1/pods", false),
            ("/apis/nobody.example.com/v1/x", false),
            ("//api/v1/pods", false),
            ("/openid/v1/x", false),
            ("/apiserver", false),
        ] {
            let outcome = nowhere(&Served::default(), path);
            assert_eq!(matches!(outcome, Err(Failure::Status(_))), said, "{path}");
        }
        for (path, get) in
            [("/version/", true), ("/apis/apps/v1", true), ("/apis/apps", false), ("/", false), ("/openapi/v3", false)]
        {
            assert_eq!(routed(path), get, "{path}");
        }
        let keys = "application/jwk-set+json";
        for (accept, taken) in
            [("", true), ("application/json", false), ("application/*;q=0.1", true), ("text/*, */*", true)]
        {
            assert_eq!(accepted(Some(accept), keys), taken, "{accept}");
        }
    }

    #[test]
    fn pages_end_where_upstreams_do() {
        for path in ["/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/version", "/openid/v1/jwks"] {
            assert!(slashes_end(path), "{path}");
        }
        for path in
            ["", "/healthz", "/livez/ping", "/metrics", "/openapi/v2", "/openapi/v3/apis", "/apiserver", "/debug"]
        {
            assert!(!slashes_end(path), "{path}");
        }
    }
}
