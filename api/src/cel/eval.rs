//! Evaluation: the value of the steps for the variables at hand, every step paid for.
//!
//! Costs are those that cel-go counts with Kubernetes' settings. Stops when the cost is over its limit, and when asked
//! to; never runs longer than its cost says.

use super::cost;
use super::error::{Fault, Fuel};
use super::plan::{Attr, Base, CallNode, FoldNode, Node, StepKey};
use super::value::{Entries, List, Map, Object, Value};
use regex::Regex;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use super::error::Outcome;

/// The values of variables.
#[derive(Clone, Debug, Default)]
pub struct Activation<'a> {
    values: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Activation<'a> {
    /// With one more variable.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: Value<'a>) -> Activation<'a> {
        self.values.push((name, value));
        self
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// What code may use beside its arguments.
pub(crate) struct Call<'e> {
    pub(crate) fuel: &'e Fuel,
    pub(crate) patterns: &'e Patterns,
    /// The one overload that the checker chose.
    pub(crate) overload: Option<&'e str>,
}

/// Compiled patterns.
#[derive(Debug, Default)]
pub(crate) struct Patterns(RefCell<HashMap<String, Arc<Regex>>>);

impl Patterns {
    /// A pattern, compiled at its first use.
    pub(crate) fn get(&self, pattern: &str) -> Result<Arc<Regex>, String> {
        if let Some(found) = self.0.borrow().get(pattern) {
            return Ok(found.clone());
        }
        let made = Arc::new(super::pattern::compile(pattern)?);
        self.0.borrow_mut().insert(pattern.to_owned(), made.clone());
        Ok(made)
    }
}

/// Iterations between two looks whether to stop.
const CHECKED_EVERY: u32 = 100;

/// One evaluation.
pub(crate) struct Evaluator<'e, 'a> {
    activation: &'e Activation<'a>,
    locals: Vec<Outcome<Value<'a>>>,
    cost: u64,
    limit: u64,
    stop: Option<&'e (dyn Fn() -> bool + Sync)>,
    iterations: u32,
    fuel: Fuel,
    patterns: Patterns,
}

