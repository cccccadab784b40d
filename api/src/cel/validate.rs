//! Checks of a typed expression that its types do not make: constants of functions, and elements of one type.
//!
//! Kubernetes turns these on for all expressions; the sentences are cel-go's.

use super::ast::{Expr, Kind, Reports, Source};
use super::check::Checked;
use super::format;
use super::types::Type;
use super::{pattern, time};

/// Reports what is wrong below a node.
pub(crate) fn validate(expr: &Expr, source: &Source, checked: &Checked, reports: &mut Reports) {
    walk(expr, source, checked, reports, false);
}

fn walk(expr: &Expr, source: &Source, checked: &Checked, reports: &mut Reports, exempt: bool) {
    let mut inner = exempt;
    match &expr.kind {
        Kind::Call { target, function, args } => {
            let literal = args.first().and_then(|arg| Some((arg, arg.text()?)));
            if let Some((arg, text)) = literal {
                let fine = match function.as_str() {
                    "duration" => time::parse_duration(text).is_some(),
                    "timestamp" => time::Timestamp::parse(text).is_some(),
                    "matches" => pattern::compile(text).is_ok(),
                    _ => true,
                };
                if !fine {
                    reports.at(source.position(arg.id), format!("invalid {function} argument"));
                }
            }
            if function == "format" {
                inner = true;
                if let (Some(target), [Expr { kind: Kind::List(list), .. }]) = (target, args.as_slice())
                    && let Some(text) = target.text()
                {
                    let args: Vec<&Expr> = list.iter().map(|(arg, _)| arg).collect();
                    formatted(expr, text, &args, source, checked, reports);
                }
            }
        }
        Kind::List(elements) if !exempt => {
            let types =
                elements.iter().map(|(element, optional)| (element, plain(checked.type_of(element), *optional)));
            uniform(types, source, reports, true);
        }
        Kind::Map(entries) if !exempt => {
            uniform(entries.iter().map(|entry| (&entry.key, checked.type_of(&entry.key))), source, reports, false);
            let values =
                entries.iter().map(|entry| (&entry.value, plain(checked.type_of(&entry.value), entry.optional)));
            uniform(values, source, reports, false);
        }
        _ => {}
    }
    for child in expr.children() {
        walk(child, source, checked, reports, inner);
    }
}

fn plain(t: Type, optional: bool) -> Type {
    match t.in_optional() {
        Some(inner) if optional => inner.clone(),
        _ => t,
    }
}

fn uniform<'e>(
    elements: impl Iterator<Item = (&'e Expr, Type)>,
    source: &Source,
    reports: &mut Reports,
    first_only: bool,
) {
    let mut known: Option<Type> = None;
    for (element, t) in elements {
        match &known {
            None => known = Some(t),
            Some(wanted) if *wanted != t => {
                reports.at(source.position(element.id), format!("expected type '{wanted}' but found '{t}'"));
                if first_only {
                    return;
                }
            }
            Some(_) => {}
        }
    }
}

/// A pattern and its arguments, both written out.
fn formatted(call: &Expr, pattern: &str, args: &[&Expr], source: &Source, checked: &Checked, reports: &mut Reports) {
    let pieces = match format::pieces(pattern, args.len()) {
        Ok(pieces) => pieces,
        Err(message) => return reports.at(source.position(call.id), message),
    };
    let clauses = pieces.into_iter().filter_map(|piece| match piece {
        format::Piece::Clause(clause) => Some(clause.letter),
        format::Piece::Text(_) => None,
    });
    let mut seen = 0;
    for (letter, arg) in clauses.zip(args) {
        seen += 1;
        if let Some(bad) = misfit(letter, arg, checked) {
            let message = format::wrong_type(letter, checked.type_of(bad).name());
            reports.at(source.position(bad.id), format!("error during formatting: {message}"));
            return;
        }
    }
    if args.len() > seen {
        let given = args.len();
        let message = format!("too many arguments supplied to string.format (expected {seen}, got {given})");
        reports.at(source.position(call.id), message);
    }
}

/// The argument, or a part of it, that a clause cannot show.
fn misfit<'e>(letter: char, arg: &'e Expr, checked: &Checked) -> Option<&'e Expr> {
    let t = checked.type_of(arg);
    let fits = t == Type::Dyn
        || match letter {
            'd' | 'o' => matches!(t, Type::Int | Type::Uint),
            'f' | 'e' => matches!(t, Type::Double | Type::String),
            'b' => matches!(t, Type::Int | Type::Uint | Type::Bool),
            'x' | 'X' => matches!(t, Type::Int | Type::Uint | Type::String | Type::Bytes),
            _ => !matches!(t, Type::Object(_) | Type::Opaque(..) | Type::Any | Type::Error | Type::Param(_)),
        };
    if !fits {
        return Some(arg);
    }
    if letter != 's' {
        return None;
    }
    match &arg.kind {
        Kind::List(_) | Kind::Map(_) => arg.children().into_iter().find_map(|child| misfit('s', child, checked)),
        _ => None,
    }
}
