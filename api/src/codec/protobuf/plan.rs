//! Which protobuf field is which: per message its fields by number, with the messages that JSON inlines.
//!
//! Built once for all native types.

use crate::schema::{SchemaRef, TypeId, Types, native};
use std::sync::LazyLock;

/// One message.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// By number, ascending.
    pub(super) entries: Vec<Entry>,
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
    root
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
