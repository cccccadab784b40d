//! What functions there are: signatures, read from short texts, and the code behind them.
//!
//! One line is `name overload (arguments) result`, a dot before the name says that it is called on its first argument,
//! `{T}` with types behind `|` repeats the line. Never evaluates.

use super::eval::{Call, Outcome};
use super::types::{Type, split};
use super::value::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// The code of a function: all overloads of a library under one name, told apart by their arguments.
pub(crate) type Code = for<'a> fn(&Call<'_>, &[Value<'a>]) -> Outcome<Value<'a>>;

/// A set of functions that is turned on as a whole.
pub(crate) struct Library {
    /// Kubernetes' minor version that brought it to all expressions; `None` where each environment asks for it.
    pub(crate) since: Option<u32>,
    pub(crate) signatures: &'static str,
    pub(crate) code: &'static [(&'static str, Code)],
}

/// One way to call a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub(crate) id: Arc<str>,
    pub(crate) member: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
}

impl Overload {
    /// Names of the type parameters.
    pub(crate) fn params(&self) -> Vec<Arc<str>> {
        let mut found = Vec::new();
        for t in self.args.iter().chain([&self.result]) {
            gather(t, &mut found);
        }
        found
    }
}

fn gather(t: &Type, found: &mut Vec<Arc<str>>) {
    match t {
        Type::Param(name) if !found.contains(name) => found.push(name.clone()),
        Type::List(of) | Type::Type(Some(of)) => gather(of, found),
        Type::Map(pair) => {
            gather(&pair.0, found);
            gather(&pair.1, found);
        }
        Type::Opaque(_, params) => params.iter().for_each(|param| gather(param, found)),
        _ => {}
    }
}

/// All that goes by one name.
pub(crate) struct Function {
    pub(crate) name: Arc<str>,
    pub(crate) overloads: Vec<Overload>,
    pub(crate) code: Vec<Code>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Functions by name.
pub(crate) type Functions = HashMap<Arc<str>, Arc<Function>>;

/// Puts the functions of libraries together.
pub(crate) fn functions<'a>(libraries: impl Iterator<Item = &'a Library>) -> Functions {
    let mut made: HashMap<Arc<str>, Function> = HashMap::new();
    let empty = |name: Arc<str>| Function { name, overloads: Vec::new(), code: Vec::new() };
    for library in libraries {
        for line in library.signatures.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (pattern, types) = line.split_once(" | ").unwrap_or((line, ""));
            let types: Vec<&str> = if types.is_empty() { vec![""] } else { types.split_whitespace().collect() };
            for t in types {
                // `int64=int`: the word in the overload's name, and the type.
                let (word, t) = t.split_once('=').unwrap_or((t, t));
                let line = pattern.replace("{N}", word).replace("{T}", t);
                let Some((name, overload)) = signature(&line) else {
                    debug_assert!(false, "not a signature: {line}");
                    continue;
                };
                let name: Arc<str> = name.into();
                made.entry(name.clone()).or_insert_with(|| empty(name)).overloads.push(overload);
            }
        }
        for (name, code) in library.code {
            let name: Arc<str> = (*name).into();
            made.entry(name.clone()).or_insert_with(|| empty(name)).code.push(*code);
        }
    }
    made.into_iter().map(|(name, function)| (name, Arc::new(function))).collect()
}

fn signature(line: &str) -> Option<(&str, Overload)> {
    let (name, rest) = line.trim().split_once(' ')?;
    let (id, rest) = rest.trim().split_once(' ')?;
    let rest = rest.trim().strip_prefix('(')?;
    let end = closing(rest)?;
    let args = split(rest.get(..end)?).into_iter().map(Type::read).collect();
    let result = Type::read(rest.get(end + 1..)?);
    let member = name.starts_with('.');
    let name = if member { name.get(1..)? } else { name };
    Some((name, Overload { id: id.into(), member, args, result }))
}

/// Where the parenthesis that is open at the start closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.char_indices().find_map(|(at, c)| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        (depth == 0).then_some(at)
    })
}
