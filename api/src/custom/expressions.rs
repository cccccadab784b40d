//! Rules in CEL (`x-kubernetes-validations`): what an object says about itself, and about what it was before.
//!
//! Source: KEP-2876 and upstream's documentation of validation rules, with its sentences. What rules may cost is estimated when they
//! are written, and counted while they run.

use super::schema::Node;
use super::structural;
use super::timed::{Work, timed};
use crate::cel::{Activation, Budget, Decl, DeclKind, Env, Extras, Program, Type, Value as Cel, escape, openapi};
use crate::field_path::{ErrorType, Errors, FieldError, Path};
use crate::json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most that one rule may cost, over all places of an object at which it may be run.
const RULE_LIMIT: u64 = 10_000_000;
/// The most that all rules of a schema may cost.
const SCHEMA_LIMIT: u64 = 100_000_000;

/// A rule as a schema has it.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the words of the schema")]
pub struct Said {
    pub rule: String,
    pub message: String,
    pub message_expression: String,
    pub reason: String,
    pub field_path: String,
    pub optional_old_self: Option<bool>,
}

impl Said {
    /// From the JSON of a rule.
    #[must_use]
    pub fn of(rule: &Value) -> Said {
        let text = |name: &str| crate::value::text(rule, name).to_owned();
        Said {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: text("reason"),
            field_path: text("fieldPath"),
            optional_old_self: rule.get("optionalOldSelf").and_then(Value::as_bool),
        }
    }

    /// As sentences name it.
    fn named(&self) -> String {
        match self.message.trim() {
            "" => self.rule.trim().to_owned(),
            message => format!("{message:?}"),
        }
    }

    fn default_message(&self) -> String {
        match self.message.trim() {
            "" => format!("failed rule: {}", self.rule.trim()),
            message => message.to_owned(),
        }
    }
}

/// A rule that can be run.
#[derive(Debug)]
struct Rule {
    said: Said,
    program: Program,
    message: Option<Program>,
    uses_old: bool,
}

/// The rules of a schema and of all that is below it.
#[derive(Debug)]
pub struct Rules {
    kind: String,
    decl: Arc<Decl>,
    own: Vec<Rule>,
    properties: BTreeMap<String, Rules>,
    entries: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
    /// Keys of a list whose elements have some.
    keys: Option<Vec<String>>,
    atomic: bool,
}

/// What is wrong with the rules of a schema, and the rules if nothing is; `None` where there are none. `root` for a resource's.
#[must_use]
pub fn compile(schema: &Value, node: &Node, root: bool, field: &Path) -> (Option<Rules>, Errors) {
    let mut compiler = Compiler { errors: Errors::new(), total: 0, expensive: Vec::new() };
    let place = Place { field: field.clone(), uncorrelated: None, times: Some(1), root, decl: None };
    let rules = compiler.below(schema, node, &place);
    compiler.sum(field);
    (rules, compiler.errors)
}

/// What is declared of a property.
fn field_of(decl: &Decl, name: &str) -> Option<Decl> {
    let DeclKind::Object(object) = &decl.kind else { return None };
    Some(object.fields.get(&escape(name)?)?.decl.clone())
}

/// A schema within the schema.
struct Place {
    field: Path,
    /// The list or map above it whose values have no known past.
    uncorrelated: Option<Path>,
    /// How many values of it an object has at most; `None` where nothing bounds them.
    times: Option<u64>,
    root: bool,
    /// What is declared of its values, as far as the schema above says.
    decl: Option<Decl>,
}

/// Reads the rules of a schema, and adds up what they may cost.
struct Compiler {
    errors: Errors,
    total: u64,
    expensive: Vec<(Path, u64)>,
}

/// How many more values there are of what is in a schema than of the schema.
fn factor(schema: &Value, node: &Node) -> Option<u64> {
    let bound = |limit: Option<i64>| limit.map(|limit| u64::try_from(limit).unwrap_or(0));
    match node.kind.as_str() {
        "object" if schema.get("additionalProperties").is_some() => bound(node.rules.max_properties),
        "array" => bound(node.rules.max_items),
        _ => Some(1),
    }
}

