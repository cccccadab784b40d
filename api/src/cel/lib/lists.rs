//! Functions of lists: those of Kubernetes, CEL's sets and CEL's lists extension (version 3).
//!
//! What compares all with all is paid for before it begins.

use super::standard;
use crate::cel::declare::Library;
use crate::cel::error::{Fault, Outcome};
use crate::cel::eval::Call;
use crate::cel::merge::contains;
use crate::cel::value::{List, Value};
use std::cmp::Ordering;

pub(crate) const LIBRARY: Library = Library {
    since: Some(0),
    signatures: "
        .isSorted list_{N}_is_sorted_bool (list({T})) bool | int uint double bool duration timestamp string bytes
        .sum list_{N}_sum_{N} (list({T})) {T} | int uint double duration
        .max list_{N}_max_{N} (list({T})) {T} | int uint double bool duration timestamp string bytes
        .min list_{N}_min_{N} (list({T})) {T} | int uint double bool duration timestamp string bytes
        .indexOf list_a_index_of_int (list(A), A) int
        .lastIndexOf list_a_last_index_of_int (list(A), A) int
    ",
    code: &[
        ("isSorted", |_, args| {
            let values = elements(args)?;
            for pair in values.windows(2) {
                if let [a, b] = pair
                    && a.compare(b)?.is_gt()
                {
                    return Ok(Value::Bool(false));
                }
            }
            Ok(Value::Bool(true))
        }),
        ("sum", sum),
        ("max", |_, args| extreme(args, "max", Ordering::Less)),
        ("min", |_, args| extreme(args, "min", Ordering::Greater)),
        ("indexOf", |call, args| index(call, args, false)),
        ("lastIndexOf", |call, args| index(call, args, true)),
    ],
};

