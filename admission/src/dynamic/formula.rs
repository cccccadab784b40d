//! Expressions of webhooks and policies, evaluated for a request.
//!
//! Never decides what a value means. Variables are worked out when an expression that uses them is, once for one object. Source:
//! upstream's `apiserver/pkg/admission/plugin/cel`.

use super::matching::{self, Sight};
use super::review;
use crate::plugin::{Lookup, Request};
use api::cel::lib::authorizer::{Authorization, Authorizer, Decision, Question, ResourceQuestion};
use api::cel::{Activation, Budget, Entries, Fault, Map, Outcome, Program, Type, Value as Cel};
use api::json::Value;
use api::kinds::shared::admission_expressions::{self as environments, Environment, Gives};
use api::value;

/// An expression, compiled if it could be.
#[derive(Debug)]
pub struct Formula {
    /// As written.
    pub source: String,
    program: Result<Program, String>,
    /// The variables that it may look at, by their places.
    needs: Vec<usize>,
}

/// The variables of a policy.
#[derive(Debug, Default)]
pub struct Variables(Vec<(String, Formula)>);

/// Reads formulas, each seeing the variables that are read already.
#[derive(Debug)]
pub struct Reader {
    environment: Environment,
    variables: Variables,
}

impl Reader {
    /// For a webhook, or a policy with or without parameters.
    #[must_use]
    pub fn new(params: bool, patches: bool) -> Reader {
        Reader { environment: Environment::new(params, patches), variables: Variables::default() }
    }

    /// An expression of the object.
    #[must_use]
    pub fn formula(&self, source: &str, gives: Gives) -> Formula {
        let program = self.environment.compile(source, gives);
        // A name that stands anywhere may be looked at; others cannot be.
        let direct: Vec<usize> = (0..self.variables.0.len())
            .filter(|at| self.variables.name(*at).is_some_and(|name| names(source, name)))
            .collect();
        Formula { source: source.to_owned(), program, needs: direct }
    }

    /// The variables of a policy, in order.
    pub fn add_variables(&mut self, list: &[Value]) {
        for variable in list {
            let (name, source) = (value::text(variable, "name"), value::text(variable, "expression"));
            let formula = self.formula(source, Gives::Anything);
            self.environment.add(name, formula.program.as_ref().map_or(Type::Dyn, |program| program.result().clone()));
            self.variables.0.push((name.to_owned(), formula));
        }
    }

    /// The variables that were read.
    #[must_use]
    pub fn variables(self) -> Variables {
        self.variables
    }
}

impl Variables {
    fn name(&self, at: usize) -> Option<&str> {
        self.0.get(at).map(|(name, _)| name.as_str())
    }
}

/// The source has this word.
fn names(source: &str, word: &str) -> bool {
    let inner = |c: char| c == '_' || c.is_ascii_alphanumeric();
    source.match_indices(word).any(|(at, _)| {
        let before = source.get(..at).and_then(|text| text.chars().next_back());
        let after = source.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(inner) && !after.is_some_and(inner)
    })
}

/// What an expression did not give, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This one has no value.
    Here(String),
    /// No further one is evaluated.
    End(String),
}

impl Trouble {
    /// The sentence.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Trouble::Here(text) | Trouble::End(text) => text,
        }
    }
}

/// The JSON that expressions look at.
#[derive(Debug)]
pub struct Scene {
    object: Value,
    old: Value,
    request: Value,
    /// `Null` for none.
    params: Value,
    /// `Null` for none.
    namespace: Value,
    question: ResourceQuestion,
}

impl Scene {
    /// What the request looks like to those who see it so.
    #[must_use]
    pub fn new(request: &Request<'_>, sight: &Sight, params: Value, namespace: Value) -> Scene {
        let name = matching::name(request, &sight.object);
        Scene {
            object: sight.object.clone(),
            old: sight.old.clone(),
            request: review::attributes(request, sight.seen, name),
            params,
            namespace: bare(namespace),
            question: ResourceQuestion {
                group: request.kind.group.to_owned(),
                resource: request.kind.plural.to_owned(),
                subresource: request.subresource.to_owned(),
                namespace: matching::namespace(request).to_owned(),
                name: name.to_owned(),
                ..ResourceQuestion::default()
            },
        }
    }

    /// The object has become another one.
    pub fn replace(&mut self, object: Value) {
        self.object = object;
    }

    /// The object as it is seen.
    #[must_use]
    pub fn object(&self) -> &Value {
        &self.object
    }
}

/// A namespace as expressions see it: without what they may not know.
fn bare(mut namespace: Value) -> Value {
    if let Some(meta) = namespace.get_mut("metadata").and_then(Value::as_object_mut) {
        for hidden in ["managedFields", "ownerReferences", "selfLink"] {
            meta.remove(hidden);
        }
    }
    namespace
}

/// Asks for the user of a request.
pub struct Asker<'a> {
    /// The request.
    pub request: &'a Request<'a>,
    /// Who knows.
    pub lookup: &'a dyn Lookup,
}

impl Authorizer for Asker<'_> {
    fn decide(&self, question: &Question) -> Decision {
        self.lookup.decide(self.request, question)
    }
}

