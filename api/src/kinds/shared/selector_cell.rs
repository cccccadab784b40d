//! A `LabelSelector` as a cell of a table.
//!
//! Never judges it.

use crate::json::Value;
use crate::selector::LabelSelector;

/// `a=1,b in (x,y)`; `<none>` when it says nothing, `<error>` when it cannot be read.
#[must_use]
pub fn shown(selector: Option<&Value>) -> Value {
    match LabelSelector::from_value(selector.unwrap_or(&Value::Null)).map(|selector| selector.to_string()) {
        Err(_) => "<error>".into(),
        Ok(text) if text.is_empty() => "<none>".into(),
        Ok(text) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn selectors_as_cells() {
        for (selector, cell) in [
            (json!(null), "<none>"),
            (json!({}), "<none>"),
            (json!({"matchLabels": {"b": "1"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]}), "a,b=1"),
            (json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}), "<error>"),
        ] {
            assert_eq!(shown(Some(&selector)), cell);
        }
    }
}
