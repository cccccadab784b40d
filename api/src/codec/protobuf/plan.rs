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
    /// Of a type: the place of each of its fields in the order of the wire, by its position; 64 and more for what is not there.
    pub(super) turns: Vec<u8>,
    /// Of a type: the turns of fields that are written although they are absent, as bits.
    pub(super) always: u64,
    /// Of a type: there are no messages that JSON inlines, so that each entry is its turn.
    pub(super) flat: bool,
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
    /// A field of the type.
    Field(Place),
    /// A message whose fields are fields of the same type in JSON.
    Inline(Plan),
}

/// Where a field is.
#[derive(Debug)]
pub(super) struct Place {
    /// Its position in the type.
    pub(super) index: usize,
    /// Its place in the order of the wire, as that of a bit.
    pub(super) turn: u8,
    /// Its rank among the names of the type (`Types::rank`).
    pub(super) rank: u64,
    /// `Types::wire` knows something of it.
    pub(super) special: bool,
    /// A text that is not there when it is empty.
    pub(super) text: bool,
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
    let fields = &types.get(id).fields;
    for (index, field) in fields.iter().enumerate() {
        if field.number == 0 {
            continue;
        }
        let special = types.wire(id, index);
        let outer = special.map_or(&[][..], |wire| wire.outer.as_slice());
        let plan = outer.iter().fold(&mut root, |plan, number| inline(plan, *number));
        let place = Place {
            index,
            turn: 0,
            rank: types.rank(id, index).unwrap_or_default(),
            special: special.is_some(),
            text: field.shape == Shape::String && field.omit_empty && !field.pointer && special.is_none(),
        };
        plan.entries.push(Entry { number: field.number, target: Target::Field(place) });
    }
    sort(&mut root);
    root.flat = root.entries.iter().all(|entry| matches!(entry.target, Target::Field(_)));
    let mut turns = vec![u8::MAX; fields.len()];
    number(&mut root, &mut 0, &mut turns);
    for (turn, field) in turns.iter().zip(fields) {
        if is_written_when_absent(field) {
            root.always |= 1_u64.checked_shl(u32::from(*turn)).unwrap_or_default();
        }
    }
    root.turns = turns;
    root
}

/// Gives the fields their turns.
fn number(plan: &mut Plan, next: &mut u8, turns: &mut [u8]) {
    for entry in &mut plan.entries {
        match &mut entry.target {
            Target::Inline(inner) => number(inner, next, turns),
            Target::Field(place) => {
                place.turn = *next;
                if let Some(turn) = turns.get_mut(place.index) {
                    *turn = *next;
                }
                *next = next.saturating_add(1);
            }
        }
    }
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
