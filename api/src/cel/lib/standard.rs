//! CEL's standard functions and operators.
//!
//! `&&`, `||`, `?:`, `==` and selections are steps of their own and only declared here.

use crate::cel::convert;
use crate::cel::declare::Library;
use crate::cel::error::{Fault, Outcome};
use crate::cel::eval::Call;
use crate::cel::time::Timestamp;
use crate::cel::value::{List, Value};
use std::cmp::Ordering;

pub(crate) const LIBRARY: Library = Library {
    since: Some(0),
    signatures: "
        _?_:_ conditional (bool, A, A) A
        _&&_ logical_and (bool, bool) bool
        _||_ logical_or (bool, bool) bool
        !_ logical_not (bool) bool
        @not_strictly_false not_strictly_false (bool) bool
        _==_ equals (A, A) bool
        _!=_ not_equals (A, A) bool
        _+_ add_bytes (bytes, bytes) bytes
        _+_ add_double (double, double) double
        _+_ add_duration_duration (duration, duration) duration
        _+_ add_duration_timestamp (duration, timestamp) timestamp
        _+_ add_timestamp_duration (timestamp, duration) timestamp
        _+_ add_int64 (int, int) int
        _+_ add_list (list(A), list(A)) list(A)
        _+_ add_string (string, string) string
        _+_ add_uint64 (uint, uint) uint
        _/_ divide_{N} ({T}, {T}) {T} | double int64=int uint64=uint
        _%_ modulo_{N} ({T}, {T}) {T} | int64=int uint64=uint
        _*_ multiply_{N} ({T}, {T}) {T} | double int64=int uint64=uint
        -_ negate_{N} ({T}) {T} | double int64=int
        _-_ subtract_double (double, double) double
        _-_ subtract_duration_duration (duration, duration) duration
        _-_ subtract_int64 (int, int) int
        _-_ subtract_timestamp_duration (timestamp, duration) timestamp
        _-_ subtract_timestamp_timestamp (timestamp, timestamp) duration
        _-_ subtract_uint64 (uint, uint) uint
        _<_ less_{N} ({T}, {T}) bool | bool int64=int uint64=uint double string bytes timestamp duration
        _<_ less_int64_{N} (int, {T}) bool | double uint64=uint
        _<_ less_uint64_{N} (uint, {T}) bool | double int64=int
        _<_ less_double_{N} (double, {T}) bool | int64=int uint64=uint
        _<=_ less_equals_{N} ({T}, {T}) bool | bool int64=int uint64=uint double string bytes timestamp duration
        _<=_ less_equals_int64_{N} (int, {T}) bool | double uint64=uint
        _<=_ less_equals_uint64_{N} (uint, {T}) bool | double int64=int
        _<=_ less_equals_double_{N} (double, {T}) bool | int64=int uint64=uint
        _>_ greater_{N} ({T}, {T}) bool | bool int64=int uint64=uint double string bytes timestamp duration
        _>_ greater_int64_{N} (int, {T}) bool | double uint64=uint
        _>_ greater_uint64_{N} (uint, {T}) bool | double int64=int
        _>_ greater_double_{N} (double, {T}) bool | int64=int uint64=uint
        _>=_ greater_equals_{N} ({T}, {T}) bool | bool int64=int uint64=uint double string bytes timestamp duration
        _>=_ greater_equals_int64_{N} (int, {T}) bool | double uint64=uint
        _>=_ greater_equals_uint64_{N} (uint, {T}) bool | double int64=int
        _>=_ greater_equals_double_{N} (double, {T}) bool | int64=int uint64=uint
        _[_] index_list (list(A), int) A
        _[_] index_map (map(A, B), A) B
        @in in_list (A, list(A)) bool
        @in in_map (A, map(A, B)) bool
        size size_{N} ({T}) int | bytes list=list(A) map=map(A,B) string
        .size {N}_size ({T}) int | bytes list=list(A) map=map(A,B) string
        .contains contains_string (string, string) bool
        .endsWith ends_with_string (string, string) bool
        .startsWith starts_with_string (string, string) bool
        matches matches (string, string) bool
        .matches matches_string (string, string) bool
        type type (A) type(A)
        dyn to_dyn (A) dyn
        int {N}_to_int64 ({T}) int | int64=int double duration string timestamp uint64=uint
        uint {N}_to_uint64 ({T}) uint | uint64=uint double int64=int string
        double {N}_to_double ({T}) double | double int64=int string uint64=uint
        bool {N}_to_bool ({T}) bool | bool string
        bytes {N}_to_bytes ({T}) bytes | bytes string
        string {N}_to_string ({T}) string | string bool bytes double duration int64=int timestamp uint64=uint
        timestamp {N}_to_timestamp ({T}) timestamp | timestamp int64=int string
        duration {N}_to_duration ({T}) duration | duration int64=int string
        .getFullYear timestamp_to_year (timestamp) int
        .getFullYear timestamp_to_year_with_tz (timestamp, string) int
        .getMonth timestamp_to_month (timestamp) int
        .getMonth timestamp_to_month_with_tz (timestamp, string) int
        .getDayOfYear timestamp_to_day_of_year (timestamp) int
        .getDayOfYear timestamp_to_day_of_year_with_tz (timestamp, string) int
        .getDayOfMonth timestamp_to_day_of_month (timestamp) int
        .getDayOfMonth timestamp_to_day_of_month_with_tz (timestamp, string) int
        .getDate timestamp_to_day_of_month_1_based (timestamp) int
        .getDate timestamp_to_day_of_month_1_based_with_tz (timestamp, string) int
        .getDayOfWeek timestamp_to_day_of_week (timestamp) int
        .getDayOfWeek timestamp_to_day_of_week_with_tz (timestamp, string) int
        .getHours timestamp_to_hours (timestamp) int
        .getHours timestamp_to_hours_with_tz (timestamp, string) int
        .getHours duration_to_hours (duration) int
        .getMinutes timestamp_to_minutes (timestamp) int
        .getMinutes timestamp_to_minutes_with_tz (timestamp, string) int
        .getMinutes duration_to_minutes (duration) int
        .getSeconds timestamp_to_seconds (timestamp) int
        .getSeconds timestamp_to_seconds_tz (timestamp, string) int
        .getSeconds duration_to_seconds (duration) int
        .getMilliseconds timestamp_to_milliseconds (timestamp) int
        .getMilliseconds timestamp_to_milliseconds_with_tz (timestamp, string) int
        .getMilliseconds duration_to_milliseconds (duration) int
    ",
    code: &[
        ("!_", |_, args| match args {
            [Value::Bool(value)] => Ok(Value::Bool(!value)),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("_+_", |_, args| add(args)),
        ("_-_", |_, args| subtract(args)),
        ("_*_", |_, args| arithmetic(args, i64::checked_mul, u64::checked_mul, |a, b| a * b)),
        ("_/_", |_, args| divide(args)),
        ("_%_", |_, args| modulo(args)),
        ("-_", |_, args| match args {
            [Value::Int(value)] => value.checked_neg().map(Value::Int).ok_or_else(overflow),
            [Value::Double(value)] => Ok(Value::Double(-value)),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("_<_", |_, args| order(args, Ordering::is_lt)),
        ("_<=_", |_, args| order(args, Ordering::is_le)),
        ("_>_", |_, args| order(args, Ordering::is_gt)),
        ("_>=_", |_, args| order(args, Ordering::is_ge)),
        ("@in", contained),
        ("size", |_, args| match args {
            [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) | Value::Object(_))] => {
                Ok(Value::Int(i64::try_from(value.size()).unwrap_or(i64::MAX)))
            }
            _ => Err(Fault::NoSuchOverload),
        }),
        ("contains", |_, args| texts(args, |text, part| text.contains(part))),
        ("startsWith", |_, args| texts(args, |text, part| text.starts_with(part))),
        ("endsWith", |_, args| texts(args, |text, part| text.ends_with(part))),
        ("matches", |call, args| match args {
            [Value::String(text), Value::String(pattern)] => {
                let pattern = call.patterns.get(pattern).map_err(Fault::said)?;
                Ok(Value::Bool(pattern.is_match(text)))
            }
            _ => Err(Fault::NoSuchOverload),
        }),
        ("type", |_, args| match args {
            [value] => Ok(Value::Type(value.type_of().into())),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("dyn", |_, args| args.first().cloned().ok_or(Fault::NoSuchOverload)),
        ("int", |_, args| convert::to_int(one(args)?).map(Value::Int)),
        ("uint", |_, args| convert::to_uint(one(args)?).map(Value::Uint)),
        ("double", |_, args| convert::to_double(one(args)?).map(Value::Double)),
        ("bool", |_, args| convert::to_bool(one(args)?).map(Value::Bool)),
        ("bytes", |_, args| convert::to_bytes(one(args)?)),
        ("string", |_, args| convert::to_string(one(args)?)),
        ("timestamp", |_, args| convert::to_timestamp(one(args)?).map(Value::Timestamp)),
        ("duration", |_, args| convert::to_duration(one(args)?).map(Value::Duration)),
        ("getFullYear", |_, args| calendar(args, |at| i64::from(at.year()))),
        ("getMonth", |_, args| calendar(args, |at| i64::from(at.month()) - 1)),
        ("getDayOfYear", |_, args| calendar(args, |at| i64::from(at.day_of_year()) - 1)),
        ("getDayOfMonth", |_, args| calendar(args, |at| i64::from(at.day()) - 1)),
        ("getDate", |_, args| calendar(args, |at| i64::from(at.day()))),
        ("getDayOfWeek", |_, args| calendar(args, |at| i64::from(at.weekday().to_sunday_zero_offset()))),
        ("getHours", |_, args| clock(args, 3_600_000_000_000, |at| i64::from(at.hour()))),
        ("getMinutes", |_, args| clock(args, 60_000_000_000, |at| i64::from(at.minute()))),
        ("getSeconds", |_, args| clock(args, 1_000_000_000, |at| i64::from(at.second()))),
        ("getMilliseconds", |_, args| clock(args, 1_000_000, |at| i64::from(at.millisecond()))),
    ],
};

fn one<'v, 'a>(args: &'v [Value<'a>]) -> Outcome<&'v Value<'a>> {
    match args {
        [one] => Ok(one),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn overflow() -> Fault {
    Fault::said("integer overflow")
}

fn unsigned_overflow() -> Fault {
    Fault::said("unsigned integer overflow")
}

fn duration_overflow() -> Fault {
    Fault::said("duration overflow")
}

fn timestamp_overflow() -> Fault {
    Fault::said("timestamp overflow")
}

fn arithmetic<'a>(
    args: &[Value<'a>],
    int: fn(i64, i64) -> Option<i64>,
    uint: fn(u64, u64) -> Option<u64>,
    double: fn(f64, f64) -> f64,
) -> Outcome<Value<'a>> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(*a, *b).map(Value::Int).ok_or_else(overflow),
        [Value::Uint(a), Value::Uint(b)] => uint(*a, *b).map(Value::Uint).ok_or_else(unsigned_overflow),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(double(*a, *b))),
        _ => Err(Fault::NoSuchOverload),
    }
}

/// The sum; joined lists are made where lists are known to be at hand.
pub(crate) fn add<'a>(args: &[Value<'a>]) -> Outcome<Value<'a>> {
    match args {
        [Value::String(a), Value::String(b)] => {
            let mut joined = String::with_capacity(a.len() + b.len());
            joined.push_str(a);
            joined.push_str(b);
            Ok(convert::text(joined))
        }
        [Value::Bytes(a), Value::Bytes(b)] => Ok(Value::Bytes(a.iter().chain(b.iter()).copied().collect())),
        [Value::Duration(a), Value::Duration(b)] => {
            a.checked_add(*b).map(Value::Duration).ok_or_else(duration_overflow)
        }
        [Value::Timestamp(at), Value::Duration(by)] | [Value::Duration(by), Value::Timestamp(at)] => {
            at.plus(*by).map(Value::Timestamp).ok_or_else(timestamp_overflow)
        }
        _ => arithmetic(args, i64::checked_add, u64::checked_add, |a, b| a + b),
    }
}

