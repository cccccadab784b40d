//! What the compiler cannot see: every file in a registered folder has its line, crates use only those below them, files stay small and
//! say what they are for, banned words stay out. Each check is a pure function over texts; nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use crate::repo;

/// Lines a file may have before its tests.
const LIMIT: usize = 800;

/// Files that are longer, with the length they may have. The list only shrinks: a file that got shorter lowers its number here.
const LONGER: &[(&str, usize)] = &[];

/// Folders in which one more file needs one more line in the table beside them.
const TABLES: &[(&str, &str)] = &[
    ("api/src/kinds", "api/src/kinds.rs"),
    ("bench/src/scenarios", "bench/src/scenarios.rs"),
    ("admission/src/plugins", "admission/src/plugins.rs"),
    ("controllers/src/controllers", "controllers/src/controllers.rs"),
    ("scheduler/src/plugins", "scheduler/src/plugins.rs"),
];

/// Which of our crates each may use outside its tests.
const GRAPH: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("storage", &[]),
    ("admission", &["api"]),
    ("openapi", &["api"]),
    ("apiserver", &["admission", "api", "openapi", "storage"]),
    ("controllers", &["api"]),
    ("scheduler", &["api"]),
    ("kubelet", &["api"]),
    ("proxy", &["api"]),
    ("dns", &["proxy"]),
    (
        "cli",
        &["admission", "api", "apiserver", "controllers", "dns", "kubelet", "openapi", "proxy", "scheduler", "storage"],
    ),
    ("e2e", &[]),
    ("bench", &[]),
    ("xtask", &[]),
];

/// Words that no Rust file holds, with what to do instead. Written in two halves so that this file holds none either.
const BANNED: &[(&str, &str)] = &[
    (concat!("#[", "ignore"), "a test that cannot run here says so in one line and returns"),
    (concat!("#[", "should_panic"), "compare the error that is returned"),
    (concat!("todo", "!("), "write it"),
    (concat!("unimplemented", "!("), "write it"),
    (concat!("dbg", "!("), "trace it"),
];

/// Runs every check and prints what is wrong, all of it, one line each.
pub(crate) fn tidy() -> Result<()> {
    let problems = problems()?;
    for problem in &problems {
        eprintln!("{problem}");
    }
    ensure!(problems.is_empty(), "{} problems of tidiness", problems.len());
    Ok(())
}

fn problems() -> Result<Vec<String>> {
    let mut sources = BTreeMap::new();
    for file in repo::rust_files()? {
        let text = repo::read(&file)?;
        sources.insert(file, text);
    }
    let mut out = Vec::new();
    for (file, text) in &sources {
        out.extend(words(file, text));
    }
    out.extend(lengths(&sources, LONGER));
    for (folder, table) in TABLES {
        out.extend(unlisted(folder, table, &sources));
    }
    out.extend(engines(&sources));
    out.extend(graph(&repo::output(env!("CARGO"), &["metadata", "--no-deps", "--offline", "--format-version", "1"])?)?);
    if !repo::read("CHANGELOG.md")?.lines().any(|line| line.starts_with("## ") && line.contains("Unreleased")) {
        out.push("CHANGELOG.md: has no section Unreleased".to_owned());
    }
    Ok(out)
}

/// The header that says what the file is for, and the banned words.
fn words(file: &str, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if !text.starts_with("//! ") {
        out.push(format!("{file}:1: does not begin with `//!` and what the file is for"));
    }
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        for (word, instead) in BANNED {
            if code.contains(word) {
                out.push(format!("{file}:{}: `{word}` is banned: {instead}", number + 1));
            }
        }
    }
    out
}

/// Lines before the file's own tests.
fn length(text: &str) -> usize {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()
}

fn lengths(sources: &BTreeMap<String, String>, longer: &[(&str, usize)]) -> Vec<String> {
    let mut out = Vec::new();
    let tests = |file: &str| file.ends_with("/tests.rs") || file.ends_with("_tests.rs") || file.contains("/tests/");
    for (file, text) in sources.iter().filter(|(file, _)| !tests(file)) {
        let lines = length(text);
        let allowed = longer.iter().find(|(name, _)| name == file).map(|(_, lines)| *lines);
        match allowed {
            None if lines > LIMIT => out.push(format!("{file}: {lines} lines before its tests; {LIMIT} are allowed")),
            Some(allowed) if lines > allowed => out.push(format!("{file}: grew from {allowed} to {lines} lines")),
            Some(allowed) if lines <= LIMIT || lines < allowed => {
                out.push(format!("{file}: shrank to {lines} lines; lower its line in hack/src/tidy.rs"));
            }
            _ => {}
        }
    }
    for (file, _) in longer {
        if !sources.contains_key(*file) {
            out.push(format!("{file}: is gone; remove its line from hack/src/tidy.rs"));
        }
    }
    out
}

