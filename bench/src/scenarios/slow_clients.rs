//! What clients that hold connections without coming to an end do to the others. Never sends more than a byte a second over each.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::{Ask, Http, shake_hands};
use crate::load::{self, plural};
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};
use crate::{fill, objects};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "slow_clients",
    about: "500 gets and 50 creates a second, alone, beside 1,000 idle connections, 300 slow heads and 300 slow writers.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

/// What each slow client says at once; then it sends a letter a second.
type Begin = fn(&Context, &str) -> Result<String>;

const CROWDS: [(&str, u64, Option<Begin>); 4] = [
    ("alone", 0, None),
    ("idle connection", 1_000, None),
    ("slow head", 300, Some(|context, path| Ok(format!("{}x: ", head(context, "GET", path)?)))),
    (
        "slow writer",
        300,
        Some(|context, path| {
            let head = head(context, "POST", path)?;
            Ok(format!("{head}content-type: application/json\r\ncontent-length: 100000\r\n\r\n{{\"a\":\""))
        }),
    ),
];

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (path, count) = (core(namespace, "configmaps"), context.scaled(1_000));
    fill::config_maps(context, &path, 0..count).await?;
    let mut cases = vec![];
    for (what, crowd, begin) in CROWDS {
        let text = begin.map(|begin| begin(context, &path)).transpose()?;
        let mut held = vec![];
        for _ in 0..if crowd == 0 { 0 } else { context.scaled(crowd) } {
            let mut stream = shake_hands(&context.target, Http::H1).await?;
            if let Some(text) = &text {
                stream.write_all(text.as_bytes()).await?;
            }
            held.push(stream);
        }
        let beside = if held.is_empty() { what.to_owned() } else { format!("beside {}", plural(held.len(), what)) };
        let dripping = tokio::spawn(drip(held, text.is_some()));
        let gets = {
            let path = path.clone();
            load::request(move |number| Ask::get(format!("{path}/of-{}", number % count)))
        };
        let creates = {
            let (path, what) = (path.clone(), what.replace(' ', "-"));
            load::request(move |number| Ask::post(&path, objects::config_map(&format!("{what}-{number}"), number)))
        };
        let (gets, creates) =
            tokio::try_join!(load::open(context, 8, 500.0, gets), load::open(context, 4, 50.0, creates))?;
        dripping.abort();
        cases.push(Case { name: format!("gets, {beside}"), ..gets });
        cases.push(Case { name: format!("creates, {beside}"), ..creates });
    }
    Ok(cases)
}

/// A request's line and the headers that say who asks; the head is not at its end.
fn head(context: &Context, method: &str, path: &str) -> Result<String> {
    let request = context.target.request(http::Method::GET, path).body(())?;
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        let value = value.to_str().context("a header is no text")?;
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    Ok(text)
}

/// Holds connections, and says a letter a second over each of those that speak, spread over the second. Never ends.
async fn drip(mut held: Vec<TlsStream<TcpStream>>, speak: bool) {
    let pause = Duration::from_secs(1).div_f64(held.len().max(1) as f64);
    loop {
        for stream in &mut held {
            tokio::time::sleep(pause).await;
            if speak {
                // The server may have hung up.
                let _ = stream.write_all(b"x").await;
            }
        }
        if !speak || held.is_empty() {
            return std::future::pending().await;
        }
    }
}
