//! What is evaluated: a checked expression with its names found and its constants worked out.
//!
//! Shaped like cel-go's planner, because costs are counted by the steps that it makes. Never evaluates against objects.

use super::ast::{Expr, Fold, Id, Kind, Literal};
use super::check::Checked;
use super::declare::Function;
use super::env::Env;
use super::error::Fault;
use super::eval::{Activation, Evaluator};
use super::macros::ACCU;
use super::value::{Key, List, Value};
use std::collections::HashSet;
use std::sync::Arc;

/// A step.
#[derive(Debug)]
pub(crate) enum Node {
    Const(Value<'static>),
    Attr(Box<Attr>),
    /// `has(operand.field)`.
    Has(Box<Attr>, Value<'static>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Equal(Box<Node>, Box<Node>, bool),
    /// True unless it is false; mistakes are not false.
    NotFalse(Box<Node>),
    Call(Box<CallNode>),
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    Object(Arc<str>, Vec<(Arc<str>, Node, bool)>),
    Fold(Box<FoldNode>),
    /// `a.or(b)`, or with the mark `a.orValue(b)`.
    OptionalOr(Box<Node>, Box<Node>, bool),
    /// In a list of constants.
    InSet(Box<Node>, HashSet<Key>),
}

/// A value and what is taken out of it.
#[derive(Debug)]
pub(crate) struct Attr {
    pub(crate) base: Base,
    pub(crate) steps: Vec<Step>,
}

/// Where an attribute begins.
#[derive(Debug)]
pub(crate) enum Base {
    /// Of a comprehension, by its place among all that are open.
    Local(usize),
    /// The accumulator of a macro: read for the last time where something is added to it.
    Accu(usize),
    Global(Arc<str>),
    Relative(Node),
    Condition(Node, Node, Node),
}

/// `.field`, `[key]`, and both with `?`.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) key: StepKey,
    pub(crate) optional: bool,
}

/// What is looked up.
#[derive(Debug)]
pub(crate) enum StepKey {
    Const(Value<'static>),
    Node(Node),
}

/// A call of code.
#[derive(Debug)]
pub(crate) struct CallNode {
    pub(crate) function: Arc<Function>,
    pub(crate) overload: Option<Arc<str>>,
    pub(crate) args: Vec<Node>,
}

/// A comprehension; its variables are in the places that follow those that are open.
#[derive(Debug)]
pub(crate) struct FoldNode {
    pub(crate) range: Node,
    pub(crate) two: bool,
    pub(crate) init: Node,
    pub(crate) condition: Node,
    pub(crate) step: Node,
    pub(crate) result: Node,
}

/// Makes the steps.
pub(crate) struct Planner<'e> {
    pub(crate) env: &'e Env,
    pub(crate) checked: &'e Checked,
    pub(crate) locals: Vec<String>,
}

/// Functions of one constant that are worked out at once.
const CONVERSIONS: &[&str] =
    &["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"];

impl Planner<'_> {
    /// The steps of an expression.
    ///
    /// # Errors
    /// A constant that cannot be converted.
    pub(crate) fn node(&mut self, e: &Expr) -> Result<Node, Fault> {
        Ok(match &e.kind {
            Kind::Error => Node::Const(Value::Null),
            Kind::Literal(literal) => Node::Const(constant(literal)),
            Kind::Ident(name) => match self.checked.type_names.get(&e.id) {
                Some(t) => Node::Const(Value::Type(Arc::new(t.clone()))),
                None => Node::Attr(Box::new(Attr { base: self.base(name), steps: Vec::new() })),
            },
            Kind::Select { operand, field, test } => {
                let attr = self.attr(operand)?;
                let key = Value::string(field.as_str());
                if *test { Node::Has(attr, key) } else { stepped(attr, StepKey::Const(key), false) }
            }
            Kind::Call { target, function, args } => self.call(e.id, target.as_deref(), function, args)?,
            Kind::List(elements) => {
                let elements = elements.iter().map(|(element, optional)| Ok((self.node(element)?, *optional)));
                let elements = elements.collect::<Result<Vec<_>, Fault>>()?;
                let constants = elements.iter().map(|(node, optional)| match node {
                    Node::Const(value) if !optional => Some(value.clone()),
                    _ => None,
                });
                match constants.collect::<Option<Vec<_>>>() {
                    Some(values) => Node::Const(Value::List(List::of(values))),
                    None => Node::List(elements),
                }
            }
            Kind::Map(entries) => {
                let entries =
                    entries.iter().map(|entry| Ok((self.node(&entry.key)?, self.node(&entry.value)?, entry.optional)));
                let entries = entries.collect::<Result<Vec<_>, Fault>>()?;
                let constants = entries.iter().all(|(key, value, optional)| {
                    !optional && matches!((key, value), (Node::Const(_), Node::Const(_)))
                });
                let node = Node::Map(entries);
                match constants.then(|| work_out(&node)) {
                    Some(Ok(value)) => Node::Const(value),
                    _ => node,
                }
            }
            Kind::Struct { name, fields } => {
                let fields = fields
                    .iter()
                    .map(|field| Ok((field.name.as_str().into(), self.node(&field.value)?, field.optional)));
                Node::Object(name.as_str().into(), fields.collect::<Result<Vec<_>, Fault>>()?)
            }
            Kind::Fold(fold) => self.fold(fold)?,
        })
    }