impl Compiler {
    fn below(&mut self, schema: &Value, node: &Node, place: &Place) -> Option<Rules> {
        if !structural::has_expressions(schema) {
            return None;
        }
        let field = &place.field;
        let decl = place.decl.clone().or_else(|| openapi::of_schema(schema, place.root, "selfType"));
        let atomic = node.map_type.as_deref() == Some("atomic");
        let keyed = node.list_type.as_deref() == Some("map");
        let times = place.times.zip(factor(schema, node)).map(|(times, factor)| times.saturating_mul(factor));
        let child = |field: Path, node: &Node, cut: bool, decl: Option<Decl>| Place {
            uncorrelated: place.uncorrelated.clone().or_else(|| cut.then(|| place.field.clone())),
            field,
            times,
            root: node.embedded,
            decl,
        };
        let known = decl.as_ref().map(|decl| &decl.kind);
        let of = |path: &str| schema.get(path).unwrap_or(&Value::Null);
        let entries = node.entries().and_then(|entries| {
            let values = match known {
                Some(DeclKind::Map { values, .. }) => Some(Decl::clone(values)),
                _ => None,
            };
            let at = child(field.child("additionalProperties"), entries, atomic, values);
            self.below(of("additionalProperties"), entries, &at)
        });
        let mut properties = BTreeMap::new();
        for (name, property) in &node.properties {
            let found = decl.as_ref().and_then(|decl| field_of(decl, name));
            let at = child(field.child("properties").key(name), property, atomic, found);
            let found = self.below(of("properties").get(name).unwrap_or(&Value::Null), property, &at);
            properties.extend(found.map(|rules| (name.clone(), rules)));
        }
        let items = node.items.as_ref().and_then(|items| {
            let values = match known {
                Some(DeclKind::List { items, .. }) => Some(Decl::clone(items)),
                _ => None,
            };
            let at = child(field.child("items"), items, !keyed, values);
            self.below(of("items"), items, &at)
        });
        let mut own = Vec::new();
        if !node.expressions.is_empty() {
            match &decl {
                Some(decl) => own = self.own(schema, node, decl, place),
                None => self.errors.push(FieldError::internal(
                    &field.child("x-kubernetes-validations"),
                    "internal error: failed to construct type information for x-kubernetes-validations rules: unable to \
                     convert structural schema to CEL declarations",
                )),
            }
        }
        if own.is_empty() && properties.is_empty() && entries.is_none() && items.is_none() {
            return None;
        }
        Some(Rules {
            kind: node.kind.clone(),
            decl: Arc::new(decl.unwrap_or_else(|| Decl::dynamic().clone())),
            own,
            properties,
            entries: entries.map(Box::new),
            items: items.map(Box::new),
            keys: keyed.then(|| node.list_keys.clone()),
            atomic,
        })
    }

    fn own(&mut self, schema: &Value, node: &Node, decl: &Decl, place: &Place) -> Vec<Rule> {
        let times = place.times.unwrap_or_else(|| openapi::cardinality(schema, place.root));
        timed(Work::Compilation, || {
            let mut own = Vec::new();
            for (i, said) in node.expressions.iter().enumerate() {
                let at = place.field.child("x-kubernetes-validations").index(i);
                own.extend(self.rule(said, decl, &at, times, place.uncorrelated.as_ref()));
            }
            own
        })
    }

