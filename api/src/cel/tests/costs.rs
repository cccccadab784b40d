//! What expressions cost, and where that ends.

use super::{activation, env, evaluated, input};
use crate::cel::{Budget, Fault};

#[test]
fn steps() {
    for (source, want) in [
        ("1 + 2", 1),
        ("n", 1),
        ("spec.name", 2),
        ("object.metadata.labels['x']", 4),
        ("has(object.metadata.name)", 2),
        ("has(spec.name)", 1),
        ("n == 7", 2),
        ("text == 'h'", 2),
        ("[1, 2, 3]", 0),
        ("[n]", 11),
        ("{'a': n}", 31),
        ("n in [1, 2, 3]", 1),
        ("n in list", 5),
        ("duration('1h')", 0),
        ("true && n == 7", 2),
        ("n == 7 ? n : 3", 2),
        ("(n == 7 ? object : object).metadata", 3),
        ("{'a': 1}.a", 2),
        ("list[n - 7]", 4),
        ("list[n - 7 == 0 ? n - 6 : 0]", 6),
        ("list.all(x, x > 0)", 1 + 3 * (2 + 1 + 2) + 1),
        ("list.exists(x, x > 9)", 1 + 3 * (3 + 1 + 2) + 1),
        ("list.map(x, x)", 1 + 3 * (1 + 11 + 1) + 1),
        ("list.filter(x, x > 9)", 1 + 3 * 2 + 1),
        ("list.exists_one(x, x == 1)", 1 + 3 * 2 + 2 + 1 + 1),
        ("cel.bind(x, n, x + x)", 1 + 2 + 1),
        ("text.startsWith('a')", 2),
        ("text.contains('a')", 2),
        ("text.matches('aaaaaaaa')", 1 + 2),
        ("text + text", 3),
        ("list.sum()", 4),
        ("strings.isSorted()", 1),
        ("list.sort()", 1 + 18 + 11),
        ("quantity('1Gi') == quantity('1Gi')", 3),
        ("object.?metadata.?name", 3),
        ("object.?nothing.?name", 1),
        ("object.?metadata.orValue({})", 2),
    ] {
        let (value, cost) = evaluated(source);
        assert_eq!(cost, want, "{source} = {value}");
    }
}

#[test]
fn limits() {
    let (env, input) = (env(), input());
    let activation = activation(&env, &input);
    let run = |source: &str, budget: &mut Budget<'_>| env.compile(source).unwrap().evaluate(&activation, budget);
    // 20 lists inside each other, three to the twentieth rounds.
    let many = (0..20).fold("true".to_owned(), |inner, i| format!("list.all(x{i}, {inner})"));
    let mut budget = Budget::admission();
    assert_eq!(run(&many, &mut budget).unwrap_err(), Fault::CallLimit);
    assert!(budget.left >= 10_000_000 - 1_000_100 && budget.left <= 9_000_000, "{}", budget.left);
    let mut budget = Budget { per_call: u64::MAX, left: 1000, stop: None };
    assert_eq!(run("lists.range(2000).all(x, x >= 0)", &mut budget).unwrap_err(), Fault::Budget);
    assert_eq!(budget.left, 0);
    assert_eq!(run("true", &mut budget).unwrap().to_json().unwrap(), true);
    let stop = || true;
    let mut budget = Budget { stop: Some(&stop), ..Budget::admission() };
    assert_eq!(run("lists.range(50).all(x, true)", &mut budget).unwrap().to_json().unwrap(), true);
    assert_eq!(run("lists.range(500).all(x, true)", &mut budget).unwrap_err(), Fault::Interrupted);
    assert_eq!(Fault::CallLimit.to_string(), "operation cancelled: actual cost limit exceeded");
}

#[test]
fn what_would_be_huge_is_not_made() {
    let doubled = |inner: &str, step: &str| {
        (0..60).rev().fold(inner.to_owned(), |inner, i| {
            format!("cel.bind(x{}, {}, {inner})", i + 1, step.replace('x', &format!("x{i}")))
        })
    };
    for source in [
        "lists.range(9223372036854775807)".to_owned(),
        format!("cel.bind(x0, [n], {})", doubled("x60 == x60", "x + x")),
        format!("cel.bind(x0, [n], {})", doubled("x60 == x60", "[x, x]")),
        format!("cel.bind(x0, [n], {})", doubled("x60.all(y, true)", "x + x")),
        format!("cel.bind(x0, text, {})", doubled("x60", "x + x")),
        format!("cel.bind(x0, text, {})", doubled("x60", "x.replace('', x)")),
        format!("cel.bind(x0, [n], {})", doubled("x60.sort()", "x + x")),
        format!("cel.bind(x0, [n], {})", doubled("'%s'.format([x60])", "[x, x]")),
    ] {
        let (value, _) = evaluated(&source);
        assert_eq!(value, "fault: operation cancelled: actual cost limit exceeded", "{}", &source[..60]);
    }
}