/// Expressions over one scene, which share a budget.
pub struct Sheet<'a> {
    variables: &'a Variables,
    activation: Result<Activation<'a>, String>,
    known: Vec<Option<Outcome<Cel<'a>>>>,
    budget: Budget<'static>,
}

impl<'a> Sheet<'a> {
    /// A sheet on which nothing stands yet.
    #[must_use]
    pub fn new(scene: &'a Scene, asker: &'a Asker<'a>, variables: &'a Variables, budget: Budget<'static>) -> Sheet<'a> {
        let known = variables.0.iter().map(|_| None).collect();
        Sheet { variables, activation: activation(scene, asker), known, budget }
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// Why it has none.
    pub fn value(&mut self, formula: &Formula) -> Result<Cel<'a>, Trouble> {
        let program = match &formula.program {
            Ok(program) => program,
            Err(why) => return Err(Trouble::Here(format!("compilation error: {why}"))),
        };
        let outcome = self.run(program, &formula.needs).map_err(Trouble::Here)?;
        outcome.map_err(|fault| match fault {
            Fault::Budget => Trouble::End(fault.to_string()),
            other => Trouble::Here(format!("expression '{}' resulted in error: {other}", formula.source)),
        })
    }

    fn run(&mut self, program: &Program, needs: &[usize]) -> Result<Outcome<Cel<'a>>, String> {
        let mut entries = Entries::default();
        let mut failed = Vec::new();
        let variables = self.variables;
        for at in needs {
            let Some((name, _)) = variables.0.get(*at) else { continue };
            match self.variable(*at)? {
                Ok(value) => {
                    if let Err(fault) = entries.insert(Cel::string(name.as_str()), value) {
                        return Ok(Err(fault));
                    }
                }
                Err(fault) if fault.is_final() => return Ok(Err(fault)),
                Err(fault) => failed.push((name, fault)),
            }
        }
        let activation = self.activation.clone()?;
        let activation =
            if needs.is_empty() { activation } else { activation.with("variables", Cel::Map(Map::of(entries))) };
        let outcome = program.evaluate(&activation, &mut self.budget);
        Ok(outcome.map_err(|fault| {
            let said = fault.to_string();
            let of = failed.iter().find(|(name, _)| said.contains(&format!("no such key: {name}")));
            match of {
                Some((name, why)) => {
                    Fault::Said(format!("composited variable {name:?} fails to evaluate: {why}").into())
                }
                None => fault,
            }
        }))
    }

    fn variable(&mut self, at: usize) -> Result<Outcome<Cel<'a>>, String> {
        if let Some(Some(known)) = self.known.get(at) {
            return Ok(known.clone());
        }
        let variables = self.variables;
        let outcome = match variables.0.get(at).map(|(_, formula)| formula) {
            // Earlier ones alone: it ends.
            Some(Formula { program: Ok(program), needs, .. }) => self.run(program, needs)?,
            Some(Formula { program: Err(why), .. }) => Err(Fault::Said(why.as_str().into())),
            None => Err(Fault::NoSuchOverload),
        };
        if let Some(place) = self.known.get_mut(at) {
            *place = Some(outcome.clone());
        }
        Ok(outcome)
    }
}

fn activation<'a>(scene: &'a Scene, asker: &'a Asker<'a>) -> Result<Activation<'a>, String> {
    let declared = |json: &'a Value, decl| Cel::declared(json, decl).map_err(|fault| fault.to_string());
    Ok(Activation::default()
        .with("object", Cel::json(&scene.object))
        .with("oldObject", Cel::json(&scene.old))
        .with("params", Cel::json(&scene.params))
        .with("request", declared(&scene.request, environments::request())?)
        .with("namespaceObject", declared(&scene.namespace, environments::namespace())?)
        .with("authorizer", Authorization::authorizer(asker))
        .with("authorizer.requestResource", Authorization::resource(asker, scene.question.clone())))
}

/// Conditions under which a webhook or policy is about a request at all.
#[derive(Debug, Default)]
pub struct Conditions(Vec<Formula>);

impl Conditions {
    /// `matchConditions` of an object.
    #[must_use]
    pub fn read(object: &Value, reader: &Reader) -> Conditions {
        let list = value::items(object, "matchConditions").iter();
        Conditions(list.map(|one| reader.formula(value::text(one, "expression").trim(), Gives::Bool)).collect())
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them hold; `false` also when one does not, whatever is wrong with others.
    ///
    /// # Errors
    /// What is wrong when none says no.
    pub fn hold(&self, sheet: &mut Sheet<'_>) -> Result<bool, String> {
        let mut wrong = Vec::new();
        for formula in &self.0 {
            match sheet.value(formula) {
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(_) => {}
                Err(Trouble::Here(why)) => wrong.push(why),
                Err(Trouble::End(why)) => return Err(why),
            }
        }
        match wrong.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_an_expression() {
        assert!(names("variables.a > 1", "a") && names("variables['a']", "a"));
        assert!(!names("variables.ab + variables.b_a", "a"));
    }
}