    fn base(&self, name: &str) -> Base {
        match self.locals.iter().rposition(|local| local == name) {
            Some(at) if name == ACCU => Base::Accu(at),
            Some(at) => Base::Local(at),
            None => Base::Global(name.into()),
        }
    }

    /// An operand that something is taken out of.
    fn attr(&mut self, e: &Expr) -> Result<Box<Attr>, Fault> {
        Ok(match self.node(e)? {
            Node::Attr(attr) => attr,
            node => Box::new(Attr { base: Base::Relative(node), steps: Vec::new() }),
        })
    }

    fn fold(&mut self, fold: &Fold) -> Result<Node, Fault> {
        let range = self.node(&fold.range)?;
        let init = self.node(&fold.init)?;
        let open = self.locals.len();
        self.locals.push(fold.accu.clone());
        self.locals.push(fold.var.clone());
        self.locals.extend(fold.var2.clone());
        let condition = self.node(&fold.condition)?;
        let step = self.node(&fold.step)?;
        self.locals.truncate(open + 1);
        let result = self.node(&fold.result)?;
        self.locals.truncate(open);
        let two = fold.var2.is_some();
        Ok(Node::Fold(Box::new(FoldNode { range, two, init, condition, step, result })))
    }

    fn call(&mut self, id: Id, target: Option<&Expr>, name: &str, args: &[Expr]) -> Result<Node, Fault> {
        match (name, args) {
            ("_[_]" | "_[?_]" | "_?._", [operand, key]) => {
                let attr = self.attr(operand)?;
                let key = match self.node(key)? {
                    Node::Const(value) => StepKey::Const(value),
                    node => StepKey::Node(node),
                };
                return Ok(stepped(attr, key, name != "_[_]"));
            }
            ("_?_:_", [condition, yes, no]) => {
                let (condition, yes, no) = (self.node(condition)?, self.node(yes)?, self.node(no)?);
                return Ok(Node::Attr(Box::new(Attr { base: Base::Condition(condition, yes, no), steps: Vec::new() })));
            }
            _ => {}
        }
        let mut nodes = Vec::new();
        for arg in target.into_iter().chain(args) {
            nodes.push(self.node(arg)?);
        }
        let overload = self.checked.overload(id).cloned();
        if let [_, _] = nodes.as_slice() {
            let (Some(b), Some(a)) = (nodes.pop(), nodes.pop()) else { return Ok(Node::Const(Value::Null)) };
            let (a, b) = (Box::new(a), Box::new(b));
            let (a, b) = match name {
                "_&&_" => return Ok(Node::And(a, b)),
                "_||_" => return Ok(Node::Or(a, b)),
                "_==_" => return Ok(Node::Equal(a, b, true)),
                "_!=_" => return Ok(Node::Equal(a, b, false)),
                "or" if target.is_some() => return Ok(Node::OptionalOr(a, b, false)),
                "orValue" if target.is_some() => return Ok(Node::OptionalOr(a, b, true)),
                "@in" if overload.as_deref() == Some("in_list") => match in_constants(a, &b) {
                    Ok(node) => return Ok(node),
                    Err(a) => (a, b),
                },
                _ => (a, b),
            };
            nodes.extend([*a, *b]);
        }
        if let ("@not_strictly_false", [_]) = (name, nodes.as_slice()) {
            return Ok(nodes.pop().map_or(Node::Const(Value::Null), |node| Node::NotFalse(Box::new(node))));
        }
        let Some(function) = self.env.function(name) else {
            return Err(Fault::said(format!("no such overload: {name}")));
        };
        let constant = matches!(nodes.as_slice(), [Node::Const(_)]);
        let node = Node::Call(Box::new(CallNode { function, overload, args: nodes }));
        if constant && CONVERSIONS.contains(&name) {
            return work_out(&node).map(Node::Const);
        }
        Ok(node)
    }
}

/// The value of steps without variables.
fn work_out(node: &Node) -> Result<Value<'static>, Fault> {
    let activation = Activation::default();
    Evaluator::new(&activation, u64::MAX, None).eval(node)
}

fn stepped(mut attr: Box<Attr>, key: StepKey, optional: bool) -> Node {
    attr.steps.push(Step { key, optional });
    Node::Attr(attr)
}

/// Looking something up among constants, where all of them can be looked up.
fn in_constants(wanted: Box<Node>, list: &Node) -> Result<Node, Box<Node>> {
    let Node::Const(Value::List(list)) = list else { return Err(wanted) };
    if list.is_empty() {
        return Ok(Node::Const(Value::Bool(false)));
    }
    match list.iter().map(|value| Key::of(&value.ok()?)).collect::<Option<HashSet<Key>>>() {
        Some(keys) => Ok(Node::InSet(wanted, keys)),
        None => Err(wanted),
    }
}

fn constant(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::string(text.clone()),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}