#[test]
fn estimates_of_device_selectors() {
    use crate::cel::environments::device;
    let (plain, lists) = (device(true, false), device(true, true));
    // Figures of Kubernetes v1.36.
    for (lists_on, source, want) in [
        (false, "true", 0),
        (false, "\"no-such-domain\" in device.attributes", 3),
        (false, "device.driver == \"\"", 2),
        (false, "device.driver == \"dra.example.com\"", 4),
        (false, "device.attributes[\"no-such-domain\"].noSuchAttr.isGreaterThan(quantity(\"0\"))", 6),
        (false, "device.attributes[\"dra.example.com\"].name", 4),
        (false, "device.attributes[\"dra.example.com\"][\"name\"]", 4),
        (false, "cel.bind(dra, device.attributes[\"dra.example.com\"], dra.name)", 15),
        (false, "device.attributes[\"dra.example.com\"].name > 0", 5),
        (false, "device.attributes[\"dra.example.com\"].name == \"fish\"", 5),
        (true, "device.attributes[\"dra.example.com\"].name.exists(x, x > 0)", 389),
        (true, "device.attributes[\"dra.example.com\"].names.size() == 2", 6),
        (true, "device.attributes[\"dra.example.com\"].names.all(x, x != \"\")", 261),
        (true, "device.attributes[\"dra.example.com\"].names.all(x, x.isGreaterThan(semver(\"0.0.1\")))", 389),
        (true, "device.attributes[\"dra.example.com\"].name.includes(true)", 52),
        (true, "device.attributes[\"dra.example.com\"].name.includes(semver(\"1.0.0\"))", 53),
        (true, "1 in device.attributes[\"dra.example.com\"].names", 68),
        (false, "device.attributes[\"dra.example.com\"].name.isGreaterThan(semver(\"0.0.1\"))", 6),
        (
            false,
            "device.attributes[\"dra.example.com\"].name.isGreaterThan(semver(\"v0.0.1\", true)) && isSemver(\"v1.0.0\", true)",
            7,
        ),
        (false, "device.capacity[\"dra.example.com\"].name.isGreaterThan(quantity(\"1Ki\"))", 6),
        (
            false,
            "!(\"name\" in device.capacity[\"dra.example.com\"]) || device.capacity[\"dra.example.com\"].name.isGreaterThan(quantity(\"1Ki\"))",
            11,
        ),
        (false, "device.attributes.exists_one(x, x == \"dra.example.com\")", 164),
        (false, "device.attributes[\"dra.example.com\"].exists_one(x, x == \"services\")", 133),
        (false, "device.attributes[\"dra.example.com\"].services.split(\"example\").size() >= 2", 19),
        (false, "device.attributes[\"dra.example.com\"].services.matches(\"[^a]?sym\")", 18),
        (false, "device.capacity.exists_one(x, x == \"dra.example.com\")", 164),
        (false, "device.capacity[\"dra.example.com\"].exists_one(x, x == \"memory\")", 133),
    ] {
        let env = if lists_on { &lists } else { &plain };
        let program = env.compile(source).unwrap_or_else(|errors| panic!("{source}: {errors}"));
        assert_eq!(program.most(), want, "{source}");
    }
}

#[test]
fn estimates_of_literals() {
    let env = env();
    for (source, want) in [
        ("[1, 2, 3, 4, 5].sum()", 15),
        ("[uint(1), uint(2), uint(3), uint(4), uint(5)].sum()", 20),
        ("object.x.map(y, y)", u64::MAX),
    ] {
        assert_eq!(env.compile(source).unwrap().most(), want, "{source}");
    }
}

#[test]
fn deep_expressions_need_no_deep_stack() {
    let sum = format!("{}n{}", "(".repeat(240), " + 1)".repeat(240));
    let folds = (0..100).fold("true".to_owned(), |inner, i| format!("[1].all(x{i}, {inner})"));
    let lists = format!("{}1{}", "[".repeat(240), "]".repeat(240));
    for (source, wanted) in [(sum, "247".to_owned()), (folds, "true".to_owned()), (lists.clone(), lists)] {
        assert_eq!(evaluated(&source).0, wanted);
    }
}