    /// Counts what an expression may cost, and refuses it for itself.
    fn cost(&mut self, field: Path, what: &str, cost: u64) {
        if cost > RULE_LIMIT {
            self.errors.push(FieldError::forbidden(&field, too_expensive(what, cost, RULE_LIMIT)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_LIMIT / 100 {
            self.expensive.push((field, cost));
        }
    }

    /// Refuses them all together, and names the most expensive ones.
    fn sum(&mut self, field: &Path) {
        const NAMED: usize = 4;
        if self.total <= SCHEMA_LIMIT {
            return;
        }
        self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        for (path, _) in self.expensive.iter().take(NAMED) {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            self.errors.push(FieldError::forbidden(path, detail));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        self.errors.push(FieldError::forbidden(field, too_expensive(what, self.total, SCHEMA_LIMIT)));
    }

    fn rule(&mut self, said: &Said, decl: &Decl, at: &Path, times: u64, uncorrelated: Option<&Path>) -> Option<Rule> {
        let optional = said.optional_old_self == Some(true);
        let old = match optional {
            true => DeclKind::Other(Type::optional(decl.cel_type())).into(),
            false => decl.clone(),
        };
        let env = Env::kubernetes(Extras::NONE).with("self", decl.clone()).with("oldSelf", old);
        let program = if said.rule.trim().is_empty() {
            None
        } else {
            let found = env.compile(&said.rule).map_err(|why| why.sentence());
            let found = found.and_then(|program| match *program.result() == Type::Bool {
                true => Ok(program),
                false => Err("cel expression must evaluate to a bool".to_owned()),
            });
            match found {
                Ok(program) => Some(program),
                Err(why) => {
                    self.errors.push(wrong(said, &at.child("rule"), &why));
                    None
                }
            }
        };
        let mut message = None;
        if let Some(program) = &program {
            self.cost(at.child("rule"), "estimated rule cost", program.most().saturating_mul(times));
            if !said.message_expression.is_empty() {
                let found = env.compile(&said.message_expression);
                let found = found.map_err(|why| {
                    let what = if why.planning { "instantiation" } else { "compilation" };
                    format!("messageExpression {what} failed: {why}")
                });
                let found = found.and_then(|program| match *program.result() == Type::String {
                    true => Ok(program),
                    false => Err("messageExpression must evaluate to a string".to_owned()),
                });
                match found {
                    Ok(program) => {
                        let field = at.child("messageExpression");
                        self.cost(field, "estimated messageExpression cost", program.most());
                        message = Some(program);
                    }
                    Err(why) => self.errors.push(wrong(said, &at.child("messageExpression"), &why)),
                }
            }
        }
        let uses_old = program.as_ref().is_some_and(|program| program.uses("oldSelf"));
        if let (true, Some(place)) = (uses_old, uncorrelated) {
            let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {place}");
            self.errors.push(FieldError::invalid(&at.child("rule"), said.rule.as_str(), detail));
        }
        if let (false, Some(optional)) = (uses_old, said.optional_old_self) {
            let detail = "may not be set if oldSelf is not used in rule";
            self.errors.push(FieldError::invalid(&at.child("optionalOldSelf"), optional, detail));
        }
        Some(Rule { said: said.clone(), program: program?, message, uses_old })
    }
}

/// The sentence about an expression that is no good, with the whole rule in it, as Go writes it.
fn wrong(said: &Said, field: &Path, why: &str) -> FieldError {
    let text = |text: &str| {
        let quoted = Value::from(text).to_string();
        quoted.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    };
    let or_null = |given: &str| if given.is_empty() { "null".to_owned() } else { text(given) };
    FieldError::invalid_whole(
        field,
        format!(
            "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}: {why}",
            text(&said.rule),
            text(&said.message),
            text(&said.message_expression),
            or_null(&said.reason),
            text(&said.field_path),
            said.optional_old_self.map_or_else(|| "null".to_owned(), |optional| optional.to_string()),
        ),
    )
}

#[expect(clippy::cast_precision_loss, reason = "a factor for people")]
fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        _ if factor > 100.0 => "more than 100x".to_owned(),
        _ if factor < 1.5 => format!("{factor:.6}x"),
        _ => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength \
         where arrays, maps, and strings are declared)"
    )
}

/// The rules that do not hold of an object; `old` is what it was before an update. After errors that say its shape is wrong no
/// rule is run. `place` is where the object is.
#[must_use]
pub fn validate(rules: &Rules, value: &Value, old: Option<&Value>, found: &Errors, place: &Path) -> Errors {
    validate_within(rules, value, old, found, place, &mut Budget::admission())
}

/// The same with what is left of a budget.
pub(super) fn validate_within(
    rules: &Rules,
    value: &Value,
    old: Option<&Value>,
    found: &Errors,
    place: &Path,
    budget: &mut Budget<'static>,
) -> Errors {
    let blocking = |error: &FieldError| {
        use ErrorType::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
    };
    if found.iter().any(blocking) {
        let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                      complete validation";
        return vec![FieldError::invalid(place, Value::Null, detail)];
    }
    let mut run = Run { errors: Errors::new(), budget, over: false };
    run.at(rules, value, old, place, false);
    run.errors
}

struct Run<'b> {
    errors: Errors,
    budget: &'b mut Budget<'static>,
    over: bool,
}