fn subtract<'a>(args: &[Value<'a>]) -> Outcome<Value<'a>> {
    match args {
        [Value::Duration(a), Value::Duration(b)] => {
            a.checked_sub(*b).map(Value::Duration).ok_or_else(duration_overflow)
        }
        [Value::Timestamp(at), Value::Duration(by)] => {
            let by = by.checked_neg().ok_or_else(timestamp_overflow)?;
            at.plus(by).map(Value::Timestamp).ok_or_else(timestamp_overflow)
        }
        [Value::Timestamp(a), Value::Timestamp(b)] => a.since(*b).map(Value::Duration).ok_or_else(duration_overflow),
        _ => arithmetic(args, i64::checked_sub, u64::checked_sub, |a, b| a - b),
    }
}

fn divide<'a>(args: &[Value<'a>]) -> Outcome<Value<'a>> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(Fault::said("division by zero")),
        _ => arithmetic(args, i64::checked_div, u64::checked_div, |a, b| a / b),
    }
}

fn modulo<'a>(args: &[Value<'a>]) -> Outcome<Value<'a>> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(Fault::said("modulus by zero")),
        [Value::Double(_), Value::Double(_)] => Err(Fault::NoSuchOverload),
        _ => arithmetic(args, i64::checked_rem, u64::checked_rem, |a, _| a),
    }
}

