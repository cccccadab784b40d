//! The environment of device selectors of `resource.k8s.io`.
//!
//! Admission (`kinds::shared::admission_expressions`) and custom resources (`custom::expressions`) keep theirs beside
//! their rules. Holds no values.

use super::decl::{Decl, DeclKind};
use super::env::{Env, Extras};
use super::types::Type;
use super::{CompileErrors, Program};
use std::fmt;

/// Why an expression cannot stand where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no expression.
    Compile(CompileErrors),
    /// Its values are of another type; upstream's sentence.
    Type(String),
}

impl Refusal {
    /// Upstream answers with an internal error instead of an invalid value.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        matches!(self, Refusal::Compile(errors) if errors.planning)
    }
}

/// The detail of the field error.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Compile(errors) => f.write_str(&errors.sentence()),
            Refusal::Type(sentence) => f.write_str(sentence),
        }
    }
}

/// The most that a device selector may cost, when it is written and when it is evaluated.
pub const DEVICE_SELECTOR_LIMIT: u64 = 1_000_000;

/// Attributes and capacities of a device.
const MOST_ATTRIBUTES: u64 = 32;
/// Characters of a domain, an identifier, a driver's name and an attribute's value.
const LONGEST: [u64; 4] = [63, 32, 63, 64];

/// The environment of device selectors of `resource.k8s.io`. `consumable` is the gate `DRAConsumableCapacity`, `lists`
/// the gate `DRAListTypeAttributes`.
#[must_use]
pub fn device(consumable: bool, lists: bool) -> Env {
    let [domain, id, driver, value] = LONGEST;
    let map = |key: u64, values: Decl| {
        let keys = std::sync::Arc::new(Decl::string().at_most(key));
        Decl::from(DeclKind::Map { keys, values: values.into() }).at_most(MOST_ATTRIBUTES)
    };
    let attribute = Decl::from(if lists { DeclKind::Dyn } else { DeclKind::Any }).at_most(value);
    let mut fields = vec![
        ("driver", Decl::string().at_most(driver)),
        ("attributes", map(domain, map(id, attribute))),
        ("capacity", map(domain, map(id, DeclKind::Quantity.into()))),
    ];
    if consumable {
        fields.push(("allowMultipleAllocations", Decl::from(DeclKind::Bool).at_most(1)));
    }
    let extras = if lists { Extras::NONE.with_bind().with_includes() } else { Extras::NONE.with_bind() };
    Env::kubernetes(extras).with("device", Decl::object("kubernetes.DRADevice", fields))
}

/// Compiles a device selector.
///
/// # Errors
/// Upstream's detail for the field; `None` where it can cost more than it may.
pub fn device_selector(env: &Env, source: &str) -> Result<Program, Option<Refusal>> {
    let program = env.compile(source).map_err(|errors| Some(Refusal::Compile(errors)))?;
    let lists = env.function("includes").is_some();
    match program.result() {
        Type::Bool | Type::Any => {}
        Type::Dyn if lists => {}
        other => {
            let got = other.full();
            return Err(Some(Refusal::Type(format!("must evaluate to bool or the unknown type, not {got}"))));
        }
    }
    if program.most() > DEVICE_SELECTOR_LIMIT { Err(None) } else { Ok(program) }
}
