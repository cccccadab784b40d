//! Types of a parsed expression: names and calls resolved, mistakes in cel-go's words.
//!
//! Follows the order of cel-go's checker, because the order decides which mistakes are said. Never evaluates, but for
//! constants that must be well-formed (durations, timestamps, patterns).

use super::ast::{Expr, Fold, Id, Kind, Literal, Reports, Source};
use super::declare::Function;
use super::env::Env;
use super::types::{Bindings, Type, most_general};
use std::collections::HashMap;
use std::sync::Arc;

/// What the checker found out.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// By id.
    pub(crate) types: Vec<Option<Type>>,
    /// The overloads that fit, by id of the call.
    pub(crate) overloads: HashMap<Id, Vec<Arc<str>>>,
    /// Names that are types.
    pub(crate) type_names: HashMap<Id, Type>,
    /// The variables of the environment that are read.
    pub(crate) variables: Vec<Arc<str>>,
}

impl Checked {
    pub(crate) fn type_of(&self, expr: &Expr) -> Type {
        self.types.get(expr.id as usize).cloned().flatten().unwrap_or(Type::Dyn)
    }

    /// The overload of a call, where only one fits.
    pub(crate) fn overload(&self, id: Id) -> Option<&Arc<str>> {
        match self.overloads.get(&id).map(Vec::as_slice) {
            Some([one]) => Some(one),
            _ => None,
        }
    }
}

/// Checks an expression and writes full names into it.
///
/// # Errors
/// The mistakes as a client sees them.
pub(crate) fn check(expr: &mut Expr, source: &Source, env: &Env) -> Result<Checked, Vec<String>> {
    let mut checker = Checker {
        env,
        source,
        reports: Reports::default(),
        bindings: Bindings::default(),
        scopes: Vec::new(),
        checked: Checked::default(),
    };
    checker.expr(expr);
    let Checker { reports, bindings, mut checked, .. } = checker;
    for t in checked.types.iter_mut().flatten() {
        *t = bindings.substitute(t, true);
    }
    if !reports.is_empty() {
        return Err(reports.shown(source));
    }
    let mut reports = Reports::default();
    super::validate::validate(expr, source, &checked, &mut reports);
    if reports.is_empty() { Ok(checked) } else { Err(reports.shown(source)) }
}

struct Checker<'e> {
    env: &'e Env,
    source: &'e Source,
    reports: Reports,
    bindings: Bindings,
    scopes: Vec<(String, Type)>,
    checked: Checked,
}

