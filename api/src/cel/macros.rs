//! The macros of CEL and of the libraries that Kubernetes turns on.
//!
//! Each becomes plain nodes and comprehensions; a call that only looks like one is given back as it was.

use super::ast::{Expr, Fold, Kind, Literal};
use super::parser::Parser;

/// The accumulator of comprehensions; no source can write it.
pub(crate) const ACCU: &str = "@result";
/// A variable that is never read.
const UNUSED: &str = "#unused";

/// Expands `name(args)`, or gives the arguments back.
pub(crate) fn global(p: &mut Parser, at: u32, name: &str, mut args: Vec<Expr>) -> Result<Expr, Vec<Expr>> {
    if name != "has" || args.len() != 1 {
        return Err(args);
    }
    let Some(arg) = args.pop() else { return Err(args) };
    let position = p.position(&arg);
    Ok(match arg.kind {
        Kind::Select { operand, field, .. } => p.made(at, Kind::Select { operand, field, test: true }),
        Kind::Error => p.made(at, Kind::Error),
        _ => p.report(position, "invalid argument to has() macro"),
    })
}

/// What a macro over a range does.
#[derive(Clone, Copy, PartialEq)]
enum Over {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformMap,
    TransformMapEntry,
}

/// Expands `target.name(args)`, or gives target and arguments back.
pub(crate) fn receiver(
    p: &mut Parser,
    at: u32,
    name: &str,
    target: Expr,
    args: Vec<Expr>,
) -> Result<Expr, (Expr, Vec<Expr>)> {
    let (over, two) = match (name, args.len()) {
        ("all", 2) => (Over::All, false),
        ("exists", 2) => (Over::Exists, false),
        ("exists_one" | "existsOne", 2) => (Over::ExistsOne, false),
        ("map", 2 | 3) => (Over::Map, false),
        ("filter", 2) => (Over::Filter, false),
        ("all", 3) => (Over::All, true),
        ("exists", 3) => (Over::Exists, true),
        ("exists_one" | "existsOne", 3) => (Over::ExistsOne, true),
        ("transformList", 3 | 4) => (Over::Map, true),
        ("transformMap", 3 | 4) => (Over::TransformMap, true),
        ("transformMapEntry", 3 | 4) => (Over::TransformMapEntry, true),
        ("optMap" | "optFlatMap", 2) if p.syntax.optional => return Ok(optional(p, at, name, target, args)),
        ("bind", 3) if p.syntax.bind && matches!(&target.kind, Kind::Ident(name) if name == "cel") => {
            return Ok(bind(p, at, args));
        }
        ("sortBy", 2) if p.syntax.sort_by => return Ok(sort_by(p, at, target, args)),
        _ => return Err((target, args)),
    };
    if two && !p.syntax.two_variables {
        return Err((target, args));
    }
    Ok(range(p, at, over, two, target, args))
}

fn ident(p: &mut Parser, at: u32, name: &str) -> Expr {
    p.made(at, Kind::Ident(name.to_owned()))
}

fn literal(p: &mut Parser, at: u32, literal: Literal) -> Expr {
    p.made(at, Kind::Literal(literal))
}

fn call(p: &mut Parser, at: u32, function: &str, args: Vec<Expr>) -> Expr {
    p.made(at, Kind::Call { target: None, function: function.to_owned(), args })
}

fn member(p: &mut Parser, at: u32, target: Expr, function: &str) -> Expr {
    let target = Some(Box::new(target));
    p.made(at, Kind::Call { target, function: function.to_owned(), args: Vec::new() })
}

fn list(p: &mut Parser, at: u32, elements: Vec<Expr>) -> Expr {
    p.made(at, Kind::List(elements.into_iter().map(|element| (element, false)).collect()))
}

/// The name of an iteration variable, or what is wrong with it.
fn variable(p: &Parser, arg: &Expr, otherwise: &'static str) -> Result<String, (u32, String)> {
    match &arg.kind {
        Kind::Ident(name) if name == ACCU || name == "__result__" => {
            Err((p.position(arg), "iteration variable overwrites accumulator variable".to_owned()))
        }
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err((p.position(arg), otherwise.to_owned())),
    }
}

fn range(p: &mut Parser, at: u32, over: Over, two: bool, target: Expr, args: Vec<Expr>) -> Expr {
    let said = match over {
        Over::Map | Over::Filter if !two => "argument is not an identifier",
        _ => "argument must be a simple name",
    };
    let mut args = args.into_iter();
    let Some(first) = args.next() else { return target };
    let names = variable(p, &first, said).and_then(|var| {
        if !two {
            return Ok((var, None));
        }
        let Some(second) = args.next() else { return Ok((var, None)) };
        let var2 = variable(p, &second, said)?;
        if var == var2 {
            return Err((p.position(&second), format!("duplicate variable name: {var}")));
        }
        Ok((var, Some(var2)))
    });
    let (var, var2) = match names {
        Ok(names) => names,
        Err((position, message)) => return p.report(position, message),
    };
    let rest: Vec<Expr> = args.collect();
    let fold = match over {
        Over::All | Over::Exists | Over::ExistsOne => quantifier(p, at, over, rest),
        Over::Map | Over::Filter | Over::TransformMap | Over::TransformMapEntry => {
            gathered(p, at, over, first, &var, rest)
        }
    };
    let Some((init, condition, step, result)) = fold else { return target };
    p.fold(at, Fold { range: target, var, var2, accu: ACCU.to_owned(), init, condition, step, result })
}

