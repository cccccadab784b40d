//! Rules in CEL (`x-kubernetes-validations`): what an object says about itself, and about what it was before.
//!
//! Source: KEP-2876 and upstream's documentation of validation rules, with its sentences. Costs are counted while rules run, never
//! estimated before.

use super::schema::Node;
use crate::cel::{
    Activation, Budget, Decl, DeclKind, Env, Extras, FieldDecl, ObjectDecl, Program, Type, Value as Cel, escape,
};
use crate::field_path::{ErrorType, Errors, FieldError, Path};
use crate::schema::ListKind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rule as a schema has it.
#[derive(Debug, Default)]
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

/// What is wrong with the rules of a schema, and the rules if nothing is; `None` where there are none.
#[must_use]
pub fn compile(node: &Node, field: &Path) -> (Option<Rules>, Errors) {
    let mut errors = Errors::new();
    let decl = declared(node, true, "selfType");
    let rules = decl.and_then(|decl| rules_of(&mut errors, node, &decl, field, None));
    (rules, errors)
}

/// What CEL sees of a value; `None` for what it cannot see.
fn declared(node: &Node, resource: bool, name: &str) -> Option<Decl> {
    let size = |limit: Option<i64>| limit.and_then(|limit| u64::try_from(limit).ok());
    let mut decl: Decl = match node.kind.as_str() {
        _ if node.int_or_string => DeclKind::Dyn.into(),
        "array" => {
            let items = declared(node.items.as_ref()?, node.items.as_ref()?.embedded, &format!("{name}.@idx"))?;
            let kind = match node.list_type.as_deref() {
                Some("set") => ListKind::Set,
                Some("map") => ListKind::Map(node.list_keys.clone()),
                _ => ListKind::Atomic,
            };
            Decl::from(DeclKind::List { items: Arc::new(items), kind })
        }
        "object" => match node.entries() {
            Some(entries) => {
                let values = declared(entries, entries.embedded, &format!("{name}.@elem"))?;
                DeclKind::Map { keys: Arc::new(Decl::string()), values: Arc::new(values) }.into()
            }
            None => {
                let mut fields = BTreeMap::new();
                for (property, child) in &node.properties {
                    let below = format!("{name}.{property}");
                    if let (Some(escaped), Some(decl)) = (escape(property), declared(child, child.embedded, &below)) {
                        fields.insert(escaped, FieldDecl { name: property.clone(), decl });
                    }
                }
                if resource {
                    let meta = ["name", "generateName"].map(|field| (field, Decl::string()));
                    let meta = Decl::object(&format!("{name}.metadata"), meta);
                    for (field, decl) in [("apiVersion", Decl::string()), ("kind", Decl::string()), ("metadata", meta)]
                    {
                        fields.insert(field.to_owned(), FieldDecl { name: field.to_owned(), decl });
                    }
                }
                DeclKind::Object(Arc::new(ObjectDecl { name: name.into(), fields, constructible: false })).into()
            }
        },
        "string" => match node.rules.format.replace('-', "").as_str() {
            "byte" => DeclKind::Bytes.into(),
            "duration" => DeclKind::Duration.into(),
            "date" | "datetime" => DeclKind::Timestamp.into(),
            _ => Decl::string(),
        },
        "boolean" => DeclKind::Bool.into(),
        "number" => DeclKind::Double.into(),
        "integer" => DeclKind::Int.into(),
        _ => return None,
    };
    decl.nullable = node.nullable;
    decl.most = match node.kind.as_str() {
        "array" => size(node.rules.max_items),
        "object" => size(node.rules.max_properties),
        _ => size(node.rules.max_length),
    };
    Some(decl)
}

/// What is declared of a property.
fn field_of(decl: &Decl, name: &str) -> Option<Decl> {
    let DeclKind::Object(object) = &decl.kind else { return None };
    Some(object.fields.get(&escape(name)?)?.decl.clone())
}

fn rules_of(errors: &mut Errors, node: &Node, decl: &Decl, field: &Path, uncorrelated: Option<&Path>) -> Option<Rules> {
    let atomic = node.map_type.as_deref() == Some("atomic");
    let mut own = Vec::new();
    for (i, said) in node.expressions.iter().enumerate() {
        let at = field.child("x-kubernetes-validations").index(i);
        own.extend(rule(errors, said, decl, &at, uncorrelated));
    }
    let below = uncorrelated.or(atomic.then_some(field));
    let mut properties = BTreeMap::new();
    for (name, child) in &node.properties {
        let at = field.child("properties").key(name);
        let found = field_of(decl, name).and_then(|decl| rules_of(errors, child, &decl, &at, below));
        properties.extend(found.map(|rules| (name.clone(), rules)));
    }
    let entries = match (node.entries(), &decl.kind) {
        (Some(entries), DeclKind::Map { values, .. }) => {
            rules_of(errors, entries, values, &field.child("additionalProperties"), below)
        }
        _ => None,
    };
    let keyed = node.list_type.as_deref() == Some("map");
    let items = match (&node.items, &decl.kind) {
        (Some(items), DeclKind::List { items: of, .. }) => {
            let below = uncorrelated.or((!keyed).then_some(field));
            rules_of(errors, items, of, &field.child("items"), below)
        }
        _ => None,
    };
    if own.is_empty() && properties.is_empty() && entries.is_none() && items.is_none() {
        return None;
    }
    Some(Rules {
        kind: node.kind.clone(),
        decl: Arc::new(decl.clone()),
        own,
        properties,
        entries: entries.map(Box::new),
        items: items.map(Box::new),
        keys: keyed.then(|| node.list_keys.clone()),
        atomic,
    })
}