pub(crate) const SETS: Library = Library {
    since: Some(29),
    signatures: "
        sets.contains list_sets_contains_list (list(T), list(T)) bool
        sets.equivalent list_sets_equivalent_list (list(T), list(T)) bool
        sets.intersects list_sets_intersects_list (list(T), list(T)) bool
    ",
    code: &[
        ("sets.contains", |call, args| two(args).and_then(|(a, b)| Ok(Value::Bool(all_in(call, b, a)?)))),
        ("sets.equivalent", |call, args| {
            let (a, b) = two(args)?;
            Ok(Value::Bool(all_in(call, b, a)? && all_in(call, a, b)?))
        }),
        ("sets.intersects", |call, args| {
            let (a, b) = two(args)?;
            for element in a.iter() {
                if contains(b, &element?, call.fuel)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }),
    ],
};

pub(crate) const EXTENDED: Library = Library {
    since: Some(34),
    signatures: "
        .slice list_slice (list(T), int, int) list(T)
        .flatten list_flatten (list(list(T))) list(T)
        .flatten list_flatten_int (list(dyn), int) list(dyn)
        .sort list_{N}_sort (list({T})) list({T}) | int uint double bool duration timestamp string bytes
        .@sortByAssociatedKeys list_{N}_sortByAssociatedKeys (list(T), list({T})) list(T) | int uint double bool duration timestamp string bytes
        lists.range lists_range (int) list(int)
        .reverse list_reverse (list(T)) list(T)
        .distinct list_distinct (list(T)) list(T)
    ",
    code: &[
        ("slice", slice),
        ("flatten", |call, args| {
            let (list, depth) = match args {
                [Value::List(list)] => (list, 1),
                [Value::List(list), Value::Int(depth)] => (list, *depth),
                _ => return Err(Fault::NoSuchOverload),
            };
            if depth < 0 {
                return Err(Fault::said("level must be non-negative"));
            }
            let mut flat = Vec::new();
            flatten(call, list, depth, &mut flat)?;
            Ok(Value::List(List::of(flat)))
        }),
        ("sort", |_, args| match args {
            [Value::List(list)] => sorted(list, list),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("@sortByAssociatedKeys", |_, args| two(args).and_then(|(list, keys)| sorted(list, keys))),
        ("lists.range", |_, args| match args {
            [Value::Int(n)] => Ok(Value::List(List::of((0..*n).map(Value::Int).collect()))),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("reverse", |_, args| {
            let mut values = elements(args)?;
            values.reverse();
            Ok(Value::List(List::of(values)))
        }),
        ("distinct", |call, args| {
            let mut kept: Vec<Value<'_>> = Vec::new();
            for value in elements(args)? {
                let mut known = false;
                for other in &kept {
                    known = known || value.equals(other, call.fuel)?;
                }
                if !known {
                    kept.push(value);
                }
            }
            Ok(Value::List(List::of(kept)))
        }),
    ],
};

/// Longer lists are not copied: no cost that may be paid reaches them.
const LONGEST: usize = 10_000_000;

fn elements<'a>(args: &[Value<'a>]) -> Outcome<Vec<Value<'a>>> {
    match args {
        [Value::List(list)] if list.len() > LONGEST => Err(Fault::CallLimit),
        [Value::List(list)] => list.iter().collect(),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn two<'v, 'a>(args: &'v [Value<'a>]) -> Outcome<(&'v List<'a>, &'v List<'a>)> {
    match args {
        [Value::List(a), Value::List(b)] => Ok((a, b)),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn sum<'a>(call: &Call<'_>, args: &[Value<'a>]) -> Outcome<Value<'a>> {
    let mut values = elements(args)?.into_iter();
    let Some(mut total) = values.next() else {
        // Only the checker knows the type of an empty list's elements.
        return Ok(match call.overload {
            Some("list_uint_sum_uint") => Value::Uint(0),
            Some("list_double_sum_double") => Value::Double(0.0),
            Some("list_duration_sum_duration") => Value::Duration(0),
            _ => Value::Int(0),
        });
    };
    for value in values {
        total = standard::add(&[total, value])?;
    }
    Ok(total)
}

fn extreme<'a>(args: &[Value<'a>], name: &str, replaced_when: Ordering) -> Outcome<Value<'a>> {
    let mut best: Option<Value<'a>> = None;
    for value in elements(args)? {
        best = match best {
            Some(best) if best.compare(&value)? != replaced_when => Some(best),
            _ => Some(value),
        };
    }
    best.ok_or_else(|| Fault::said(format!("{name} called on empty list")))
}

fn index<'a>(call: &Call<'_>, args: &[Value<'a>], last: bool) -> Outcome<Value<'a>> {
    let [Value::List(list), wanted] = args else { return Err(Fault::NoSuchOverload) };
    let mut found = -1;
    for (i, element) in list.iter().enumerate() {
        if element?.equals(wanted, call.fuel)? {
            found = i64::try_from(i).unwrap_or(i64::MAX);
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn all_in(call: &Call<'_>, some: &List<'_>, all: &List<'_>) -> Outcome<bool> {
    for element in some.iter() {
        if !contains(all, &element?, call.fuel)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn slice<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Outcome<Value<'a>> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else { return Err(Fault::NoSuchOverload) };
    let cannot = |why: String| Fault::said(format!("cannot slice({start}, {end}), {why}"));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return Err(cannot("negative indexes not supported".to_owned()));
    };
    if from > to {
        return Err(cannot("start index must be less than or equal to end index".to_owned()));
    }
    if list.len() < to {
        return Err(cannot(format!("list is length {}", list.len())));
    }
    let values = (from..to).filter_map(|at| list.get(at)).collect::<Outcome<Vec<_>>>()?;
    Ok(Value::List(List::of(values)))
}

fn flatten<'a>(call: &Call<'_>, list: &List<'a>, depth: i64, flat: &mut Vec<Value<'a>>) -> Outcome<()> {
    for element in list.iter() {
        call.fuel.burn(1)?;
        match element? {
            Value::List(inner) if depth > 0 => flatten(call, &inner, depth - 1, flat)?,
            value => flat.push(value),
        }
    }
    Ok(())
}

fn sorted<'a>(list: &List<'a>, keys: &List<'a>) -> Outcome<Value<'a>> {
    if list.len() != keys.len() {
        return Err(Fault::said(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} \
             elements respectively",
            list.len(),
            keys.len()
        )));
    }
    let keys = keys.iter().collect::<Outcome<Vec<_>>>()?;
    if let Some(first) = keys.first() {
        if first.compare(first) == Err(Fault::NoSuchOverload) {
            return Err(Fault::said("list elements must be comparable"));
        }
        if keys.iter().any(|key| key.type_name() != first.type_name()) {
            return Err(Fault::said("list elements must have the same type"));
        }
    }
    let values = list.iter().collect::<Outcome<Vec<_>>>()?;
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.into_iter().zip(values).collect();
    // NaN has no place; it stays where it is put.
    pairs.sort_by(|(a, _), (b, _)| a.compare(b).unwrap_or(Ordering::Equal));
    Ok(Value::List(List::of(pairs.into_iter().map(|(_, value)| value).collect())))
}
