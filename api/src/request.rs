//! What a request asks for, from method, path and query alone.
//!
//! Never looks at who asks, nor at what is served. Source: upstream's request info (`apiserver/pkg/endpoints/request`).

/// The query string, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// From the text behind the `?`.
    #[must_use]
    pub fn parse(text: &str) -> Query {
        Query(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean parameter as upstream reads it: present and neither `0` nor `false`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "0" | "false"))
    }
}

/// What a request asks for, from path, method and query alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The path below `/api` or `/apis` names a resource.
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case method otherwise.
    pub verb: String,
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Namespace; empty for cluster-wide requests.
    pub namespace: String,
    /// Plural.
    pub resource: String,
    /// `status`, `log`, ...
    pub subresource: String,
    /// Object; empty for collections.
    pub name: String,
    /// What follows the subresource, for `proxy`.
    pub rest: Vec<String>,
    /// The path without its percents: a slash is a slash however it is written.
    pub path: String,
    /// What a route names is empty, or there is a slash too many before all: nothing is there, whoever asks.
    pub gaps: bool,
    /// The path ends where it should say what is watched or proxied: nobody can tell what is asked.
    pub unclear: bool,
    /// `fieldSelector` of a collection, as written.
    pub field_selector: Option<String>,
    /// `labelSelector` of a collection, as written.
    pub label_selector: Option<String>,
}

impl RequestInfo {
    /// Reads method, path and query as upstream does: slashes behind all do not count, those side by side hold an empty part, and `.` and `..`
    /// are names like others.
    #[must_use]
    pub fn parse(method: &str, path: &str, query: &Query) -> RequestInfo {
        let path = decoded(path);
        let parts: Vec<String> = match path.trim_matches('/') {
            "" => Vec::new(),
            parts => parts.split('/').map(str::to_owned).collect(),
        };
        let gaps = path.starts_with("//");
        let mut info = RequestInfo { verb: method.to_ascii_lowercase(), path, gaps, ..RequestInfo::default() };
        let mut rest = match parts.split_first() {
            Some((first, rest)) if first == "api" && rest.len() >= 2 => rest,
            Some((first, rest)) if first == "apis" && rest.len() >= 3 => {
                if let Some((group, rest)) = rest.split_first() {
                    info.group.clone_from(group);
                    rest
                } else {
                    return info;
                }
            }
            _ => return info,
        };
        info.is_resource = true;
        if let Some((version, tail)) = rest.split_first() {
            info.version.clone_from(version);
            rest = tail;
        }
        info.gaps |=
            info.version.is_empty() || info.group.is_empty() && parts.first().is_some_and(|part| part == "apis");
        info.unclear = matches!(rest, [only] if matches!(only.as_str(), "watch" | "proxy"));
        let mut watching = false;
        if let (Some(first), true) = (rest.first(), rest.len() > 1)
            && first == "watch"
        {
            watching = true;
            rest = rest.get(1..).unwrap_or_default();
        }
        info.verb = match method {
            _ if watching => "watch",
            "POST" => "create",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        }
        .to_owned();
        let mut homeless = false;
        if let [first, namespace, tail @ ..] = rest
            && first == "namespaces"
        {
            info.namespace.clone_from(namespace);
            let own = tail.first().is_none_or(|part| part == "status" || part == "finalize");
            if !own {
                homeless = namespace.is_empty();
                rest = tail;
            }
        }
        let mut tail = rest.iter();
        info.resource = tail.next().cloned().unwrap_or_default();
        info.name = tail.next().cloned().unwrap_or_default();
        info.subresource = tail.next().cloned().unwrap_or_default();
        info.rest = tail.cloned().collect();
        info.gaps |= info.resource.is_empty()
            || info.name.is_empty() && !info.subresource.is_empty()
            || info.subresource.is_empty() && !info.rest.is_empty();
        if info.name.is_empty() {
            if info.verb == "get" {
                info.verb = if query.flag("watch") { "watch" } else { "list" }.to_owned();
                // A collection narrowed to one name is authorized like that object.
                if let Some(selector) = query.get("fieldSelector")
                    && let Ok(selector) = crate::selector::FieldSelector::parse(selector)
                    && let Some(name) = selector.required("metadata.name")
                    && !name.contains(['/', '%'])
                    && !matches!(name, "." | "..")
                {
                    info.name = name.to_owned();
                }
            } else if info.verb == "delete" {
                info.verb = "deletecollection".to_owned();
            }
        }
        // A collection of no namespace is that of all.
        info.gaps |= homeless && !matches!(info.verb.as_str(), "list" | "watch");
        if !watching && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            let given = |name: &str| query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
            info.field_selector = given("fieldSelector");
            info.label_selector = given("labelSelector");
        }
        info
    }
}