impl<'e, 'a> Evaluator<'e, 'a> {
    pub(crate) fn new(
        activation: &'e Activation<'a>,
        limit: u64,
        stop: Option<&'e (dyn Fn() -> bool + Sync)>,
    ) -> Evaluator<'e, 'a> {
        Evaluator {
            activation,
            locals: Vec::new(),
            cost: 0,
            limit,
            stop,
            iterations: 0,
            fuel: Fuel::default(),
            patterns: Patterns::default(),
        }
    }

    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    fn pay(&mut self, cost: u64) -> Outcome<()> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(Fault::CallLimit) } else { Ok(()) }
    }

    pub(crate) fn eval(&mut self, node: &Node) -> Outcome<Value<'a>> {
        match node {
            Node::Const(value) => Ok(value.clone()),
            Node::Attr(attr) => self.attr(attr, true),
            Node::Has(attr, key) => self.has(attr, key),
            Node::And(a, b) => self.logic(a, b, false),
            Node::Or(a, b) => self.logic(a, b, true),
            Node::Equal(a, b, wanted) => self.equal(a, b, *wanted),
            Node::NotFalse(inner) => match self.eval(inner) {
                Err(fault) if fault.is_final() => Err(fault),
                found => {
                    self.pay(1)?;
                    Ok(Value::Bool(!matches!(found, Ok(Value::Bool(false)))))
                }
            },
            Node::Call(call) => self.call(call),
            Node::List(elements) => self.list(elements),
            Node::Map(entries) => self.map(entries),
            Node::Object(name, fields) => self.object(name, fields),
            Node::Fold(fold) => self.fold(fold),
            Node::OptionalOr(a, b, value) => match self.eval(a)? {
                Value::Optional(None) => self.eval(b),
                Value::Optional(Some(found)) if *value => Ok((*found).clone()),
                found => Ok(found),
            },
            Node::InSet(wanted, keys) => {
                let wanted = self.eval(wanted)?;
                Ok(Value::Bool(super::value::Key::of(&wanted).is_some_and(|key| keys.contains(&key))))
            }
        }
    }

    fn logic(&mut self, a: &Node, b: &Node, decides: bool) -> Outcome<Value<'a>> {
        let left = self.eval(a);
        if matches!(&left, Ok(Value::Bool(value)) if *value == decides) {
            return left;
        }
        if let Err(fault) = &left
            && fault.is_final()
        {
            return left;
        }
        let right = self.eval(b);
        match (left, right) {
            (_, Err(fault)) if fault.is_final() => Err(fault),
            (_, Ok(Value::Bool(value))) if value == decides => Ok(Value::Bool(decides)),
            (Ok(Value::Bool(_)), Ok(Value::Bool(value))) => Ok(Value::Bool(value)),
            (Err(fault), _) | (Ok(Value::Bool(_)), Err(fault)) => Err(fault),
            _ => Err(Fault::NoSuchOverload),
        }
    }

    fn equal(&mut self, a: &Node, b: &Node, wanted: bool) -> Outcome<Value<'a>> {
        let a = self.eval(a)?;
        let b = self.eval(b)?;
        self.pay(cost::equality(&a, &b, wanted))?;
        Ok(Value::Bool(a.equals(&b, &self.fuel)? == wanted))
    }

    /// A value and what is taken out of it; `charged` where cel-go counts the attribute itself.
    fn attr(&mut self, attr: &Attr, charged: bool) -> Outcome<Value<'a>> {
        let mut value = match &attr.base {
            Base::Local(at) | Base::Accu(at) => {
                let found = self.locals.get(*at).cloned().unwrap_or(Err(Fault::NoSuchOverload));
                if charged {
                    self.pay(1)?;
                }
                found?
            }
            Base::Global(name) => {
                if charged {
                    self.pay(1)?;
                }
                match self.activation.get(name) {
                    Some(value) => value.clone(),
                    None => return Err(Fault::said(format!("no such attribute(s): {name}"))),
                }
            }
            Base::Relative(node) => {
                let value = self.eval(node)?;
                if charged {
                    self.pay(1)?;
                }
                value
            }
            Base::Condition(condition, yes, no) => {
                let branch = match self.eval(condition)? {
                    Value::Bool(true) => yes,
                    Value::Bool(false) => no,
                    _ => return Err(Fault::NoSuchOverload),
                };
                match branch {
                    Node::Attr(attr) => self.attr(attr, false)?,
                    node => self.eval(node)?,
                }
            }
        };
        let mut optional = false;
        if !attr.steps.is_empty()
            && let Value::Optional(inner) = &value
        {
            match inner {
                None => return Ok(Value::NONE),
                Some(inner) => {
                    value = (**inner).clone();
                    optional = true;
                }
            }
        }
        for step in &attr.steps {
            optional |= step.optional;
            let key = match &step.key {
                StepKey::Const(key) => key.clone(),
                StepKey::Node(Node::Attr(attr)) => self.attr(attr, true)?,
                StepKey::Node(node) => {
                    let key = self.eval(node)?;
                    self.pay(1)?;
                    key
                }
            };
            let found = qualify(&value, &key, optional)?;
            if found.is_some() && matches!(step.key, StepKey::Const(_)) {
                self.pay(1)?;
            }
            match found {
                Some(found) => value = found,
                None => return Ok(Value::NONE),
            }
        }
        Ok(if optional { Value::some(value) } else { value })
    }

    fn has(&mut self, attr: &Attr, key: &Value<'static>) -> Outcome<Value<'a>> {
        let value = self.attr(attr, false)?;
        self.pay(1)?;
        let value = match value {
            Value::Optional(None) => return Ok(Value::Bool(false)),
            Value::Optional(Some(inner)) => (*inner).clone(),
            value => value,
        };
        Ok(Value::Bool(match &value {
            Value::Map(map) => map.get(key)?.is_some(),
            Value::Object(object) => match key {
                Value::String(name) => object.get(name)?.is_some(),
                _ => false,
            },
            _ => false,
        }))
    }

    fn call(&mut self, call: &CallNode) -> Outcome<Value<'a>> {
        let mut args = Vec::with_capacity(call.args.len());
        for (i, arg) in call.args.iter().enumerate() {
            // What is added to takes the accumulator's place, so that it need not be copied.
            let taken = match arg {
                Node::Attr(attr) if i == 0 && attr.steps.is_empty() => match attr.base {
                    Base::Accu(at) if matches!(&*call.function.name, "_+_" | "cel.@mapInsert") => Some(at),
                    _ => None,
                },
                _ => None,
            };
            args.push(match taken {
                Some(at) => {
                    self.pay(1)?;
                    let taken = self.locals.get_mut(at).map(|slot| std::mem::replace(slot, Ok(Value::Null)));
                    taken.unwrap_or(Err(Fault::NoSuchOverload))?
                }
                None => self.eval(arg)?,
            });
        }
        let cost = cost::call(&call.function.name, call.overload.as_deref(), &args);
        self.pay(cost)?;
        if let ("_+_", [Value::List(_), Value::List(_)]) = (&*call.function.name, args.as_slice()) {
            let (Some(Value::List(b)), Some(Value::List(a))) = (args.pop(), args.pop()) else {
                return Err(Fault::NoSuchOverload);
            };
            return Ok(Value::List(super::merge::added(a, &b, &self.fuel)?));
        }
        if let ("cel.@mapInsert", [Value::Map(_), _, _]) = (&*call.function.name, args.as_slice()) {
            let (Some(value), Some(key), Some(Value::Map(map))) = (args.pop(), args.pop(), args.pop()) else {
                return Err(Fault::NoSuchOverload);
            };
            return Ok(Value::Map(map.with(key, value)?));
        }
        let with = Call { fuel: &self.fuel, patterns: &self.patterns, overload: call.overload.as_deref() };
        for code in &call.function.code {
            match code(&with, &args) {
                Err(Fault::NoSuchOverload) => {}
                outcome => return outcome,
            }
        }
        let name = &call.function.name;
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(Fault::NoSuchOverload);
        }
        let types = args.iter().map(Value::type_name).collect::<Vec<_>>().join(", ");
        Err(Fault::said(format!("no such overload: {name}({types})")))
    }

    fn list(&mut self, elements: &[(Node, bool)]) -> Outcome<Value<'a>> {
        let mut values = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            match (self.eval(element)?, optional) {
                (value, false) => values.push(value),
                (Value::Optional(value), true) => values.extend(value.map(|value| (*value).clone())),
                (value, true) => {
                    let said = "cannot initialize optional list element from non-optional value";
                    return Err(Fault::said(format!("{said} {}", value.text())));
                }
            }
        }
        self.pay(cost::LIST)?;
        Ok(Value::List(List::of(values)))
    }

    fn map(&mut self, nodes: &[(Node, Node, bool)]) -> Outcome<Value<'a>> {
        let mut entries = Entries::default();
        for (key, value, optional) in nodes {
            let key = self.eval(key)?;
            let value = self.eval(value)?;
            match (value, optional) {
                (value, false) => entries.insert(key, value)?,
                (Value::Optional(None), true) => {}
                (Value::Optional(Some(value)), true) => entries.insert(key, (*value).clone())?,
                (value, true) => return Err(not_optional(&key.text(), &value)),
            }
        }
        self.pay(cost::MAP)?;
        Ok(Value::Map(Map::of(entries)))
    }

    fn object(&mut self, name: &Arc<str>, nodes: &[(Arc<str>, Node, bool)]) -> Outcome<Value<'a>> {
        let mut fields = Vec::with_capacity(nodes.len());
        for (field, node, optional) in nodes {
            match (self.eval(node)?, optional) {
                (value, false) => fields.push((field.clone(), value)),
                (Value::Optional(None), true) => {}
                (Value::Optional(Some(value)), true) => fields.push((field.clone(), (*value).clone())),
                (value, true) => return Err(not_optional(field, &value)),
            }
        }
        self.pay(cost::OBJECT)?;
        Ok(Value::Object(Object::Made(Arc::new((name.clone(), fields)))))
    }

    fn fold(&mut self, fold: &FoldNode) -> Outcome<Value<'a>> {
        let range = self.eval(&fold.range)?;
        let accu = self.eval(&fold.init);
        if let Err(fault) = &accu
            && fault.is_final()
        {
            return accu;
        }
        let open = self.locals.len();
        self.locals.push(accu);
        let done = match range {
            Value::List(list) => self.over_list(fold, open, &list),
            Value::Map(map) => self.over_map(fold, open, &map),
            other => Err(Fault::said(format!("got '{}', expected iterable type", other.type_name()))),
        };
        self.locals.truncate(open + 1);
        let result = done.and_then(|()| self.eval(&fold.result));
        self.locals.truncate(open);
        result
    }

    fn over_list(&mut self, fold: &FoldNode, open: usize, list: &List<'a>) -> Outcome<()> {
        for (i, element) in list.iter().enumerate() {
            if fold.two {
                self.locals.push(Ok(Value::Int(i64::try_from(i).unwrap_or(i64::MAX))));
            }
            self.locals.push(element);
            if !self.iteration(fold, open)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn over_map(&mut self, fold: &FoldNode, open: usize, map: &Map<'a>) -> Outcome<()> {
        for key in map.keys() {
            let value = if fold.two { map.get(&key).transpose() } else { None };
            self.locals.push(Ok(key));
            self.locals.extend(value);
            if !self.iteration(fold, open)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One round with the variables in place; answers whether to go on.
    fn iteration(&mut self, fold: &FoldNode, open: usize) -> Outcome<bool> {
        self.iterations = self.iterations.wrapping_add(1);
        if self.iterations.is_multiple_of(CHECKED_EVERY) && self.stop.is_some_and(|stop| stop()) {
            return Err(Fault::Interrupted);
        }
        // Rounds that cost nothing are bounded as well.
        self.fuel.burn(1)?;
        match self.eval(&fold.condition) {
            Ok(Value::Bool(false)) => return Ok(false),
            Err(fault) if fault.is_final() => return Err(fault),
            _ => {}
        }
        let accu = self.eval(&fold.step);
        if let Err(fault) = &accu
            && fault.is_final()
        {
            return Err(fault.clone());
        }
        self.locals.truncate(open + 1);
        if let Some(slot) = self.locals.get_mut(open) {
            *slot = accu;
        }
        Ok(true)
    }
}

fn not_optional(entry: &str, value: &Value<'_>) -> Fault {
    Fault::said(format!("cannot initialize optional entry '{entry}' from non-optional value {}", value.text()))
}

/// What is at a key; `None` only where absence is no mistake.
fn qualify<'a>(value: &Value<'a>, key: &Value<'_>, optional: bool) -> Outcome<Option<Value<'a>>> {
    let missing = || Fault::said(format!("no such key: {}", key.text()));
    let found = match value {
        Value::Map(map) => map.get(key)?,
        Value::Object(object) => match key {
            Value::String(name) => object.get(name)?,
            _ => None,
        },
        Value::List(list) => {
            let index = match key {
                Value::Int(index) => Some(*index),
                Value::Uint(index) => i64::try_from(*index).ok(),
                #[expect(clippy::cast_possible_truncation, reason = "whole; out of range ends at the bounds")]
                Value::Double(index) if index.fract() == 0.0 => Some(*index as i64),
                _ => None,
            };
            let Some(index) = index else {
                return Err(Fault::said(format!("unsupported index type '{}' in list", key.type_name())));
            };
            match usize::try_from(index).ok().and_then(|index| list.get(index)) {
                Some(element) => Some(element?),
                None if optional => None,
                None => return Err(Fault::said(format!("index out of bounds: {}", key.text()))),
            }
        }
        _ => None,
    };
    match found {
        Some(found) => Ok(Some(found)),
        None if optional => Ok(None),
        None => Err(missing()),
    }
}
