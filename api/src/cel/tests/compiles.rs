//! What does not compile, and how that is said.

use super::env;

fn check(table: &[(&str, &str)]) {
    let env = env();
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(source, want)| {
            let got = env.compile(source).map_or_else(|errors| errors.to_string(), |_| "compiles".to_owned());
            (got != *want).then(|| format!("{source}\n   wanted {want}\n   got    {got}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn types() {
    check(&[
        ("x", "ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x\n | ^"),
        ("n +\n  y", "ERROR: <input>:2:3: undeclared reference to 'y' (in container '')\n |   y\n | ..^"),
        ("foo(1)", "ERROR: <input>:1:4: undeclared reference to 'foo' (in container '')\n | foo(1)\n | ...^"),
        ("n.foo()", "ERROR: <input>:1:6: undeclared reference to 'foo' (in container '')\n | n.foo()\n | .....^"),
        (
            "n + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | n + 'a'\n | ..^",
        ),
        (
            "n == 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, string)'\n | n == 'a'\n | ..^",
        ),
        (
            "n == null",
            "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, null)'\n | n == null\n | ..^",
        ),
        (
            "text.size('a')",
            "ERROR: <input>:1:10: found no matching overload for 'size' applied to 'string.(string)'\n | text.size('a')\n | .........^",
        ),
        ("spec.missing", "ERROR: <input>:1:5: undefined field 'missing'\n | spec.missing\n | ....^"),
        ("n.x", "ERROR: <input>:1:2: type 'int' does not support field selection\n | n.x\n | .^"),
        ("n && true", "ERROR: <input>:1:1: expected type 'bool' but found 'int'\n | n && true\n | ^"),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("[1, dyn('a')]", "ERROR: <input>:1:8: expected type 'int' but found 'dyn'\n | [1, dyn('a')]\n | .......^"),
        (
            "{'a': 1, 'b': 'c'}",
            "ERROR: <input>:1:15: expected type 'int' but found 'string'\n | {'a': 1, 'b': 'c'}\n | ..............^",
        ),
        (
            "n ? 1 : 2",
            "ERROR: <input>:1:3: found no matching overload for '_?_:_' applied to '(int, int, int)'\n | n ? 1 : 2\n | ..^",
        ),
        (
            "list.map(x, x + 'a')",
            "ERROR: <input>:1:15: found no matching overload for '_+_' applied to '(int, string)'\n | list.map(x, x + 'a')\n | ..............^",
        ),
        (
            "list.all(x, x)",
            "ERROR: <input>:1:13: expected type 'bool' but found 'int'\n | list.all(x, x)\n | ............^",
        ),
        (
            "list.all(1, true)",
            "ERROR: <input>:1:10: argument must be a simple name\n | list.all(1, true)\n | .........^",
        ),
        (
            "list.map(1, true)",
            "ERROR: <input>:1:10: argument is not an identifier\n | list.map(1, true)\n | .........^",
        ),
        ("has(n)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(n)\n | ....^"),
        ("duration('x')", "ERROR: <input>:1:10: invalid duration argument\n | duration('x')\n | .........^"),
        (
            "timestamp('x') == timestamp(0)",
            "ERROR: <input>:1:11: invalid timestamp argument\n | timestamp('x') == timestamp(0)\n | ..........^",
        ),
        ("text.matches('(')", "ERROR: <input>:1:14: invalid matches argument\n | text.matches('(')\n | .............^"),
        (
            "JSONPatch{nothing: 1}",
            "ERROR: <input>:1:18: undefined field 'nothing'\n | JSONPatch{nothing: 1}\n | .................^",
        ),
        (
            "JSONPatch{op: 1}",
            "ERROR: <input>:1:13: expected type of field 'op' is 'string' but provided type is 'int'\n | JSONPatch{op: 1}\n | ............^",
        ),
        (
            "Nothing{}",
            "ERROR: <input>:1:8: undeclared reference to 'Nothing' (in container '')\n | Nothing{}\n | .......^",
        ),
        (
            "list.transformMap(a, a, 1)",
            "ERROR: <input>:1:22: duplicate variable name: a\n | list.transformMap(a, a, 1)\n | .....................^",
        ),
        (
            "'\u{e9}\u{e9}' + n",
            "ERROR: <input>:1:6: found no matching overload for '_+_' applied to '(string, int)'\n | '\u{e9}\u{e9}' + n\n | .\u{ff0e}\u{ff0e}..^",
        ),
        ("object.x.y[0].startsWith(object.z) && dyn(n) == 'a'", "compiles"),
        ("object.metadata == null", "compiles"),
        (
            "x + y",
            "ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x + y\n | ^\nERROR: <input>:1:5: undeclared reference to 'y' (in container '')\n | x + y\n | ....^",
        ),
    ]);
}

#[test]
fn syntax() {
    let operand = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
    let at = |column: usize, what: &str, source: &str| {
        format!("ERROR: <input>:1:{column}: Syntax error: {what}\n | {source}\n | {}^", ".".repeat(column - 1))
    };
    let mismatched = |token: &str| format!("mismatched input '{token}' expecting {operand}");
    for (source, want) in [
        ("", format!("ERROR: <input>:1:0: Syntax error: {}", mismatched("<EOF>"))),
        ("1 +", at(4, &mismatched("<EOF>"), "1 +")),
        ("1 + +", format!("{}\n{}", at(5, &mismatched("+"), "1 + +"), at(6, &mismatched("<EOF>"), "1 + +"))),
        ("n m", at(3, "extraneous input 'm' expecting <EOF>", "n m")),
        ("n m x", at(3, "mismatched input 'm' expecting <EOF>", "n m x")),
        ("(n", at(3, "missing ')' at '<EOF>'", "(n")),
        ("n.", at(3, "no viable alternative at input '.'", "n.")),
        ("* n", at(1, &format!("extraneous input '*' expecting {operand}"), "* n")),
        ("n @", at(3, "token recognition error at: '@'", "n @")),
        (
            "'abc",
            format!("{}\n{}", at(1, "token recognition error at: ''abc'", "'abc"), at(5, &mismatched("<EOF>"), "'abc")),
        ),
        ("[1, 2", at(6, "mismatched input '<EOF>' expecting {']', ','}", "[1, 2")),
        ("for", "ERROR: <input>:1:1: reserved identifier: for\n | for\n | ^".to_owned()),
        ("9223372036854775808", "ERROR: <input>:1:1: invalid int literal\n | 9223372036854775808\n | ^".to_owned()),
    ] {
        let got = env().compile(source).map_or_else(|errors| errors.to_string(), |_| "compiles".to_owned());
        assert_eq!(got, want, "{source}");
    }
}

#[test]
fn sizes() {
    let said = |source: &str| env().compile(source).map_or_else(|errors| errors.to_string(), |_| "compiles".to_owned());
    assert_eq!(said(&"(".repeat(251)), "ERROR: <input>:-1:0: expression recursion limit exceeded: 250");
    assert_eq!(said(&format!("n{}", " + n".repeat(300))), "ERROR: <input>:-1:0: max recursion depth exceeded");
    assert_eq!(said(&format!("n == 1{}", " || n == 1".repeat(3000))), "compiles");
    assert_eq!(
        said(&" ".repeat(100_001)),
        "ERROR: <input>:-1:0: expression code point size exceeds limit: size: 100001, limit 100000"
    );
}