impl Run<'_> {
    /// `settled`: what is around the value, as far as it can be compared, is as it was.
    fn at(&mut self, rules: &Rules, value: &Value, old: Option<&Value>, path: &Path, settled: bool) {
        if !value.is_null() && !self.over {
            timed(Work::Evaluation, || self.within(rules, value, old, path, settled));
        }
    }

    fn within(&mut self, rules: &Rules, value: &Value, old: Option<&Value>, path: &Path, settled: bool) {
        let settled = match old {
            Some(old) => old == value,
            None => settled,
        };
        for rule in &rules.own {
            self.rule(rules, rule, value, old.filter(|old| !old.is_null()), path, settled);
            if self.over {
                return;
            }
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let before = old.filter(|_| !rules.atomic).and_then(|old| old.get(name));
                    match (rules.properties.get(name.as_str()), &rules.entries) {
                        (Some(below), _) => self.at(below, value, before, &path.child(name), settled),
                        (None, Some(below)) => self.at(below, value, before, &path.key(name), settled),
                        (None, None) => {}
                    }
                }
            }
            Value::Array(list) => {
                let Some(below) = &rules.items else { return };
                for (i, value) in list.iter().enumerate() {
                    let same = |other: &&Value| rules.keys.iter().flatten().all(|key| other.get(key) == value.get(key));
                    let all = old.filter(|_| rules.keys.is_some()).and_then(Value::as_array);
                    let before = all.and_then(|all| all.iter().find(same));
                    self.at(below, value, before, &path.index(i), settled);
                }
            }
            _ => {}
        }
    }

    fn say(&mut self, path: &Path, kind: &str, detail: String) {
        self.errors.push(FieldError::invalid(path, kind, detail));
    }

    fn rule(&mut self, rules: &Rules, rule: &Rule, value: &Value, old: Option<&Value>, path: &Path, settled: bool) {
        let optional = rule.said.optional_old_self == Some(true);
        if rule.uses_old && old.is_none() && !optional {
            return;
        }
        let seen = Cel::declared(value, &rules.decl);
        let before = old.map(|old| Cel::declared(old, &rules.decl)).transpose();
        let (seen, before) = match (seen, before) {
            (Ok(seen), Ok(before)) => (seen, before),
            (Err(fault), _) | (_, Err(fault)) => {
                return self.say(path, &rules.kind, format!("{fault} evaluating rule: {}", rule.said.named()));
            }
        };
        let mut activation = Activation::default().with("self", seen);
        activation = match before {
            Some(before) if optional => activation.with("oldSelf", Cel::some(before)),
            Some(before) => activation.with("oldSelf", before),
            None if optional => activation.with("oldSelf", Cel::Optional(None)),
            None => activation,
        };
        match rule.program.evaluate(&activation, self.budget) {
            Ok(Cel::Bool(true)) => return,
            Ok(_) => {}
            Err(fault) => return self.fault(rules, rule, &fault, path),
        }
        // What did not change is not complained about, unless the rule is about change.
        if settled && !rule.uses_old {
            return;
        }
        let said = rule.message.as_ref().and_then(|message| message.evaluate(&activation, self.budget).ok());
        let said = said.map(|said| said.text()).map(|said| said.trim().to_owned());
        let usable = |said: &String| !said.is_empty() && !said.contains(['\n', '\r']);
        let detail = said.filter(usable).unwrap_or_else(|| rule.said.default_message());
        let at = match rule.said.field_path.trim_start_matches('.') {
            "" => path.clone(),
            below => path.child(below),
        };
        self.errors.push(match rule.said.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(&at, detail),
            "FieldValueRequired" => FieldError::required(&at, detail),
            "FieldValueDuplicate" => FieldError { detail, ..FieldError::duplicate(&at, value.clone()) },
            _ if matches!(rules.kind.as_str(), "object" | "array") => FieldError::invalid_whole(&at, detail),
            _ => FieldError::invalid(&at, value.clone(), detail),
        });
    }

    fn fault(&mut self, rules: &Rules, rule: &Rule, fault: &crate::cel::Fault, path: &Path) {
        use crate::cel::Fault;
        let named = rule.said.named();
        self.over = fault.is_final();
        let detail = match fault {
            Fault::NoSuchOverload => format!(
                "'{fault}': call arguments did not match a supported operator, function or macro signature for rule: {named}"
            ),
            Fault::CallLimit => {
                format!(
                    "'{fault}': no further validation rules will be run due to call cost exceeds limit for rule: {named}"
                )
            }
            Fault::Budget => fault.to_string(),
            _ => format!("{fault} evaluating rule: {named}"),
        };
        self.say(path, &rules.kind, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    fn rules(schema: &Value) -> (Option<Rules>, Vec<String>) {
        let (rules, errors) = compile(schema, &Node::of(schema), true, &Path::new("s"));
        (rules, shown(&errors))
    }

    #[test]
    fn rules_hold_or_say_why_not() {
        let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name.startsWith('a')"}],
            "properties": {"spec": {"type": "object",
                "x-kubernetes-validations": [
                    {"rule": "self.min <= self.max", "message": "min must not exceed max"},
                    {"rule": "self.max <= 10", "messageExpression": "'max is %d'.format([self.max])", "fieldPath": ".max"},
                    {"rule": "self.max >= oldSelf.max", "message": "max may not shrink", "reason": "FieldValueForbidden"},
                    {"rule": "oldSelf.hasValue() || self.min == 0", "optionalOldSelf": true, "message": "begin at 0"}],
                "properties": {"min": {"type": "integer"}, "max": {"type": "integer"},
                    "names": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'x'"}]}}}}}});
        let (rules, errors) = rules(&schema);
        assert_eq!(errors, Vec::<String>::new());
        let rules = rules.unwrap();
        let object = |min: i64, max: i64, names: Value| json!({"metadata": {"name": "a"}, "spec": {"min": min, "max": max, "names": names}});
        let check = |new: &Value, old: Option<&Value>, sentences: &[&str]| {
            assert_eq!(shown(&validate(&rules, new, old, &Errors::new(), &Path::new(""))), sentences, "{new}");
        };
        check(&object(0, 5, json!([])), None, &[]);
        check(
            &object(7, 5, json!(["x"])),
            None,
            &[
                "spec: Invalid value: min must not exceed max",
                "spec: Invalid value: begin at 0",
                "spec.names[0]: Invalid value: \"x\": failed rule: self != 'x'",
            ],
        );
        check(&object(0, 11, json!([])), None, &["spec.max: Invalid value: max is 11"]);
        let old = object(7, 5, json!(["x"]));
        check(
            &object(7, 4, json!([])),
            Some(&old),
            &["spec: Invalid value: min must not exceed max", "spec: Forbidden: max may not shrink"],
        );
        let mut labelled = old.clone();
        crate::value::set(&mut labelled, "metadata.labels", json!({"a": "b"}));
        check(&labelled, Some(&old), &[]);
        check(
            &json!({"metadata": {"name": "b"}}),
            None,
            &["<nil>: Invalid value: failed rule: self.metadata.name.startsWith('a')"],
        );
        let blocked = vec![FieldError::required(&Path::new("spec"), "")];
        assert_eq!(validate(&rules, &old, None, &blocked, &Path::new("")).len(), 1);
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        let of = |rule: Value| {
            rules(&json!({"type": "object", "properties": {"l": {"type": "array", "maxItems": 10, "items": {"type": "object",
                "properties": {"n": {"type": "integer"}, "any": {"x-kubernetes-int-or-string": true}},
                "x-kubernetes-validations": [rule]}}}}))
            .1
        };
        let at = "s.properties[l].items.x-kubernetes-validations[0]";
        let shown = |rule: &str, message: &str| {
            format!(
                r#"{{"Rule":"{rule}","Message":"","MessageExpression":"{message}","Reason":null,"FieldPath":"","OptionalOldSelf":null}}"#
            )
        };
        let said = of(json!({"rule": "self.none > 1"}));
        let begin = format!("{at}.rule: Invalid value: {}: compilation failed: ", shown("self.none \\u003e 1", ""));
        assert!(said.len() == 1 && said[0].starts_with(&begin), "{said:?}");
        assert!(said[0].contains("ERROR: <input>:1:5: undefined field 'none'"), "{said:?}");
        for rule in ["self.n", "self.any"] {
            assert_eq!(
                of(json!({"rule": rule})),
                [format!("{at}.rule: Invalid value: {}: cel expression must evaluate to a bool", shown(rule, ""))]
            );
        }
        assert_eq!(
            of(json!({"rule": "self.n > oldSelf.n"})),
            [format!(
                "{at}.rule: Invalid value: \"self.n > oldSelf.n\": oldSelf cannot be used on the uncorrelatable portion of the \
             schema within s.properties[l]"
            )]
        );
        assert_eq!(
            of(json!({"rule": "true", "messageExpression": "1"})),
            [format!(
                "{at}.messageExpression: Invalid value: {}: messageExpression must evaluate to a string",
                shown("true", "1")
            )]
        );
        assert_eq!(
            of(json!({"rule": "true", "optionalOldSelf": true})),
            [format!("{at}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule")]
        );
    }

    #[test]
    fn rules_that_may_cost_too_much_are_refused() {
        const ADVICE: &str = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and \
                              strings are declared)";
        let list = |bound: Value, rules: usize, rule: &str| {
            let rules: Vec<Value> = (0..rules).map(|_| json!({"rule": rule})).collect();
            let mut list = json!({"type": "array", "items": {"type": "string", "maxLength": 10},
                "x-kubernetes-validations": rules});
            crate::value::set(&mut list, "maxItems", bound);
            json!({"type": "object", "properties": {"l": list}})
        };
        let check = |schema: &Value, expected: &[String]| assert_eq!(rules(schema).1, expected, "{schema}");
        let quadratic = "self.all(x, self.exists_one(y, x == y))";
        let at = "s.properties[l].x-kubernetes-validations";
        check(&list(json!(100), 1, quadratic), &[]);
        let mut unbounded = list(json!(1), 1, quadratic);
        crate::value::remove(&mut unbounded, "properties.l.maxItems");
        let much = |what: &str| format!("{what} exceeds budget by factor of more than 100x {ADVICE}");
        let total = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let contributed = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        check(
            &unbounded,
            &[
                format!("{at}[0].rule: Forbidden: {}", much("estimated rule cost")),
                format!("{at}[0].rule: Forbidden: {contributed}"),
                format!("s: Forbidden: {}", much(total)),
            ],
        );
        // Each is cheap enough, but all together are not.
        let many = rules(&list(json!(500), 100, quadratic)).1;
        let named: Vec<String> = (0..4).map(|i| format!("{at}[{i}].rule: Forbidden: {contributed}")).collect();
        assert!(many.len() == 5 && many[..4] == named, "{many:?}");
        assert!(many[4].starts_with(&format!("s: Forbidden: {total} exceeds budget by factor of ")), "{many:?}");
        // A rule at the elements of an unbounded list counts as often as there can be elements.
        let element = json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string",
            "x-kubernetes-validations": [{"rule": "self.contains('x')"}]}}}});
        assert!(
            rules(&element).1[0].starts_with("s.properties[l].items.x-kubernetes-validations[0].rule: Forbidden: ")
        );
    }
}
