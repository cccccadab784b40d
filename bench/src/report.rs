//! Results for people: a table, ratios of two runs, a page with plots. Pure functions of what was measured.

mod html;

pub(crate) use html::html;

use crate::measure::{Case, Run};

/// One row: a case of a scenario, by each run that measured it.
pub(crate) struct Row<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) case: &'a str,
    pub(crate) cases: Vec<Option<&'a Case>>,
}

/// Rows of all runs, in the order of the table of scenarios and of the first run's cases.
pub(crate) fn rows(runs: &[Run]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = vec![];
    for run in runs {
        for (scenario, cases) in &run.scenarios {
            for (at, case) in cases.iter().enumerate() {
                // Names of cases may hold what was measured: the place in the scenario tells which is which.
                let known = rows.iter().filter(|row| row.scenario == scenario).count();
                if at >= known {
                    rows.push(Row { scenario, case: &case.name, cases: vec![] });
                }
            }
        }
    }
    let order = |name: &str| crate::scenarios::ALL.iter().position(|s| s.name == name).unwrap_or(usize::MAX);
    rows.sort_by_key(|row| order(row.scenario));
    let (mut last, mut at) = ("", 0);
    for row in &mut rows {
        at = if row.scenario == last { at + 1 } else { 0 };
        last = row.scenario;
        row.cases = runs.iter().map(|run| run.scenarios.get(row.scenario).and_then(|cases| cases.get(at))).collect();
    }
    rows
}

/// The summary: one line for each case and server, and what could not be run.
pub(crate) fn table(runs: &[Run], markdown: bool) -> String {
    let mut lines = vec![];
    let several = runs.len() > 1;
    let mut head =
        vec!["scenario", "case", "per second", "p50 ms", "p99 ms", "MB/s", "server us each", "server MiB, peak"];
    if several {
        head.insert(2, "server");
        head.push("rate, latency, processor: of the first");
    }
    lines.push(head.into_iter().map(str::to_owned).collect::<Vec<_>>());
    for row in rows(runs) {
        let first = row.cases.first().copied().flatten();
        for (run, case) in runs.iter().zip(&row.cases) {
            let Some(case) = case else { continue };
            let mut line = vec![
                row.scenario.to_owned(),
                case.name.clone(),
                format!("{} {}", number(case.rate), case.unit),
                number(case.latency.p50),
                number(case.latency.p99),
                number(case.bytes_per_second / 1e6),
                each(case).map_or_else(|| "-".to_owned(), number),
                case.used.map_or_else(|| "-".to_owned(), |u| format!("{}, {}", u.memory >> 20, u.peak >> 20)),
            ];
            if case.failures > 0 {
                line.iter_mut().take(2).skip(1).for_each(|name| name.push_str(&format!(" ({} failed)", case.failures)));
            }
            if several {
                line.insert(2, run.server.clone());
                line.push(first.map_or_else(String::new, |first| ratios(case, first)));
            }
            lines.push(line);
        }
    }
    let mut text = if markdown { as_markdown(&lines) } else { as_columns(&lines) };
    for run in runs {
        text.push_str(&format!(
            "\n{}: {}, HTTP/{}, {}, {} processors, load {} at the start\n",
            run.server,
            run.version,
            if run.http == crate::client::Http::H1 { "1.1" } else { "2" },
            run.encoding.media_type(),
            run.processors,
            run.load
        ));
        for (scenario, reason) in &run.failed {
            text.push_str(&format!("{}: {scenario} could not be run: {reason}\n", run.server));
        }
        let failures = run.scenarios.iter().flat_map(|(name, cases)| cases.iter().map(move |case| (name, case)));
        for (scenario, case) in failures.filter(|(_, case)| case.failures > 0) {
            let first = case.failure.as_deref().unwrap_or_default();
            text.push_str(&format!(
                "{}: {scenario}, {}: {} failed, the first: {first}\n",
                run.server, case.name, case.failures
            ));
        }
    }
    text
}

/// The server's processor time for each of what is counted, in microseconds.
pub(crate) fn each(case: &Case) -> Option<f64> {
    (case.count > 0).then_some(())?;
    Some(case.used?.cpu_seconds * 1e6 / case.count as f64)
}

/// How many times the rate, and what part of the median latency and of the processor time.
fn ratios(case: &Case, first: &Case) -> String {
    let of = |a: f64, b: f64| if b > 0.0 { format!("{:.2}", a / b) } else { "-".to_owned() };
    let cpu = match (each(case), each(first)) {
        (Some(a), Some(b)) => of(a, b),
        _ => "-".to_owned(),
    };
    format!("{}, {}, {cpu}", of(case.rate, first.rate), of(case.latency.p50, first.latency.p50))
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v > 0.0 => format!("{v:.2}"),
        _ => "0".to_owned(),
    }
}

fn as_markdown(lines: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        text.push_str(&format!("| {} |\n", line.join(" | ")));
        if at == 0 {
            text.push_str(&format!("|{}\n", " --- |".repeat(line.len())));
        }
    }
    text
}

fn as_columns(lines: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = vec![];
    for line in lines {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests: a panic is the finding")]
    use std::time::Duration;

    use super::*;
    use crate::client::{Encoding, Http};
    use crate::measure::Tally;
    use crate::usage::Used;

    fn run(server: &str, requests: u64, millis: u64) -> Run {
        let mut run = Run::new(server.to_owned(), "v1.36.0".to_owned(), Http::H1, Encoding::Json);
        run.load = "0.50".to_owned();
        run.processors = 2;
        let mut tally = Tally::default();
        for _ in 0..requests {
            tally.done(Duration::from_millis(millis), 1_000);
        }
        tally.failed(&anyhow::anyhow!("409: it is there"));
        let used = Used { cpu_seconds: 0.5, memory: 64 << 20, peak: 80 << 20 };
        let case = tally.into_case("1 connection", "requests", Duration::from_secs(1), Some(used));
        run.add("get", Ok(vec![case]));
        run.add("list", Err(anyhow::anyhow!("no such thing")));
        run
    }

    #[test]
    fn two_runs_are_compared_with_the_first() {
        let runs = [run("one", 100, 4), run("two", 400, 1)];
        let text = table(&runs, true);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines.get(3).copied(),
            Some(
                "| get | 1 connection (1 failed) | two | 400 requests | 1.00 | 1.00 | 0.40 | 1250 | 64, 80 | 4.00, 0.25, 0.25 |"
            ),
            "{text}"
        );
        assert!(text.contains("two: list could not be run: no such thing"), "{text}");
        assert!(text.contains("one: get, 1 connection: 1 failed, the first: 409: it is there"), "{text}");
    }

    #[test]
    fn what_is_written_is_read() {
        let file = std::env::temp_dir().join(format!("bench-{}.json", std::process::id()));
        run("one", 3, 1).write(&file).unwrap();
        let read = Run::read(&file);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(read.unwrap().scenarios.get("get").map(Vec::len), Some(1));
        assert!(Run::read(&file).unwrap_err().to_string().starts_with("cannot read"));
    }

    #[test]
    fn a_page_holds_every_case() {
        let page = html(&[run("one", 100, 4), run("<two>", 400, 1)]);
        assert!(page.contains("1 connection") && page.contains("&lt;two&gt;") && !page.contains("<two>"), "{page}");
    }
}
