//! What the process tells of itself below `/debug/pprof`: processor time and memory as profiles, threads as text.
//!
//! Never asks who wants to know; whoever serves it does.

mod cpu;
mod heap;
mod sampler;
mod wire;

use crate::memory;
use apiserver::profiling::{Page, Profiling};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Of a profile that names no time.
const SECONDS: u64 = 30;
/// The longest profile.
const MOST: u64 = 600;

const TEXT: &str = "text/plain; charset=utf-8";

/// This process.
pub(crate) struct Process;

/// This process, where `--profiling` says that it tells of itself.
pub(crate) fn process(on: bool) -> Option<Arc<dyn Profiling>> {
    on.then(|| Arc::new(Process) as Arc<dyn Profiling>)
}

impl Profiling for Process {
    fn page(&self, name: &str, query: &str) -> BoxFuture<'static, Page> {
        let seconds = form(query, "seconds");
        match name {
            "" => ready(index()),
            "cmdline" => ready(text(command_line())),
            // As with Go's, who wants to read it says so.
            "heap" => match form(query, "debug").as_str() {
                "" | "0" => {
                    async { binary("heap", tokio::task::spawn_blocking(heap::profile).await.unwrap_or_default()) }
                        .boxed()
                }
                _ => ready(text(memory::told())),
            },
            "threadcreate" => ready(text(threads())),
            "profile" => profile(&seconds).boxed(),
            _ => ready(Page { code: 404, ..text("Unknown profile\n".to_owned()) }),
        }
    }
}

fn ready(page: Page) -> BoxFuture<'static, Page> {
    std::future::ready(page).boxed()
}

fn text(body: String) -> Page {
    let headers = vec![("x-content-type-options", "nosniff".to_owned())];
    Page { code: 200, content_type: TEXT, headers, body: body.into_bytes() }
}

/// A profile for tools.
fn binary(name: &str, body: Vec<u8>) -> Page {
    let headers = vec![
        ("x-content-type-options", "nosniff".to_owned()),
        ("content-disposition", format!("attachment; filename=\"{name}\"")),
    ];
    Page { code: 200, content_type: "application/octet-stream", headers, body }
}

/// A parameter of the query; those here need no decoding.
fn form(query: &str, name: &str) -> String {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).unwrap_or_default()
}

/// Whole seconds of a profile: what is none means the default, as in Go.
///
/// # Errors
/// One sentence for more than may be.
fn wanted(seconds: &str) -> Result<Duration, String> {
    let seconds = seconds.parse::<f64>().ok().filter(|seconds| *seconds > 0.0).unwrap_or(SECONDS as f64);
    if seconds > MOST as f64 {
        return Err(format!("profile duration exceeds {MOST} seconds\n"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn profile(seconds: &str) -> impl Future<Output = Page> + Send + use<> {
    let time = wanted(seconds);
    async move {
        let time = match time {
            Ok(time) => time,
            Err(why) => return Page { code: 400, ..text(why) },
        };
        match cpu::profile(time).await {
            Ok(body) => binary("profile", body),
            Err(why) => Page { code: 500, ..text(format!("Could not enable CPU profiling: {why}\n")) },
        }
    }
}

fn index() -> Page {
    let rows = [
        ("cmdline", "the words of the command that started the process, with a zero byte between them"),
        (
            "heap",
            "resident memory, by what it belongs to, for `go tool pprof`; ?debug=1 is what the allocator and the kernel say, as text",
        ),
        ("profile", "processor time, by stacks, for `go tool pprof`; ?seconds= says how long"),
        ("threadcreate", "the threads that there are, as text"),
    ];
    let mut out = "<html>\n<head>\n<title>/debug/pprof/</title>\n</head>\n<body>\n/debug/pprof/\n<ul>\n".to_owned();
    for (name, what) in rows {
        let _ = writeln!(out, "<li><a href=\"{name}\">{name}</a>: {what}</li>");
    }
    out.push_str("</ul>\n</body>\n</html>\n");
    Page { content_type: "text/html; charset=utf-8", ..text(out) }
}

/// As Go gives it.
fn command_line() -> String {
    let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    String::from_utf8_lossy(&line).trim_end_matches('\0').to_owned()
}

/// Number, name, state and processor time of each thread.
fn threads() -> String {
    let mut rows: Vec<(u32, String)> = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // Threads end while they are counted.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        rows.extend(thread(&stat).map(|row| (id, row)));
    }
    rows.sort();
    let mut out = format!("threads: {}\n{:>9}  {:16} state  user_ticks  system_ticks\n", rows.len(), "id", "name");
    for (id, row) in rows {
        let _ = writeln!(out, "{id:>9}  {row}");
    }
    out
}

/// A row of the kernel's `stat`: the name is in brackets and may have more of them.
fn thread(stat: &str) -> Option<String> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let (user, system) = (fields.nth(10)?, fields.next()?);
    Some(format!("{name:16} {state:5}  {user:>10}  {system:>12}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_profile_is_bounded() {
        assert_eq!(wanted("").unwrap(), Duration::from_secs(30));
        assert_eq!(wanted("x").unwrap(), Duration::from_secs(30));
        assert_eq!(wanted("-1").unwrap(), Duration::from_secs(30));
        assert_eq!(wanted("NaN").unwrap(), Duration::from_secs(30));
        assert_eq!(wanted("0.5").unwrap(), Duration::from_millis(500));
        assert!(wanted("601").is_err() && wanted("inf").is_err());
        assert_eq!(form("debug=1&seconds=5", "seconds"), "5");
    }

    #[test]
    fn threads_are_read_whatever_they_are_called() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14";
        assert_eq!(thread(stat).unwrap(), "a) b (c          S              11            12");
        assert!(threads().lines().count() > 2);
    }

    #[tokio::test]
    async fn pages_say_what_they_are() {
        for (name, query, code, kind, holds) in [
            ("", "", 200, "text/html; charset=utf-8", "href=\"profile\""),
            ("heap", "debug=1", 200, TEXT, "resident_bytes "),
            ("cmdline", "", 200, TEXT, "ironkeel"),
            ("threadcreate", "", 200, TEXT, "threads: "),
            ("goroutine", "", 404, TEXT, "Unknown profile"),
            ("../metrics", "", 404, TEXT, "Unknown profile"),
        ] {
            let page = Process.page(name, query).await;
            assert_eq!((page.code, page.content_type), (code, kind), "{name}");
            let body = String::from_utf8(page.body).unwrap();
            assert!(body.contains(holds), "{name}: {body}");
        }
        let heap = Process.page("heap", "").await;
        assert_eq!((heap.code, heap.content_type), (200, "application/octet-stream"));
        assert!(heap.body.starts_with(&[0x1f, 0x8b]));
        assert_eq!(Process.page("profile", "seconds=9999").await.code, 400);
    }
}
