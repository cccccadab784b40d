//! Which protobuf field is which: per message its fields by number, with the messages that JSON inlines.
//!
//! Built once for all native types.

use crate::schema::{Field, SchemaRef, Shape, TypeId, Types, native};
use std::sync::LazyLock;

/// One message.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// By number, ascending.
    pub(super) entries: Vec<Entry>,
    /// Where fields come in the order of their numbers, as they do in most types.
    pub(super) in_order: Option<InOrder>,
}

/// The fields of a message by their positions in the type, as bits.
#[derive(Debug)]
pub(super) struct InOrder {
    /// All that the message has.
    pub(super) all: u64,
    /// Those that are written although they are absent.
    pub(super) always: u64,
    /// Those of which `Types::wire` knows something.
    pub(super) special: u64,
}

impl Plan {
    /// The field of this number. Most messages have the numbers from one on without gaps.
    pub(super) fn entry(&self, number: u32) -> Option<&Entry> {
        let first = self.entries.get((number as usize).saturating_sub(1)).filter(|entry| entry.number == number);
        first.or_else(|| {
            let at = self.entries.binary_search_by_key(&number, |entry| entry.number).ok()?;
            self.entries.get(at)
        })
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: u32,
    pub(super) target: Target,
}

#[derive(Debug)]
pub(super) enum Target {
    /// A field of the type, by position.
    Field(usize),
    /// A message whose fields are fields of the same type in JSON.
    Inline(Plan),
}

static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
    let types = native();
    (0..u32::try_from(types.iter().count()).unwrap_or(0)).map(|id| build(types, TypeId(id))).collect()
});

/// The plan of a native type; `None` for types of other arenas.
pub(super) fn of(schema: SchemaRef<'_>) -> Option<&'static Plan> {
    let own = std::ptr::eq(std::ptr::from_ref(schema.types), std::ptr::from_ref(native()));
    PLANS.get(schema.id.0 as usize).filter(|_| own)
}

fn build(types: &Types, id: TypeId) -> Plan {
    let mut root = Plan::default();
    for (index, field) in types.get(id).fields.iter().enumerate() {
        if field.number == 0 {
            continue;
        }
        let outer = types.wire(id, index).map_or(&[][..], |wire| wire.outer.as_slice());
        let plan = outer.iter().fold(&mut root, |plan, number| inline(plan, *number));
        plan.entries.push(Entry { number: field.number, target: Target::Field(index) });
    }
    sort(&mut root);
    root.in_order = in_order(&root, types, id);
    root
}

fn in_order(plan: &Plan, types: &Types, id: TypeId) -> Option<InOrder> {
    let fields = &types.get(id).fields;
    let mut found = InOrder { all: 0, always: 0, special: 0 };
    for entry in &plan.entries {
        let Target::Field(index) = entry.target else { return None };
        let bit = 1_u64.checked_shl(u32::try_from(index).ok()?)?;
        if found.all >= bit {
            return None;
        }
        found.all |= bit;
        if fields.get(index).is_some_and(is_written_when_absent) {
            found.always |= bit;
        }
        if types.wire(id, index).is_some() {
            found.special |= bit;
        }
    }
    Some(found)
}

/// As Go's zero value.
fn is_written_when_absent(field: &Field) -> bool {
    !field.pointer && !matches!(field.shape, Shape::List { .. } | Shape::Map { .. } | Shape::Bytes)
}

fn inline(plan: &mut Plan, number: u32) -> &mut Plan {
    let at = plan.entries.iter().position(|entry| entry.number == number);
    let at = at.unwrap_or_else(|| {
        plan.entries.push(Entry { number, target: Target::Inline(Plan::default()) });
        plan.entries.len() - 1
    });
    match plan.entries.get_mut(at).map(|entry| &mut entry.target) {
        Some(Target::Inline(inner)) => inner,
        _ => unreachable!("a protobuf number is a field or a message, not both"),
    }
}

fn sort(plan: &mut Plan) {
    plan.entries.sort_by_key(|entry| entry.number);
    for entry in &mut plan.entries {
        if let Target::Inline(inner) = &mut entry.target {
            sort(inner);
        }
    }
}
