//! A page with a bar for each server's rate, median and 99th percentile. Needs nothing from elsewhere: styles and plots are in it.

use super::{Row, each, number, rows};
use crate::measure::{Case, Run};

/// Colours of the servers, in turn.
const COLOURS: [&str; 4] = ["#2b6cb0", "#c05621", "#2f855a", "#6b46c1"];

/// Width of the longest bar, in pixels.
const WIDTH: f64 = 420.0;

const STYLE: &str = "body{font:14px sans-serif;margin:2em;max-width:70em}h2{margin-top:1.6em}td{padding:2px 10px 2px 0;\
white-space:nowrap}svg{display:block}.key{display:inline-block;width:1em;height:1em;margin:0 .4em 0 1em;vertical-align:-2px}";

/// One value of a case, or nothing where it was not measured.
type Value = fn(&Case) -> Option<f64>;

/// What is plotted: a heading, and the value of a case.
const PLOTS: [(&str, Value); 4] = [
    ("per second", |case| Some(case.rate)),
    ("median, ms", |case| Some(case.latency.p50)),
    ("99th percentile, ms", |case| Some(case.latency.p99)),
    ("server, us each", each),
];

/// The page.
pub(crate) fn html(runs: &[Run]) -> String {
    let mut page =
        format!("<!doctype html><meta charset=utf-8><title>bench</title><style>{STYLE}</style><h1>bench</h1><p>");
    for (run, colour) in runs.iter().zip(COLOURS.iter().cycle()) {
        let (server, version) = (escape(&run.server), escape(&run.version));
        page.push_str(&format!(
            "<span class=key style='background:{colour}'></span>{server} ({version}, load {})",
            run.load
        ));
    }
    page.push_str("</p>");
    let mut scenario = "";
    for row in rows(runs) {
        if row.scenario != scenario {
            scenario = row.scenario;
            let about = crate::scenarios::ALL.iter().find(|s| s.name == scenario).map_or("", |s| s.about);
            page.push_str(&format!("<h2>{}</h2><p>{}</p>", escape(scenario), escape(about)));
        }
        page.push_str(&format!("<h3>{}</h3><table>", escape(row.case)));
        for (heading, value) in PLOTS {
            page.push_str(&format!("<tr><td>{heading}<td>{}", bars(&row, value)));
        }
        page.push_str("</table>");
    }
    page
}

/// A bar for each server that has the value, as long as its part of the largest.
fn bars(row: &Row<'_>, value: Value) -> String {
    let values: Vec<Option<f64>> = row.cases.iter().map(|case| case.and_then(value)).collect();
    let most = values.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = format!("<svg width={} height={}>", WIDTH + 120.0, values.len() * 18);
    for (at, (value, colour)) in values.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let Some(value) = value else { continue };
        let (width, top) = ((WIDTH * value / most).max(1.0), at * 18);
        svg.push_str(&format!("<rect x=0 y={} width={width:.0} height=14 fill='{colour}'/>", top + 2));
        svg.push_str(&format!("<text x={:.0} y={} font-size=12>{}</text>", width + 6.0, top + 13, number(*value)));
    }
    svg + "</svg>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