/// A path without its percents.
fn decoded(path: &str) -> String {
    if !path.as_bytes().contains(&b'%') {
        return path.to_owned();
    }
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// A percent without its two digits, as the path has it: who sends one is not understood.
#[must_use]
pub fn broken_escape(path: &str) -> Option<&str> {
    let digits =
        |at: usize| path.as_bytes().get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    let (at, _) = path.match_indices('%').find(|(at, _)| !digits(*at))?;
    let end = path.char_indices().map(|(at, _)| at).find(|end| *end >= at + 3).unwrap_or(path.len());
    path.get(at..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, target: &str, expected: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let info = RequestInfo::parse(method, path, &Query::parse(query));
        let shown = format!(
            "{} {}/{} ns={} {}/{} name={} rest={}",
            info.verb,
            info.group,
            info.version,
            info.namespace,
            info.resource,
            info.subresource,
            info.name,
            info.rest.join("/")
        );
        assert_eq!(shown, expected, "{method} {target}");
    }

    #[test]
    fn paths_become_what_they_ask_for() {
        check("GET", "/api/v1/namespaces", "list /v1 ns= namespaces/ name= rest=");
        check("GET", "/api/v1/namespaces/a", "get /v1 ns=a namespaces/ name=a rest=");
        check("PUT", "/api/v1/namespaces/a/finalize", "update /v1 ns=a namespaces/finalize name=a rest=");
        check("GET", "/api/v1/namespaces/a/pods?watch=true", "watch /v1 ns=a pods/ name= rest=");
        check("GET", "/api/v1/watch/namespaces/a/pods", "watch /v1 ns=a pods/ name= rest=");
        check("DELETE", "/api/v1/watch/namespaces/a/pods/p", "watch /v1 ns=a pods/ name=p rest=");
        check("GET", "/api/v1/namespaces/a/pods/p/log", "get /v1 ns=a pods/log name=p rest=");
        check("POST", "/apis/apps/v1/namespaces/a/deployments", "create apps/v1 ns=a deployments/ name= rest=");
        check(
            "DELETE",
            "/apis/apps/v1/namespaces/a/deployments",
            "deletecollection apps/v1 ns=a deployments/ name= rest=",
        );
        check("GET", "/api/v1/nodes/n/proxy/stats/summary", "get /v1 ns= nodes/proxy name=n rest=stats/summary");
        check("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list /v1 ns= pods/ name=x rest=");
        check("GET", "/api/v1/pods?fieldSelector=metadata.name%3Da%2Fb", "list /v1 ns= pods/ name= rest=");
        check("GET", "/version", "get / ns= / name= rest=");
        check("GET", "/apis/apps/v1", "get / ns= / name= rest=");
    }

    #[test]
    fn what_is_watched_has_to_be_said() {
        for (path, unclear) in [("/api/v1/watch", true), ("/apis/apps/v1/proxy/", true), ("/api/v1/watch/pods", false)]
        {
            assert_eq!(RequestInfo::parse("GET", path, &Query::default()).unclear, unclear, "{path}");
        }
    }

    #[test]
    fn slashes_and_dots_mean_what_they_mean_upstream() {
        let gaps = |target: &str, expected: &str, gaps: bool| {
            check("GET", target, expected);
            assert_eq!(RequestInfo::parse("GET", target, &Query::default()).gaps, gaps, "{target}");
        };
        gaps("/api/v1/pods/", "list /v1 ns= pods/ name= rest=", false);
        gaps("/api/v1/pods//", "list /v1 ns= pods/ name= rest=", false);
        gaps("//api/v1/pods", "list /v1 ns= pods/ name= rest=", true);
        gaps("/api/v1//pods", "get /v1 ns= / name=pods rest=", true);
        gaps("/api//v1/pods", "get / ns= v1/ name=pods rest=", true);
        gaps("/apis//v1/pods", "list /v1 ns= pods/ name= rest=", true);
        gaps("/api/v1/namespaces//pods", "list /v1 ns= pods/ name= rest=", false);
        gaps("/api/v1/namespaces//pods/p", "get /v1 ns= pods/ name=p rest=", true);
        gaps("/api/v1/namespaces/a//p", "get /v1 ns=a / name=p rest=", true);
        gaps("/api/v1/namespaces/a/pods//log", "list /v1 ns=a pods/log name= rest=", true);
        gaps("/api/v1/namespaces/a/pods/p//x", "get /v1 ns=a pods/ name=p rest=x", true);
        gaps("/api/v1/namespaces/a/pods/p/proxy//x", "get /v1 ns=a pods/proxy name=p rest=/x", false);
        gaps("/api/v1/namespaces/a%2fpods%2Fp", "get /v1 ns=a pods/ name=p rest=", false);
        gaps("/api/v1/namespaces/a%252fpods", "get /v1 ns=a%2fpods namespaces/ name=a%2fpods rest=", false);
        gaps("/api/v1/namespaces/a/../b/secrets", "get /v1 ns=a ../secrets name=b rest=", false);
        gaps("/%61pi/v1/pods", "list /v1 ns= pods/ name= rest=", false);
        gaps("//version", "get / ns= / name= rest=", true);
        for (path, broken) in
            [("/a%2fb", None), ("/a%2", Some("%2")), ("/%zz/a", Some("%zz")), ("/%", Some("%")), ("/%2é", Some("%2é"))]
        {
            assert_eq!(broken_escape(path), broken, "{path}");
        }
    }
}
