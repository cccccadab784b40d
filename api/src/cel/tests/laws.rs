//! For expressions and inputs of chance: no panic, and no cost over the budget.

use super::{activation, env, input};
use crate::cel::{Budget, Fault};

/// Numbers of chance from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}

/// An expression that is mostly well-typed.
fn expression(chance: &mut Chance, depth: usize) -> String {
    const LEAVES: &[&str] = &[
        "n",
        "text",
        "list",
        "map",
        "strings",
        "object",
        "spec.replicas",
        "spec.name",
        "spec.since",
        "spec.wait",
        "1",
        "-1",
        "2u",
        "1.5",
        "'a'",
        "b'x'",
        "true",
        "null",
        "[]",
        "{}",
        "x",
        "object.metadata",
        "dyn(1)",
        "int",
        "''",
        "9223372036854775807",
        "duration('1s')",
        "optional.none()",
        "'%s %d'",
        "quantity('1')",
        "object.list",
    ];
    if depth == 0 {
        return chance.one(LEAVES).to_owned();
    }
    let e = |chance: &mut Chance| expression(chance, depth - 1);
    match chance.below(12) {
        0 => chance.one(LEAVES).to_owned(),
        1 | 2 => {
            let operator = chance.one(&["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "in", "&&", "||"]);
            format!("({} {operator} {})", e(chance), e(chance))
        }
        3 => format!("({} ? {} : {})", e(chance), e(chance), e(chance)),
        4 | 5 => {
            let name = chance.one(&["all", "exists", "exists_one", "map", "filter", "sortBy"]);
            format!("{}.{name}(x, {})", e(chance), e(chance))
        }
        6 => {
            let name = chance.one(&["transformList", "transformMap", "all", "transformMapEntry"]);
            format!("{}.{name}(x, y, {})", e(chance), e(chance))
        }
        7 => {
            const NAMES: &[&str] = &[
                "size",
                "sum",
                "max",
                "isSorted",
                "trim",
                "sort",
                "reverse",
                "distinct",
                "flatten",
                "getHours",
                "hasValue",
                "value",
                "asInteger",
                "join",
                "first",
            ];
            format!("{}.{}()", e(chance), chance.one(NAMES))
        }
        8 => {
            const NAMES: &[&str] = &[
                "contains",
                "startsWith",
                "matches",
                "split",
                "format",
                "indexOf",
                "orValue",
                "or",
                "charAt",
                "substring",
                "find",
                "findAll",
                "add",
                "lastIndexOf",
                "flatten",
                "join",
            ];
            format!("{}.{}({})", e(chance), chance.one(NAMES), e(chance))
        }
        9 => {
            let name = chance.one(&["int", "string", "double", "uint", "type", "size", "dyn", "bytes", "optional.of"]);
            format!("{name}({})", e(chance))
        }
        10 => match chance.below(4) {
            0 => format!("[{}, {}]", e(chance), e(chance)),
            1 => format!("{{{}: {}}}", e(chance), e(chance)),
            2 => format!("{}[{}]", e(chance), e(chance)),
            _ => format!("{}[?{}]", e(chance), e(chance)),
        },
        _ => match chance.below(4) {
            0 => format!("cel.bind(x, {}, {})", e(chance), e(chance)),
            1 => format!("dyn({})", e(chance)),
            2 => format!("{}.?name", e(chance)),
            _ => format!("has({}.name)", e(chance)),
        },
    }
}

#[test]
fn expressions_of_chance() {
    let seed = 0x05ee_dce1_u64;
    println!("seed {seed:#x}");
    let mut chance = Chance(seed);
    let (env, input) = (env(), input());
    let activation = activation(&env, &input);
    let mut compiled = 0;
    for round in 0..6_000 {
        let depth = 1 + chance.below(4);
        let source = expression(&mut chance, depth);
        let Ok(program) = env.compile(&source) else { continue };
        compiled += 1;
        let per_call = 2_000;
        let mut budget = Budget { per_call, left: 1_000_000, stop: None };
        let outcome = program.evaluate(&activation, &mut budget);
        let cost = 1_000_000 - budget.left;
        let over = cost > per_call;
        assert_eq!(
            over,
            matches!(outcome, Err(Fault::CallLimit)) && cost > per_call,
            "round {round}: {source} cost {cost}"
        );
        let Ok(value) = outcome else { continue };
        // What the checker knows holds, where it need not trust values that it does not know.
        if source.contains("object") || source.contains("dyn") || source.contains("null") {
            continue;
        }
        let t = program.result();
        let fits = t.is_dyn() || t.name() == value.type_name();
        assert!(fits, "round {round}: {source} is {t} and gave {}", value.type_name());
    }
    assert!(compiled > 300, "only {compiled} compiled");
}

#[test]
fn texts_of_chance() {
    let seed = 0x0ce1_5eed_u64;
    println!("seed {seed:#x}");
    let mut chance = Chance(seed);
    let env = env();
    const PARTS: &[&str] = &[
        "n", "(", ")", "[", "]", "{", "}", ".", "?", ":", ",", "'", "\"", "\\", "`", "r'", "b'", "'''", "1", "0x",
        "1.", "e5", "u", "-", "!", "&&", "|", "in", "has", "all", "x", " ", "\n", "//", "\u{e9}", "@", "true", "for",
        "list",
    ];
    for _ in 0..10_000 {
        let length = chance.below(12);
        let source: String = (0..length).map(|_| chance.one(PARTS)).collect();
        let _ = env.compile(&source);
    }
}

#[test]
fn patterns_of_chance() {
    let seed = 0x000a_bcde_u64;
    println!("seed {seed:#x}");
    let mut chance = Chance(seed);
    const PARTS: &[&str] = &[
        "a",
        "\\d",
        "[",
        "]",
        "^",
        "-",
        "\\",
        "{2}",
        "{",
        "1,2}",
        "(",
        ")",
        "*",
        "&",
        "~",
        ":",
        "[:alpha:]",
        "\\Q",
        "\\E",
        "\u{e9}",
        "|",
    ];
    for _ in 0..5_000 {
        let length = chance.below(8);
        let pattern: String = (0..length).map(|_| chance.one(PARTS)).collect();
        let _ = crate::cel::pattern::compile(&pattern).map(|found| found.is_match("a5"));
    }
}
