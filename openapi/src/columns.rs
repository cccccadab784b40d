//! What the columns of a kind's table show, in sentences: their own, or those of the fields they name.
//!
//! Never decides which columns there are: the kind does.

use crate::schemas::{META, Sentences};
use api::kind::{Column, Kind};
use api::schema::{SchemaRef, Shape, native};

/// One sentence for each column of the kind, in order; empty where nothing is known. Reads the sentences of everything that the kind
/// holds, which takes milliseconds: callers keep what they got.
#[must_use]
pub fn descriptions(kind: &Kind) -> Vec<String> {
    let stored = kind.stored_as.as_ref().map_or(kind, |stored| stored.kind);
    let sentences = Sentences::of_kind(stored);
    kind.columns.iter().map(|column| description(column, stored, &sentences)).collect()
}

fn description(column: &Column, stored: &Kind, sentences: &Sentences) -> String {
    let said = match column.field.strip_prefix("metadata.") {
        _ if column.field.is_empty() => None,
        Some(field) => sentences.of_field(&format!("{META}ObjectMeta"), field),
        None => field(stored.schema(), column.field, sentences),
    };
    said.map_or_else(|| column.description.to_owned(), std::borrow::Cow::into_owned)
}

/// The sentence of a field, looked up step by step along its path.
fn field<'a>(root: SchemaRef<'_>, path: &str, sentences: &'a Sentences) -> Option<std::borrow::Cow<'a, str>> {
    let mut owner = root.def();
    let mut steps = path.split('.').peekable();
    while let Some(step) = steps.next() {
        if steps.peek().is_none() {
            return sentences.of_field(&owner.name, step);
        }
        let field = owner.fields.iter().find(|field| field.name == step)?;
        let Shape::Struct(id) = &field.shape else { return None };
        owner = native().get(*id);
    }
    None
}
