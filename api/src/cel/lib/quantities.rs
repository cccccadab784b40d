//! `quantity('1Gi')` and what can be done with it.
//!
//! The arithmetic is `crate::quantity`'s.

use crate::cel::declare::Library;
use crate::cel::error::{Fault, Outcome};
use crate::cel::lib::Opaque;
use crate::cel::value::Value;
use crate::quantity::{Format, Quantity};
use std::cmp::Ordering;

pub(crate) const LIBRARY: Library = Library {
    since: Some(28),
    signatures: "
        quantity string_to_quantity (string) kubernetes.Quantity
        isQuantity is_quantity_string (string) bool
        sign quantity_sign (kubernetes.Quantity) int
        .isGreaterThan quantity_is_greater_than (kubernetes.Quantity, kubernetes.Quantity) bool
        .isLessThan quantity_is_less_than (kubernetes.Quantity, kubernetes.Quantity) bool
        .compareTo quantity_compare_to (kubernetes.Quantity, kubernetes.Quantity) int
        .asApproximateFloat quantity_get_float (kubernetes.Quantity) double
        .asInteger quantity_get_int (kubernetes.Quantity) int
        .isInteger quantity_is_integer (kubernetes.Quantity) bool
        .add quantity_add (kubernetes.Quantity, kubernetes.Quantity) kubernetes.Quantity
        .add quantity_add_int (kubernetes.Quantity, int) kubernetes.Quantity
        .sub quantity_sub (kubernetes.Quantity, kubernetes.Quantity) kubernetes.Quantity
        .sub quantity_sub_int (kubernetes.Quantity, int) kubernetes.Quantity
    ",
    code: &[
        ("quantity", |_, args| match args {
            [Value::String(text)] => match Quantity::parse(text) {
                Ok(quantity) => Ok(made(quantity)),
                Err(error) => Err(Fault::said(error.to_string())),
            },
            _ => Err(Fault::NoSuchOverload),
        }),
        ("isQuantity", |_, args| match args {
            [Value::String(text)] => Ok(Value::Bool(Quantity::parse(text).is_ok())),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("sign", |_, args| one(args).map(|quantity| Value::Int(quantity.signum().into()))),
        ("isGreaterThan", |_, args| two(args).map(|(a, b)| Value::Bool(a > b))),
        ("isLessThan", |_, args| two(args).map(|(a, b)| Value::Bool(a < b))),
        ("compareTo", |_, args| two(args).map(|(a, b)| Value::Int(order(a.cmp(&b))))),
        ("asApproximateFloat", |_, args| one(args).map(|quantity| Value::Double(quantity.approximate()))),
        ("asInteger", |_, args| {
            let whole = one(args)?.whole();
            whole.map(Value::Int).ok_or_else(|| Fault::said("cannot convert value to integer"))
        }),
        ("isInteger", |_, args| one(args).map(|quantity| Value::Bool(quantity.whole().is_some()))),
        ("add", |_, args| two(args).map(|(a, b)| made(a + b))),
        ("sub", |_, args| two(args).map(|(a, b)| made(a - b))),
    ],
};

/// -1, 0 or 1.
pub(crate) fn order(order: Ordering) -> i64 {
    match order {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }
}

fn made<'a>(quantity: Quantity) -> Value<'a> {
    Value::Opaque(Opaque::Quantity(quantity))
}

fn one(args: &[Value<'_>]) -> Outcome<Quantity> {
    match args {
        [Value::Opaque(Opaque::Quantity(quantity))] => Ok(*quantity),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn two(args: &[Value<'_>]) -> Outcome<(Quantity, Quantity)> {
    match args {
        [Value::Opaque(Opaque::Quantity(a)), Value::Opaque(Opaque::Quantity(b))] => Ok((*a, *b)),
        [Value::Opaque(Opaque::Quantity(a)), Value::Int(b)] => Ok((*a, Quantity::of(*b, Format::DecimalExponent))),
        _ => Err(Fault::NoSuchOverload),
    }
}