/// The words of a table outside comments; inside `group { … }` only, where a group is given and the table has such a block.
fn table_words(table: &str, group: Option<&str>) -> BTreeSet<String> {
    let code: String =
        table.lines().map(|line| line.split("//").next().unwrap_or(line)).fold(String::new(), |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        });
    let part = match group {
        None => Some(code.as_str()),
        Some(group) => code.split_once(&format!("{group} {{")).and_then(|(_, rest)| rest.split('}').next()),
    };
    part.unwrap_or_default().split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect()
}

/// Whether a line of `text` declares the module `name`, whatever its visibility.
fn declares(text: &str, name: &str) -> bool {
    let end = format!("mod {name};");
    text.lines()
        .filter_map(|line| line.trim().strip_suffix(&end))
        .any(|before| before.is_empty() || before.starts_with("pub"))
}

/// The files below `folder` that no line registers. A file directly in it must be named in the table; one in a folder of it in the
/// table's block of that name, or declared by a module of that folder.
fn unlisted(folder: &str, table: &str, sources: &BTreeMap<String, String>) -> Vec<String> {
    let Some(text) = sources.get(table) else {
        return vec![format!("{table}: the table of {folder} is gone")];
    };
    let mut out = Vec::new();
    let mut seen = 0;
    for file in sources.keys() {
        let Some(inner) = file.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) else { continue };
        seen += 1;
        let parts: Vec<&str> = inner.trim_end_matches(".rs").split('/').collect();
        let listed = match parts.as_slice() {
            [name] | [name, "mod"] => table_words(text, None).contains(*name),
            [group, name] => {
                let (beside, inside) = (format!("{folder}/{group}.rs"), format!("{folder}/{group}/"));
                let modules = sources.iter().filter(|(file, _)| **file == beside || file.starts_with(&inside));
                table_words(text, Some(group)).contains(*name)
                    || modules.into_iter().any(|(_, text)| declares(text, name))
            }
            _ => true, // deeper files belong to the file that declares them; rustc finds those that nothing declares no better
        };
        if !listed {
            out.push(format!("{file}: no line of {table} registers it"));
        }
    }
    if seen == 0 {
        out.push(format!("{folder}: is empty, and {table} is its table"));
    }
    out
}

/// Every storage engine, which is what implements `Kv` in a file of its own, is in the table of engines.
fn engines(sources: &BTreeMap<String, String>) -> Vec<String> {
    const TABLE: &str = "storage/src/engines.rs";
    let Some(table) = sources.get(TABLE).map(|text| table_words(text, None)) else {
        return vec![format!("{TABLE}: the table of storage engines is gone")];
    };
    let mut out = Vec::new();
    // The laws bend engines to see what holds; nobody opens one of those.
    let engine = |file: &str| file.starts_with("storage/src/") && !file.starts_with("storage/src/laws/");
    for (file, text) in sources.iter().filter(|(file, _)| engine(file)) {
        let code: Vec<&str> = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).collect();
        for name in code.iter().filter_map(|line| line.strip_prefix("impl Kv for ")) {
            let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            if !table.contains(name) {
                out.push(format!("{file}: no line of {TABLE} registers {name}"));
            }
        }
    }
    out
}