impl Checker<'_> {
    fn report(&mut self, id: Id, message: String) {
        self.reports.at(self.source.position(id), message);
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) {
        self.report(id, format!("expected type '{expected}' but found '{found}'"));
    }

    fn set(&mut self, id: Id, t: Type) {
        let at = id as usize;
        if self.checked.types.len() <= at {
            self.checked.types.resize(at + 1, None);
        }
        if let Some(slot) = self.checked.types.get_mut(at) {
            *slot = Some(t);
        }
    }

    fn get(&self, expr: &Expr) -> Type {
        self.checked.types.get(expr.id as usize).cloned().flatten().unwrap_or(Type::Error)
    }

    /// The type of a variable or type name, and whether it is a type.
    fn lookup(&self, name: &str) -> Option<(Type, bool)> {
        let plain = name.strip_prefix('.').unwrap_or(name);
        if plain == name
            && let Some((_, t)) = self.scopes.iter().rev().find(|(scoped, _)| scoped == name)
        {
            return Some((t.clone(), false));
        }
        if let Some(t) = self.env.variable_type(plain) {
            return Some((t, false));
        }
        self.env.type_named(plain).map(|t| (Type::Type(Some(Arc::new(t))), true))
    }

    fn expr(&mut self, e: &mut Expr) {
        let id = e.id;
        match &mut e.kind {
            Kind::Error => self.set(id, Type::Error),
            Kind::Literal(literal) => {
                let t = match literal {
                    Literal::Null => Type::Null,
                    Literal::Bool(_) => Type::Bool,
                    Literal::Int(_) => Type::Int,
                    Literal::Uint(_) => Type::Uint,
                    Literal::Double(_) => Type::Double,
                    Literal::String(_) => Type::String,
                    Literal::Bytes(_) => Type::Bytes,
                };
                self.set(id, t);
            }
            Kind::Ident(name) => {
                let name = name.clone();
                if !self.named(e, &name) {
                    self.set(id, Type::Error);
                    self.undeclared(id, &name);
                }
            }
            Kind::Select { .. } => self.select(e),
            Kind::Call { .. } => self.call(e),
            Kind::List(_) => self.list(e),
            Kind::Map(_) => self.map(e),
            Kind::Struct { .. } => self.object(e),
            Kind::Fold(_) => self.fold(e),
        }
    }

    /// Makes the node a variable or type, if there is one of this name.
    fn named(&mut self, e: &mut Expr, name: &str) -> bool {
        let Some((t, is_type)) = self.lookup(name) else { return false };
        if is_type && let Type::Type(Some(of)) = &t {
            self.checked.type_names.insert(e.id, (**of).clone());
        }
        self.set(e.id, t);
        let plain = name.strip_prefix('.').unwrap_or(name);
        let local = plain == name && self.scopes.iter().any(|(scoped, _)| scoped == name);
        if !is_type && !local && !self.checked.variables.iter().any(|known| **known == *plain) {
            self.checked.variables.push(plain.into());
        }
        e.kind = Kind::Ident(plain.to_owned());
        true
    }

    fn select(&mut self, e: &mut Expr) {
        if let Some(name) = e.qualified_name()
            && name.contains('.')
            && self.named(e, &name)
        {
            return;
        }
        let id = e.id;
        let Kind::Select { operand, field, test } = &mut e.kind else { return };
        let (field, test) = (field.clone(), *test);
        let t = self.field(id, operand, &field, false);
        let t = if test { Type::Bool } else { self.bindings.substitute(&t, false) };
        self.set(id, t);
    }

    fn field(&mut self, id: Id, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.expr(operand);
        let operand = self.bindings.substitute(&self.get(operand), false);
        let (target, was_optional) = match operand.in_optional() {
            Some(inner) => (inner.clone(), true),
            None => (operand, false),
        };
        let t = match &target {
            Type::Map(pair) => pair.1.clone(),
            Type::Object(name) => match self.env.field_type(name, field) {
                Some(Some(t)) => t,
                Some(None) => {
                    self.report(id, format!("undefined field '{field}'"));
                    Type::Error
                }
                None => {
                    self.report(id, format!("unexpected failed resolution of '{name}'"));
                    Type::Error
                }
            },
            Type::Param(_) => {
                self.bindings.assignable(&Type::Dyn, &target);
                Type::Dyn
            }
            t if t.is_dyn_or_error() => Type::Dyn,
            t => {
                self.report(id, format!("type '{t}' does not support field selection"));
                Type::Dyn
            }
        };
        if optional || was_optional { Type::optional(t) } else { t }
    }

    fn call(&mut self, e: &mut Expr) {
        let id = e.id;
        let Kind::Call { target, function, args } = &mut e.kind else { return };
        if function == "_?._" {
            if let [operand, name] = args.as_mut_slice()
                && let Some(field) = name.text().cloned()
            {
                self.set(name.id, Type::String);
                let t = self.field(id, operand, &field, true);
                let t = self.bindings.substitute(&t, false);
                self.set(id, t);
                self.checked.overloads.insert(id, vec!["select_optional_field".into()]);
            }
            return;
        }
        for arg in args.iter_mut() {
            self.expr(arg);
        }
        let Some(receiver) = target else {
            let plain = function.strip_prefix('.').unwrap_or(function).to_owned();
            match self.env.function(&plain) {
                Some(found) => {
                    *function = plain;
                    self.resolve(id, &found, None, args);
                }
                None => {
                    let name = function.clone();
                    self.undeclared(id, &name);
                    self.set(id, Type::Error);
                }
            }
            return;
        };
        if let Some(prefix) = receiver.qualified_name() {
            let full = format!("{}.{function}", prefix.strip_prefix('.').unwrap_or(&prefix));
            if let Some(found) = self.env.function(&full) {
                *function = full;
                *target = None;
                self.resolve(id, &found, None, args);
                return;
            }
        }
        self.expr(receiver);
        match self.env.function(function) {
            Some(found) => self.resolve(id, &found, Some(receiver), args),
            None => {
                self.set(id, Type::Error);
                let name = function.clone();
                self.undeclared(id, &name);
            }
        }
    }

    fn resolve(&mut self, id: Id, function: &Function, target: Option<&Expr>, args: &[Expr]) {
        let given: Vec<Type> = target.into_iter().chain(args).map(|arg| self.get(arg)).collect();
        if matches!(&*function.name, "_&&_" | "_||_") {
            let mut wrong = false;
            for (arg, t) in args.iter().zip(&given) {
                if !self.bindings.assignable(t, &Type::Bool) {
                    self.mismatch(arg.id, &Type::Bool, t);
                    wrong = true;
                }
            }
            self.set(id, if wrong { Type::Error } else { Type::Bool });
            return;
        }
        let mut result: Option<Type> = None;
        let mut fitting = Vec::new();
        for overload in &function.overloads {
            if overload.member != target.is_some() {
                continue;
            }
            let names: HashMap<Arc<str>, Type> =
                overload.params().into_iter().map(|name| (name, self.bindings.fresh())).collect();
            let wanted: Vec<Type> = overload.args.iter().map(|arg| Bindings::rename(arg, &names)).collect();
            if !self.bindings.all_assignable(&given, &wanted) {
                continue;
            }
            fitting.push(overload.id.clone());
            let t = self.bindings.substitute(&Bindings::rename(&overload.result, &names), false);
            result = Some(match result {
                None => t,
                Some(known) if known.is_dyn() || known == t => known,
                Some(_) => Type::Dyn,
            });
        }
        match result {
            Some(t) => {
                self.checked.overloads.insert(id, fitting);
                self.set(id, t);
            }
            None => {
                let mut shown = given.iter().map(|t| self.bindings.substitute(t, true).to_string());
                let receiver = target.and_then(|_| shown.next()).map(|t| format!("{t}.")).unwrap_or_default();
                let args = shown.collect::<Vec<_>>().join(", ");
                let name = &function.name;
                self.report(id, format!("found no matching overload for '{name}' applied to '{receiver}({args})'"));
                self.set(id, Type::Error);
            }
        }
    }

    /// The type of an element or entry written with `?`.
    fn unwrapped(&mut self, id: Id, t: Type, optional: bool) -> Type {
        if !optional {
            return t;
        }
        match t.in_optional() {
            Some(inner) => inner.clone(),
            None if t.is_dyn() => t,
            None => {
                self.mismatch(id, &Type::optional(t.clone()), &t);
                t
            }
        }
    }

    fn join(&mut self, id: Id, before: Option<Type>, t: Type) -> Type {
        let Some(before) = before else { return t };
        if self.bindings.assignable(&before, &t) {
            return most_general(&before, &t);
        }
        self.mismatch(id, &before, &t);
        Type::Error
    }

    fn list(&mut self, e: &mut Expr) {
        let Kind::List(elements) = &mut e.kind else { return };
        let mut joined = None;
        for (element, optional) in elements {
            self.expr(element);
            let t = self.get(element);
            let t = self.unwrapped(element.id, t, *optional);
            joined = Some(self.join(element.id, joined, t));
        }
        let element = joined.unwrap_or_else(|| self.bindings.fresh());
        self.set(e.id, Type::list(element));
    }

    fn map(&mut self, e: &mut Expr) {
        let Kind::Map(entries) = &mut e.kind else { return };
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.expr(&mut entry.key);
            let key = self.get(&entry.key);
            keys = Some(self.join(entry.key.id, keys, key));
            self.expr(&mut entry.value);
            let value = self.get(&entry.value);
            let value = self.unwrapped(entry.value.id, value, entry.optional);
            values = Some(self.join(entry.value.id, values, value));
        }
        let keys = keys.unwrap_or_else(|| self.bindings.fresh());
        let values = values.unwrap_or_else(|| self.bindings.fresh());
        self.set(e.id, Type::map(keys, values));
    }

    fn object(&mut self, e: &mut Expr) {
        let id = e.id;
        let Kind::Struct { name, fields } = &mut e.kind else { return };
        let t = match self.lookup(name) {
            None => {
                let name = name.clone();
                self.undeclared(id, &name);
                self.set(id, Type::Error);
                return;
            }
            Some((Type::Type(Some(of)), _)) => match &*of {
                Type::Object(full) => {
                    *name = full.to_string();
                    (*of).clone()
                }
                other => {
                    let message = format!("'{}' is not a message type", other.name());
                    self.report(id, message);
                    Type::Error
                }
            },
            Some((t, _)) => {
                self.report(id, format!("'{}' is not a type", t.name()));
                Type::Error
            }
        };
        self.set(id, t);
        let name = name.clone();
        for field in fields {
            self.expr(&mut field.value);
            let wanted = match self.env.field_type(&name, &field.name) {
                Some(Some(t)) => t,
                Some(None) => {
                    self.report(field.id, format!("undefined field '{}'", field.name));
                    Type::Error
                }
                None => {
                    self.report(field.id, format!("unexpected failed resolution of '{name}'"));
                    Type::Error
                }
            };
            let value = self.get(&field.value);
            let value = self.unwrapped(field.value.id, value, field.optional);
            if !self.bindings.assignable(&wanted, &value) {
                let message =
                    format!("expected type of field '{}' is '{wanted}' but provided type is '{value}'", field.name);
                self.report(field.id, message);
            }
        }
    }

    fn fold(&mut self, e: &mut Expr) {
        let id = e.id;
        let Kind::Fold(fold) = &mut e.kind else { return };
        let Fold { range, var, var2, accu, init, condition, step, result } = &mut **fold;
        self.expr(range);
        self.expr(init);
        let over = self.bindings.substitute(&self.get(range), false);
        let accu_type = self.get(init);
        let scope = self.scopes.len();
        self.scopes.push((accu.clone(), accu_type.clone()));
        let (first, second) = match &over {
            Type::List(element) if var2.is_some() => (Type::Int, (**element).clone()),
            Type::List(element) => ((**element).clone(), Type::Dyn),
            Type::Map(pair) => (pair.0.clone(), pair.1.clone()),
            Type::Dyn | Type::Any | Type::Error | Type::Param(_) => {
                self.bindings.assignable(&Type::Dyn, &over);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(range.id, message);
                (Type::Error, Type::Error)
            }
        };
        let inner = self.scopes.len();
        self.scopes.push((var.clone(), first));
        if let Some(var2) = var2 {
            self.scopes.push((var2.clone(), second));
        }
        self.expr(condition);
        self.expect(condition, &Type::Bool);
        self.expr(step);
        self.expect(step, &accu_type);
        self.scopes.truncate(inner);
        self.expr(result);
        self.scopes.truncate(scope);
        let t = self.bindings.substitute(&self.get(result), false);
        self.set(id, t);
    }

    fn expect(&mut self, e: &Expr, wanted: &Type) {
        let found = self.get(e);
        if !self.bindings.assignable(wanted, &found) {
            self.mismatch(e.id, wanted, &found);
        }
    }
}
