//! The most that an expression can cost, from its types and the declared sizes of its variables.
//!
//! Follows cel-go's checker and Kubernetes' libraries, because upstream refuses custom resources and device selectors by
//! these figures. Never evaluates.

use super::ast::{Expr, Fold, Id, Kind, Literal};
use super::check::Checked;
use super::cost::{AUTHORIZATION, LIST, MAP, OBJECT, PATTERN, TRAVERSAL};
use super::decl::{Decl, DeclKind};
use super::env::Env;
use super::types::Type;
use std::collections::HashMap;

/// Of a size or a cost, the least and the most; `u64::MAX` is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

impl Range {
    pub(crate) const UNKNOWN: Range = Range { min: 0, max: u64::MAX };

    pub(crate) fn fixed(value: u64) -> Range {
        Range { min: value, max: value }
    }

    pub(crate) fn plus(self, other: Range) -> Range {
        Range { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(crate) fn times(self, other: Range) -> Range {
        Range { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub(crate) fn scaled(self, factor: f64) -> Range {
        Range { min: scaled(self.min, factor), max: scaled(self.max, factor) }
    }

    pub(crate) fn union(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "saturates, as cel-go's does; never negative"
)]
fn scaled(value: u64, factor: f64) -> u64 {
    (value as f64 * factor).ceil() as u64
}

/// Sizes of what is in a list or map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    list: bool,
    key: Range,
    value: Range,
}

impl Entry {
    fn union(self, other: Entry) -> Entry {
        Entry { list: self.list, key: self.key.union(other.key), value: self.value.union(other.value) }
    }
}

/// A variable of a comprehension.
#[derive(Clone, Debug, Default)]
struct Local {
    path: Path,
    size: Option<Range>,
    entry: Option<Entry>,
}

/// Where in a variable a value is; empty when it is not of one.
pub(crate) type Path = Vec<String>;

/// An argument as the rules for functions see it.
pub(crate) struct Argument<'x> {
    pub(crate) path: Path,
    pub(crate) t: Type,
    pub(crate) expr: &'x Expr,
    pub(crate) size: Option<Range>,
}

/// What a call costs, and how large its value is.
pub(crate) struct Estimate {
    pub(crate) cost: Range,
    pub(crate) size: Option<Range>,
}

/// The most that an expression can cost.
pub(crate) fn most(expr: &Expr, checked: &Checked, env: &Env) -> u64 {
    let (paths, locals, sizes, entries) = (HashMap::new(), Vec::new(), HashMap::new(), HashMap::new());
    Estimator { env, checked, paths, locals, sizes, entries }.cost(expr).max
}

pub(crate) struct Estimator<'e> {
    env: &'e Env,
    checked: &'e Checked,
    paths: HashMap<Id, Path>,
    locals: Vec<(String, Local)>,
    sizes: HashMap<Id, Range>,
    entries: HashMap<Id, Entry>,
}

impl Estimator<'_> {
    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|(known, _)| known == name).map(|(_, local)| local)
    }

    fn path(&self, e: &Expr) -> Path {
        if let Kind::Ident(name) = &e.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&e.id).cloned().unwrap_or_default()
    }

    fn below(&self, e: &Expr, step: &str) -> Path {
        let mut path = self.path(e);
        path.push(step.to_owned());
        path
    }

    fn cost(&mut self, e: &Expr) -> Range {
        match &e.kind {
            Kind::Error | Kind::Literal(_) => Range::fixed(0),
            Kind::Ident(name) => {
                let path = self.local(name).map_or_else(|| vec![name.clone()], |local| local.path.clone());
                self.paths.insert(e.id, path);
                Range::fixed(1)
            }
            // Kubernetes takes nothing for a presence test itself.
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => {
                let cost = self.cost(operand);
                let path = self.below(operand, field);
                self.paths.insert(e.id, path);
                let counted = matches!(self.checked.type_of(operand), Type::Map(_) | Type::Object(_) | Type::Param(_));
                cost.plus(Range::fixed(u64::from(counted)))
            }
            Kind::Call { target, function, args } => self.call(e, target.as_deref(), function, args),
            Kind::List(elements) => {
                let mut cost = Range::fixed(LIST);
                let mut size = Range { min: if elements.is_empty() { 0 } else { u64::MAX }, max: 0 };
                for (element, _) in elements {
                    cost = cost.plus(self.cost(element));
                    size = size.union(self.size(element).unwrap_or(Range::UNKNOWN));
                }
                self.entries.insert(e.id, Entry { list: true, key: Range::fixed(1), value: size });
                cost
            }
            Kind::Map(entries) => {
                let mut cost = Range::fixed(MAP);
                let empty = Range { min: if entries.is_empty() { 0 } else { u64::MAX }, max: 0 };
                let (mut key, mut value) = (empty, empty);
                for entry in entries {
                    cost = cost.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                    key = key.union(self.size(&entry.key).unwrap_or(Range::UNKNOWN));
                    value = value.union(self.size(&entry.value).unwrap_or(Range::UNKNOWN));
                }
                self.entries.insert(e.id, Entry { list: false, key, value });
                cost
            }
            Kind::Struct { fields, .. } => {
                fields.iter().fold(Range::fixed(OBJECT), |cost, field| cost.plus(self.cost(&field.value)))
            }
            Kind::Fold(fold) => self.fold(e, fold),
        }
    }

    /// Declares a variable for as long as `inner` runs.
    fn with<T>(&mut self, name: &str, local: Local, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.locals.push((name.to_owned(), local));
        let value = inner(self);
        self.locals.pop();
        value
    }

    fn named(&mut self, e: &Expr) -> Local {
        Local { path: self.path(e), entry: self.entry(e), size: self.size(e) }
    }

    fn fold(&mut self, e: &Expr, fold: &Fold) -> Range {
        let cost = self.cost(&fold.range).plus(self.cost(&fold.init));
        let named = self.named(&fold.init);
        let empty = matches!(&fold.range.kind, Kind::List(elements) if elements.is_empty());
        if empty && matches!(fold.condition.kind, Kind::Literal(Literal::Bool(false))) {
            return self.with(&fold.accu, named, |this| {
                let cost = cost.plus(this.cost(&fold.result));
                this.copy(e, &fold.result);
                cost
            });
        }
        let entry = self.entry(&fold.range);
        let list = entry.map_or_else(|| matches!(self.checked.type_of(&fold.range), Type::List(_)), |entry| entry.list);
        let range_path = self.path(&fold.range);
        let at = |step: &str, size| {
            let mut path = range_path.clone();
            path.push(step.to_owned());
            Local { path, size, entry: None }
        };
        let (key, value) = (entry.map(|entry| entry.key), entry.map(|entry| entry.value));
        let values = at(if list { "@items" } else { "@values" }, value);
        let first = match (&fold.var2, list) {
            (Some(_), true) => at("@indices", key),
            (None, true) => values.clone(),
            (_, false) => at("@keys", key),
        };
        let mut cost = cost;
        self.with(&fold.accu, named, |this| {
            let second = fold.var2.as_deref().unwrap_or("");
            let round = this.with(&fold.var, first, |this| {
                this.with(second, values, |this| this.cost(&fold.condition).plus(this.cost(&fold.step)))
            });
            cost = cost.plus(this.cost(&fold.result));
            let rounds = this.size(&fold.range).unwrap_or(Range::UNKNOWN);
            cost = cost.plus(rounds.times(round));
            match fold.init.kind {
                Kind::Literal(_) => {
                    let size = this.size(&fold.init);
                    this.set_size(e, size);
                }
                Kind::List(_) | Kind::Map(_) => {
                    this.set_size(e, Some(rounds));
                    if let Some(entry) = this.entry(&fold.step) {
                        this.entries.insert(e.id, entry);
                    }
                }
                _ => {}
            }
        });
        cost
    }

    fn argument<'x>(&mut self, e: &'x Expr) -> Argument<'x> {
        let mut path = self.path(e);
        if path.first().is_some_and(|root| root == super::macros::ACCU) {
            path.clear();
        }
        Argument { path, t: self.checked.type_of(e), expr: e, size: self.size(e) }
    }

    fn call(&mut self, e: &Expr, target: Option<&Expr>, function: &str, args: &[Expr]) -> Range {
        if let ("dyn", [arg]) = (function, args) {
            let cost = self.cost(arg);
            self.copy(e, arg);
            return cost.plus(Range::fixed(1));
        }
        let mut costs = Vec::with_capacity(args.len());
        let mut known = Vec::with_capacity(args.len());
        for arg in args {
            costs.push(self.cost(arg));
            known.push(self.argument(arg));
        }
        let overloads = match function {
            "_&&_" | "_||_" => {
                let left = costs.first().copied().unwrap_or(Range::fixed(0));
                let right = costs.get(1).copied().unwrap_or(Range::fixed(0));
                let size = self.size(e);
                self.set_size(e, size);
                return Range { min: left.min, max: left.max.saturating_add(right.max) };
            }
            _ => self.checked.overloads.get(&e.id).cloned().unwrap_or_default(),
        };
        if overloads.is_empty() {
            return Range::fixed(0);
        }
        let mut total = Range::fixed(0);
        let receiver = target.map(|target| {
            total = total.plus(self.cost(target));
            self.argument(target)
        });
        let args_cost = costs.iter().fold(Range::fixed(0), |sum, cost| sum.plus(*cost));
        let mut most = Range { min: u64::MAX, max: 0 };
        let mut size: Option<Range> = None;
        for overload in &overloads {
            let estimate = match &**overload {
                "conditional" => self.conditional(e, args, &costs),
                "add_string" | "add_bytes" | "add_list" => self.added(e, overload, args, args_cost),
                _ => {
                    let found = super::estimates::call(self, function, overload, receiver.as_ref(), &known);
                    Estimate { cost: found.cost.plus(args_cost), size: found.size }
                }
            };
            most = most.union(estimate.cost);
            size = match (size, estimate.size) {
                (Some(a), Some(b)) => Some(a.union(b)),
                (a, b) => a.or(b),
            };
            if let ("index_list" | "index_map", Some(of)) = (&**overload, args.first()) {
                size = self.entry(of).map(|entry| entry.value);
                let path = self.below(of, if &**overload == "index_list" { "@items" } else { "@values" });
                self.paths.insert(e.id, path);
            }
            if size.is_none() {
                size = self.size(e);
            }
        }
        self.set_size(e, size);
        total.plus(most)
    }

    fn conditional(&mut self, e: &Expr, args: &[Expr], costs: &[Range]) -> Estimate {
        let ([_, yes, no], [condition, if_yes, if_no]) = (args, costs) else {
            return Estimate { cost: Range::fixed(1), size: None };
        };
        let size = self.size(yes).unwrap_or(Range::UNKNOWN).union(self.size(no).unwrap_or(Range::UNKNOWN));
        if let (Some(a), Some(b)) = (self.entry(yes), self.entry(no)) {
            self.entries.insert(e.id, a.union(b));
        }
        Estimate { cost: condition.plus(if_yes.union(*if_no)), size: Some(size) }
    }

    fn added(&mut self, e: &Expr, overload: &str, args: &[Expr], args_cost: Range) -> Estimate {
        let [a, b] = args else { return Estimate { cost: Range::fixed(1), size: None } };
        let size = self.size(a).unwrap_or(Range::UNKNOWN).plus(self.size(b).unwrap_or(Range::UNKNOWN));
        if let (Some(a), Some(b)) = (self.entry(a), self.entry(b)) {
            self.entries.insert(e.id, a.union(b));
        }
        let own = if overload == "add_list" { Range::fixed(1) } else { size.scaled(TRAVERSAL) };
        Estimate { cost: own.plus(args_cost), size: Some(size) }
    }

    fn set_size(&mut self, e: &Expr, size: Option<Range>) {
        if let Some(size) = size {
            self.sizes.insert(e.id, size);
        }
    }

    fn copy(&mut self, to: &Expr, from: &Expr) {
        let (size, entry) = (self.size(from), self.entry(from));
        self.set_size(to, size);
        if let Some(entry) = entry {
            self.entries.insert(to.id, entry);
        }
    }

    fn entry(&self, e: &Expr) -> Option<Entry> {
        if let Some(entry) = self.entries.get(&e.id) {
            return Some(*entry);
        }
        match &e.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entry),
            _ => None,
        }
    }

    fn size(&mut self, e: &Expr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&e.id) {
            return Some(*size);
        }
        let written = match &e.kind {
            Kind::Literal(Literal::String(text)) => Some(text.chars().count()),
            Kind::Literal(Literal::Bytes(bytes)) => Some(bytes.len()),
            Kind::Literal(_) => Some(1),
            Kind::List(elements) => Some(elements.len()),
            Kind::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(size) = written {
            return Some(Range::fixed(size as u64));
        }
        if let Some(size) = self.declared(&self.path(e)) {
            self.sizes.insert(e.id, size);
            return Some(size);
        }
        if is_scalar(&self.checked.type_of(e)) {
            return Some(Range::fixed(1));
        }
        match &e.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    /// The size that the declaration of a variable allows at a path.
    pub(crate) fn declared(&self, path: &[String]) -> Option<Range> {
        let (root, steps) = path.split_first()?;
        let mut at: &Decl = self.env.variable(root)?;
        for step in steps {
            at = match (&at.kind, step.as_str()) {
                (DeclKind::List { items, .. }, "@items") => items,
                (DeclKind::Map { values, .. }, "@values") => values,
                (DeclKind::Map { keys, .. }, "@keys") => keys,
                (DeclKind::Object(object), name) => &object.fields.get(name)?.decl,
                // Attributes of devices have one size, whatever their names are.
                (DeclKind::Map { values, .. }, _) if self.env.syntax.bind && values.cel_type().is_dyn() => values,
                _ => return None,
            };
        }
        Some(Range { min: 0, max: at.most.unwrap_or(0) })
    }

    /// The size of an argument; unknown when nothing says it.
    pub(crate) fn size_of(&self, argument: &Argument<'_>) -> Range {
        argument.size.or_else(|| self.declared(&argument.path)).unwrap_or(Range::UNKNOWN)
    }

    /// The type and size of the elements of a list.
    pub(crate) fn element(&self, list: &Argument<'_>) -> Option<(Type, Range)> {
        let t = match &list.t {
            Type::List(element) => (**element).clone(),
            Type::Map(pair) => pair.0.clone(),
            Type::Opaque(_, params) => params.first()?.clone(),
            _ => return None,
        };
        let mut path = list.path.clone();
        if !path.is_empty() {
            path.push("@items".to_owned());
        }
        Some((t, self.declared(&path).unwrap_or(Range::UNKNOWN)))
    }
}

fn is_scalar(t: &Type) -> bool {
    match t {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        t => t.in_optional().is_some_and(is_scalar),
    }
}

/// Of asking the authorizer, as a range.
pub(crate) const ASKING: Range = Range { min: AUTHORIZATION, max: AUTHORIZATION };
/// Of a character of a pattern.
pub(crate) const OF_PATTERN: f64 = PATTERN;
