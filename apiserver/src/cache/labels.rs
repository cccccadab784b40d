//! Labels of one object as the cache keeps them: one allocation, compared without decoding.
//!
//! Never changes after it was made.

use api::json::Map;

/// See the file. Sorted by key, as the map was that they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Keys and values in turn, one behind the other.
    text: Box<str>,
    /// Where each of them ends.
    ends: Box<[u32]>,
}

impl Labels {
    /// From `metadata.labels`.
    #[must_use]
    pub fn new(labels: &Map) -> Labels {
        let (mut text, mut ends) = (String::new(), Vec::with_capacity(labels.len() * 2));
        for (key, value) in labels {
            for part in [key.as_str(), value.as_str().unwrap_or_default()] {
                text.push_str(part);
                ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            }
        }
        Labels { text: text.into(), ends: ends.into() }
    }

    /// Bytes beside the value itself.
    pub(super) fn weight(&self) -> usize {
        self.text.len() + size_of_val(&*self.ends)
    }

    /// The value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == key).map(|(_, value)| value)
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut from = 0;
        self.ends.chunks_exact(2).map(move |ends| {
            let mut part = |end: &u32| {
                let end = *end as usize;
                let part = self.text.get(from..end).unwrap_or_default();
                from = end;
                part
            };
            let (key, value) = match ends {
                [key, value] => (part(key), part(value)),
                _ => ("", ""),
            };
            (key, value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn labels_are_found_by_their_keys() {
        let labels = json!({"app": "web", "app.kubernetes.io/name": "", "ä": "ö"});
        let labels = Labels::new(labels.as_object().unwrap());
        assert_eq!(labels.get("app"), Some("web"));
        assert_eq!(labels.get("app.kubernetes.io/name"), Some(""));
        assert_eq!(labels.get("ä"), Some("ö"));
        assert_eq!(labels.get("web"), None);
        assert_eq!(labels.iter().count(), 3);
        assert_eq!(Labels::default().get(""), None);
    }
}