fn rule(errors: &mut Errors, said: &Said, decl: &Decl, at: &Path, uncorrelated: Option<&Path>) -> Option<Rule> {
    if said.rule.trim().is_empty() {
        return None;
    }
    let mut old = decl.clone();
    if said.optional_old_self == Some(true) {
        old = DeclKind::Other(Type::optional(decl.cel_type())).into();
    }
    let now = Env::kubernetes(Extras::NONE).with("self", decl.clone());
    let both = now.clone().with("oldSelf", old);
    let (program, uses_old) = match (now.compile(&said.rule), both.compile(&said.rule)) {
        (Ok(program), _) => (program, false),
        (Err(_), Ok(program)) => (program, true),
        (Err(_), Err(why)) => {
            let detail = why.sentence();
            errors.push(FieldError::invalid(&at.child("rule"), said.rule.as_str(), detail));
            return None;
        }
    };
    if !program.may_be(&Type::Bool) {
        let detail = "cel expression must evaluate to a bool";
        errors.push(FieldError::invalid(&at.child("rule"), said.rule.as_str(), detail));
    }
    if let (true, Some(place)) = (uses_old, uncorrelated) {
        let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {place}");
        errors.push(FieldError::invalid(&at.child("rule"), said.rule.as_str(), detail));
    }
    if let (false, Some(optional)) = (uses_old, said.optional_old_self) {
        let detail = "may not be set if oldSelf is not used in rule";
        errors.push(FieldError::invalid(&at.child("optionalOldSelf"), optional, detail));
    }
    let message = match said.message_expression.trim() {
        "" => None,
        source => {
            let found = both.compile(source).map_err(|why| format!("messageExpression compilation failed: {why}"));
            let text = found.and_then(|program| match program.may_be(&Type::String) {
                true => Ok(program),
                false => Err("messageExpression must evaluate to a string".to_owned()),
            });
            match text {
                Ok(program) => Some(program),
                Err(detail) => {
                    errors.push(FieldError::invalid(&at.child("messageExpression"), source, detail));
                    None
                }
            }
        }
    };
    let said = Said {
        rule: said.rule.clone(),
        message: said.message.clone(),
        message_expression: said.message_expression.clone(),
        reason: said.reason.clone(),
        field_path: said.field_path.clone(),
        optional_old_self: said.optional_old_self,
    };
    Some(Rule { said, program, message, uses_old })
}

/// The rules that do not hold of an object; `old` is what it was before an update. After errors that say its shape is wrong no
/// rule is run.
#[must_use]
pub fn validate(rules: &Rules, value: &Value, old: Option<&Value>, found: &Errors) -> Errors {
    let blocking = |error: &FieldError| {
        use ErrorType::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
    };
    let nowhere = Path::new("");
    if found.iter().any(blocking) {
        let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                      complete validation";
        return vec![FieldError::invalid(&nowhere, Value::Null, detail)];
    }
    let mut run = Run { errors: Errors::new(), budget: Budget::admission(), over: false };
    run.at(rules, value, old, &nowhere, false);
    run.errors
}

struct Run {
    errors: Errors,
    budget: Budget<'static>,
    over: bool,
}

impl Run {
    /// `settled`: what is around the value, as far as it can be compared, is as it was.
    fn at(&mut self, rules: &Rules, value: &Value, old: Option<&Value>, path: &Path, settled: bool) {
        if value.is_null() || self.over {
            return;
        }
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
                    match (rules.properties.get(name), &rules.entries) {
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
        match rule.program.evaluate(&activation, &mut self.budget) {
            Ok(Cel::Bool(true)) => return,
            Ok(_) => {}
            Err(fault) => return self.fault(rules, rule, &fault, path),
        }
        // What did not change is not complained about, unless the rule is about change.
        if settled && !rule.uses_old {
            return;
        }
        let said = rule.message.as_ref().and_then(|message| message.evaluate(&activation, &mut self.budget).ok());
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
    use crate::kinds::shared::testing::shown;
    use serde_json::json;

    fn rules(schema: &Value) -> (Option<Rules>, Vec<String>) {
        let (rules, errors) = compile(&Node::of(schema), &Path::new("s"));
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
            assert_eq!(shown(&validate(&rules, new, old, &Errors::new())), sentences, "{new}");
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
        assert_eq!(validate(&rules, &old, None, &blocked).len(), 1);
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        let of = |rule: Value| {
            rules(&json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "object",
                "properties": {"n": {"type": "integer"}}, "x-kubernetes-validations": [rule]}}}}))
            .1
        };
        let at = "s.properties[l].items.x-kubernetes-validations[0]";
        let said = of(json!({"rule": "self.none > 1"}));
        assert!(
            said.len() == 1 && said[0].contains("compilation failed: ERROR: <input>:1:5: undefined field 'none'"),
            "{said:?}"
        );
        assert_eq!(
            of(json!({"rule": "self.n"})),
            [format!("{at}.rule: Invalid value: \"self.n\": cel expression must evaluate to a bool"),]
        );
        assert_eq!(
            of(json!({"rule": "self.n > oldSelf.n"})),
            [format!(
                "{at}.rule: Invalid value: \"self.n > oldSelf.n\": oldSelf cannot be used on the uncorrelatable portion of the \
             schema within s.properties[l]"
            )]
        );
        assert_eq!(
            of(json!({"rule": "true", "messageExpression": "1"})),
            [format!("{at}.messageExpression: Invalid value: \"1\": messageExpression must evaluate to a string"),]
        );
    }
}