fn order<'a>(args: &[Value<'a>], wanted: fn(Ordering) -> bool) -> Outcome<Value<'a>> {
    match args {
        [a, b] => a.compare(b).map(|order| Value::Bool(wanted(order))),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn contained<'a>(call: &Call<'_>, args: &[Value<'a>]) -> Outcome<Value<'a>> {
    match args {
        [wanted, Value::List(list)] => in_list(call, wanted, list).map(Value::Bool),
        [wanted, Value::Map(map)] => Ok(Value::Bool(map.get(wanted)?.is_some())),
        [Value::String(wanted), Value::Object(object)] => Ok(Value::Bool(object.get(wanted)?.is_some())),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn in_list(call: &Call<'_>, wanted: &Value<'_>, list: &List<'_>) -> Outcome<bool> {
    crate::cel::merge::contains(list, wanted, call.fuel)
}

fn texts<'a>(args: &[Value<'a>], test: fn(&str, &str) -> bool) -> Outcome<Value<'a>> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(test(text, part))),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn calendar<'a>(args: &[Value<'a>], part: fn(&jiff::civil::DateTime) -> i64) -> Outcome<Value<'a>> {
    let at = |at: &Timestamp, zone: &str| {
        at.at(zone).map(|at| Value::Int(part(&at))).ok_or_else(|| Fault::said(format!("unknown time zone {zone}")))
    };
    match args {
        [Value::Timestamp(timestamp)] => at(timestamp, ""),
        [Value::Timestamp(timestamp), Value::String(zone)] => at(timestamp, zone),
        _ => Err(Fault::NoSuchOverload),
    }
}

/// Of a timestamp a part of the clock, of a duration all of it in a unit.
fn clock<'a>(args: &[Value<'a>], unit: i64, part: fn(&jiff::civil::DateTime) -> i64) -> Outcome<Value<'a>> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / unit)),
        _ => calendar(args, part),
    }
}