/// Uses of one of our crates by another that [`GRAPH`] does not allow, from the text of `cargo metadata`. Tests may use more.
fn graph(metadata: &str) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
        dependencies: Vec<Dependency>,
    }
    #[derive(serde::Deserialize)]
    struct Dependency {
        name: String,
        kind: Option<String>,
        path: Option<String>,
    }
    let metadata: Metadata = serde_json::from_str(metadata)?;
    let mut out = Vec::new();
    for package in &metadata.packages {
        let Some((_, allowed)) = GRAPH.iter().find(|(name, _)| *name == package.name) else {
            out.push(format!("{}: has no line in the graph of crates in hack/src/tidy.rs", package.name));
            continue;
        };
        let ours = |used: &&Dependency| used.path.is_some() && used.kind.as_deref() != Some("dev");
        for used in package.dependencies.iter().filter(ours) {
            if !allowed.contains(&used.name.as_str()) {
                out.push(format!("{}: may not use {}", package.name, used.name));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_is_tidy() {
        let problems = problems().unwrap();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    fn tree(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_file_without_its_line_is_named() {
        let table = "//! Table of pods.\npub mod shared;\nkinds! {\n    core_v1 {\n        pod,\n        // node,\n    }\n    apps_v1 {\n        event,\n    }\n}\n";
        let check = |file: &str, listed: bool| {
            let sources = tree(&[("a/kinds.rs", table), ("a/kinds/shared/mod.rs", "pub mod names;\n"), (file, "")]);
            assert_eq!(unlisted("a/kinds", "a/kinds.rs", &sources).is_empty(), listed, "{file}");
        };
        check("a/kinds/core_v1/pod.rs", true);
        check("a/kinds/core_v1/node.rs", false);
        check("a/kinds/core_v1/event.rs", false);
        check("a/kinds/apps_v1/event.rs", true);
        check("a/kinds/batch_v1/job.rs", false);
        check("a/kinds/shared/names.rs", true);
        check("a/kinds/shared/labels.rs", false);
        let sources = tree(&[
            ("a/kinds.rs", table),
            ("a/kinds/core_v1/pod.rs", "use super::node; // node\n    pub(crate) mod tests;\n"),
            ("a/kinds/core_v1/tests.rs", ""),
            ("a/kinds/core_v1/node.rs", ""),
        ]);
        let named = ["a/kinds/core_v1/node.rs: no line of a/kinds.rs registers it"];
        assert_eq!(unlisted("a/kinds", "a/kinds.rs", &sources), named, "a word is no declaration");
        check("a/kinds/lonely.rs", false);
        assert_eq!(unlisted("b", "b.rs", &tree(&[])), ["b.rs: the table of b is gone"]);
        assert_eq!(unlisted("b", "b.rs", &tree(&[("b.rs", "")])), ["b: is empty, and b.rs is its table"]);
    }

    #[test]
    fn an_engine_without_its_line_is_named() {
        let check = |source: &str, want: &[&str]| {
            let sources = tree(&[("storage/src/engines.rs", "use crate::sim::Sim;"), ("storage/src/other.rs", source)]);
            assert_eq!(engines(&sources), want, "{source}");
        };
        check("impl Kv for Sim {", &[]);
        check("impl Kv for Other {", &["storage/src/other.rs: no line of storage/src/engines.rs registers Other"]);
        check("#[cfg(test)]\nimpl Kv for Other {", &[]);
    }

    #[test]
    fn long_files_and_stale_allowances_are_named() {
        let long = "x\n".repeat(LIMIT + 1);
        let check = |text: &str, longer: &[(&str, usize)], want: &[&str]| {
            assert_eq!(lengths(&tree(&[("a.rs", text)]), longer), want);
        };
        check(&long, &[], &["a.rs: 801 lines before its tests; 800 are allowed"]);
        check(&long, &[("a.rs", 801)], &[]);
        check(&long, &[("a.rs", 900)], &["a.rs: shrank to 801 lines; lower its line in hack/src/tidy.rs"]);
        check("x\n", &[("a.rs", 900)], &["a.rs: shrank to 1 lines; lower its line in hack/src/tidy.rs"]);
        check("x\n", &[("b.rs", 900)], &["b.rs: is gone; remove its line from hack/src/tidy.rs"]);
        check(&format!("x\n#[cfg(test)]\n{long}"), &[], &[]);
        assert!(lengths(&tree(&[("a/tests.rs", &long), ("a/tests/b.rs", &long)]), &[]).is_empty());
    }

    #[test]
    fn headers_and_words() {
        assert!(words("a.rs", "//! For a.\nfn a() {} // todo!() in a comment\n").is_empty());
        assert_eq!(words("a.rs", "fn a() {}\n"), ["a.rs:1: does not begin with `//!` and what the file is for"]);
        let text = format!("//! A.\n    {}]\n", concat!("#[", "ignore"));
        assert_eq!(words("a.rs", &text).len(), 1);
    }

    #[test]
    fn forbidden_uses_are_named_and_tests_may_more() {
        let package =
            |name: &str, uses: &str| format!(r#"{{"packages":[{{"name":"{name}","dependencies":[{uses}]}}]}}"#);
        let check = |name: &str, uses: &str, want: &[&str]| assert_eq!(graph(&package(name, uses)).unwrap(), want);
        check("kubelet", r#"{"name":"api","kind":null,"path":"/api"},{"name":"serde","kind":null}"#, &[]);
        check("kubelet", r#"{"name":"storage","kind":null,"path":"/storage"}"#, &["kubelet: may not use storage"]);
        check("kubelet", r#"{"name":"storage","kind":"dev","path":"/storage"}"#, &[]);
        check("kubelet", r#"{"name":"storage","kind":"build","path":"/storage"}"#, &["kubelet: may not use storage"]);
        check("novel", "", &["novel: has no line in the graph of crates in hack/src/tidy.rs"]);
    }
}
