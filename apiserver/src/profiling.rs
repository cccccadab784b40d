//! `/debug/pprof`: what the process tells of itself. Who knows the process answers; here is only the way to it.
//!
//! Never reached without the right to the path.

use crate::answer::Answer;
use futures::future::BoxFuture;

/// The path below which everything of it is.
pub const ROOT: &str = "/debug/pprof";

/// An answer as it is sent.
pub struct Page {
    /// HTTP status.
    pub code: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// Knows the process.
pub trait Profiling: Send + Sync {
    /// Answers for what follows `/debug/pprof/`, and the query as it came. What takes time is given up when the future is dropped.
    fn page(&self, name: &str, query: &str) -> BoxFuture<'static, Page>;
}

impl Page {
    /// For a path and a method: a way on to the page with the list for the path without its last slash, none for what is elsewhere.
    pub async fn of(profiling: &dyn Profiling, method: &str, path: &str, query: &str) -> Option<Page> {
        let rest = path.strip_prefix(ROOT)?;
        if rest.is_empty() {
            let headers = vec![("location", format!("{ROOT}/"))];
            let read = matches!(method, "GET" | "HEAD");
            let content_type = if read { "text/html; charset=utf-8" } else { "" };
            let body = if method == "GET" { format!("<a href=\"{ROOT}/\">Found</a>.\n\n") } else { String::new() };
            return Some(Page { code: 302, content_type, headers, body: body.into_bytes() });
        }
        let page = profiling.page(rest.strip_prefix('/')?, query);
        Some(page.await)
    }
}

impl From<Page> for Answer {
    fn from(page: Page) -> Answer {
        let headers = page.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Answer::bytes(page.code, page.content_type, page.body).with_all(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;
    use api::json::Value;
    use futures::FutureExt as _;
    use std::sync::Arc;

    struct Echo;

    impl Profiling for Echo {
        fn page(&self, name: &str, query: &str) -> BoxFuture<'static, Page> {
            let body = format!("{name}?{query}").into_bytes();
            async { Page { code: 200, content_type: "text/plain", headers: Vec::new(), body } }.boxed()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_process_is_told_to_whom_may_know_and_where_it_is_on() {
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let other = User::new("other", &[AUTHENTICATED]);
        let world = World::start(|config| config.profiling = Some(Arc::new(Echo))).await;
        let path = "/debug/pprof/profile?seconds=1";
        let said = world.ask(&root, "GET", path, &Value::Null).await;
        assert_eq!((said.0, said.1.as_str()), (200, Some("profile?seconds=1")));
        assert_eq!(world.ask(&root, "GET", "/debug/pprof/", &Value::Null).await.1.as_str(), Some("?"));
        for method in ["GET", "POST"] {
            assert_eq!(world.ask(&root, method, "/debug/pprof", &Value::Null).await.0, 302);
        }
        assert_eq!(world.ask(&root, "GET", "/debug/pprofile", &Value::Null).await.0, 404);
        assert_eq!(world.ask(&other, "GET", path, &Value::Null).await.0, 403);
        let off = World::start(|_| {}).await;
        assert_eq!(off.ask(&root, "GET", path, &Value::Null).await.0, 404);
    }
}