/// Start, condition, step and result.
type Parts = (Expr, Expr, Expr, Expr);

fn quantifier(p: &mut Parser, at: u32, over: Over, mut rest: Vec<Expr>) -> Option<Parts> {
    let predicate = rest.pop()?;
    let mut accu = || ident(p, at, ACCU);
    let (one, two, three) = (accu(), accu(), accu());
    Some(match over {
        Over::All => {
            let init = literal(p, at, Literal::Bool(true));
            let condition = call(p, at, "@not_strictly_false", vec![one]);
            (init, condition, call(p, at, "_&&_", vec![two, predicate]), three)
        }
        Over::Exists => {
            let init = literal(p, at, Literal::Bool(false));
            let not = call(p, at, "!_", vec![one]);
            let condition = call(p, at, "@not_strictly_false", vec![not]);
            (init, condition, call(p, at, "_||_", vec![two, predicate]), three)
        }
        _ => {
            let init = literal(p, at, Literal::Int(0));
            let condition = literal(p, at, Literal::Bool(true));
            let more = literal(p, at, Literal::Int(1));
            let more = call(p, at, "_+_", vec![one, more]);
            let step = call(p, at, "_?_:_", vec![predicate, more, two]);
            let once = literal(p, at, Literal::Int(1));
            (init, condition, step, call(p, at, "_==_", vec![three, once]))
        }
    })
}

fn gathered(p: &mut Parser, at: u32, over: Over, first: Expr, var: &str, mut rest: Vec<Expr>) -> Option<Parts> {
    let last = rest.pop()?;
    let accu = ident(p, at, ACCU);
    let condition = literal(p, at, Literal::Bool(true));
    let (init, step, filter) = match over {
        Over::TransformMap => {
            let key = ident(p, at, var);
            let step = call(p, at, "cel.@mapInsert", vec![accu, key, last]);
            (p.made(at, Kind::Map(Vec::new())), step, rest.pop())
        }
        Over::TransformMapEntry => {
            let step = call(p, at, "cel.@mapInsert", vec![accu, last]);
            (p.made(at, Kind::Map(Vec::new())), step, rest.pop())
        }
        _ => {
            let (element, filter) = if over == Over::Filter { (first, Some(last)) } else { (last, rest.pop()) };
            let added = list(p, at, vec![element]);
            (list(p, at, Vec::new()), call(p, at, "_+_", vec![accu, added]), filter)
        }
    };
    let step = match filter {
        None => step,
        Some(filter) => {
            let unchanged = ident(p, at, ACCU);
            call(p, at, "_?_:_", vec![filter, step, unchanged])
        }
    };
    let result = ident(p, at, ACCU);
    Some((init, condition, step, result))
}

/// A fold over nothing, which only names a value.
fn naming(p: &mut Parser, at: u32, name: String, value: Expr, expr: Expr) -> Expr {
    let range = list(p, at, Vec::new());
    let condition = literal(p, at, Literal::Bool(false));
    let step = ident(p, at, &name);
    let (var, var2, init, result) = (UNUSED.to_owned(), None, value, expr);
    p.fold(at, Fold { range, var, var2, accu: name, init, condition, step, result })
}

fn bind(p: &mut Parser, at: u32, args: Vec<Expr>) -> Expr {
    let mut args = args.into_iter();
    let (Some(name), Some(value), Some(expr)) = (args.next(), args.next(), args.next()) else {
        return p.made(at, Kind::Error);
    };
    match &name.kind {
        Kind::Ident(name) => naming(p, at, name.clone(), value, expr),
        _ => {
            let position = p.position(&name);
            p.report(position, "cel.bind() variable names must be simple identifiers")
        }
    }
}

fn optional(p: &mut Parser, at: u32, macro_name: &str, target: Expr, args: Vec<Expr>) -> Expr {
    let mut args = args.into_iter();
    let (Some(name), Some(expr)) = (args.next(), args.next()) else { return target };
    let Kind::Ident(var) = &name.kind else {
        let position = p.position(&name);
        return p.report(position, format!("{macro_name}() variable name must be a simple identifier"));
    };
    let var = var.clone();
    let copy = p.copy(&target);
    let value = member(p, at, copy, "value");
    let mapped = naming(p, at, var, value, expr);
    let present = if macro_name == "optMap" { call(p, at, "optional.of", vec![mapped]) } else { mapped };
    let absent = call(p, at, "optional.none", Vec::new());
    let condition = member(p, at, target, "hasValue");
    call(p, at, "_?_:_", vec![condition, present, absent])
}

/// `list.sortBy(e, key)`: the keys are worked out beside the list.
fn sort_by(p: &mut Parser, at: u32, target: Expr, args: Vec<Expr>) -> Expr {
    let sortable = matches!(
        target.kind,
        Kind::List(_) | Kind::Select { .. } | Kind::Ident(_) | Kind::Fold(_) | Kind::Call { .. } | Kind::Error
    );
    if !sortable {
        let position = p.position(&target);
        let said = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        return p.report(position, said);
    }
    const BOUND: &str = "@__sortBy_input__";
    let input = ident(p, at, BOUND);
    let keys = range(p, at, Over::Map, false, input, args);
    let input = Some(Box::new(ident(p, at, BOUND)));
    let sorted = Kind::Call { target: input, function: "@sortByAssociatedKeys".to_owned(), args: vec![keys] };
    let sorted = p.made(at, sorted);
    naming(p, at, BOUND.to_owned(), target, sorted)
}
