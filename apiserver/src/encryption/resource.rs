//! Which entry of an encryption configuration a stored resource belongs to.
//!
//! `secrets` and `deployments.apps` name one resource, `*.apps` a group, `*.` the core group, `*.*` everything. What is named more
//! narrowly wins; of equally narrow ones the providers follow each other in the order of the file.

use std::collections::HashMap;

/// A name in a `resources` list, and the name of a stored resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Selector {
    pub(crate) resource: String,
    /// Empty for the core group.
    pub(crate) group: String,
}

impl Selector {
    /// Everything behind the first dot is the group.
    pub(crate) fn parse(text: &str) -> Selector {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Selector { resource: resource.to_owned(), group: group.to_owned() }
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.resource == "*" && self.group == "*"
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.resource.as_str(), self.group.as_str()) {
            ("*", "") => f.write_str("*."),
            (resource, "") => f.write_str(resource),
            (resource, group) => write!(f, "{resource}.{group}"),
        }
    }
}

/// Something for each selector of a file.
#[derive(Clone, Debug)]
pub(crate) struct Chosen<T> {
    /// By resource and group as the store writes them.
    exact: HashMap<String, Vec<T>>,
    /// By group.
    groups: HashMap<String, Vec<T>>,
    all: Option<Vec<T>>,
}

impl<T: Clone> Chosen<T> {
    /// Nothing for anything.
    pub(crate) fn new() -> Chosen<T> {
        Chosen { exact: HashMap::new(), groups: HashMap::new(), all: None }
    }

    /// Adds what one entry of the file says about one name.
    ///
    /// # Errors
    /// An earlier entry takes it already: upstream's sentence.
    pub(crate) fn add(&mut self, name: &str, what: &[T]) -> Result<(), String> {
        let selector = Selector::parse(name);
        let masked =
            |earlier: &str| Err(format!("resource {:?} is masked by earlier rule {earlier:?}", selector.to_string()));
        if self.groups.contains_key(&selector.group) {
            return masked(&format!("*.{}", selector.group));
        }
        if self.all.is_some() {
            return masked("*.*");
        }
        let place = if selector.is_everything() {
            self.all.get_or_insert_default()
        } else if selector.resource == "*" {
            self.groups.entry(selector.group).or_default()
        } else {
            self.exact.entry(selector.to_string()).or_default()
        };
        place.extend_from_slice(what);
        Ok(())
    }

    /// What holds for a stored resource, such as `deployments.apps`; nothing when the file is silent about it.
    pub(crate) fn of(&self, resource: &str) -> Option<&[T]> {
        let group = || resource.split_once('.').map_or("", |(_, group)| group);
        let found = self.exact.get(resource).or_else(|| self.groups.get(group())).or(self.all.as_ref());
        found.map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_name_wins() {
        let mut chosen = Chosen::new();
        for (name, what) in
            [("secrets", 1), ("secrets", 2), ("deployments.apps", 3), ("*.apps", 4), ("*.", 5), ("*.*", 6)]
        {
            chosen.add(name, &[what]).unwrap();
        }
        for (resource, what) in [
            ("secrets", &[1, 2][..]),
            ("configmaps", &[5]),
            ("deployments.apps", &[3]),
            ("daemonsets.apps", &[4]),
            ("roles.rbac.authorization.k8s.io", &[6]),
        ] {
            assert_eq!(chosen.of(resource), Some(what), "{resource}");
        }
        let mut some = Chosen::new();
        some.add("configmaps.", &[1]).unwrap();
        assert_eq!((some.of("configmaps"), some.of("secrets")), (Some(&[1][..]), None));
    }

    #[test]
    fn a_name_behind_a_wider_one_is_refused() {
        for (earlier, later, said) in [
            ("*.*", "secrets", r#"resource "secrets" is masked by earlier rule "*.*""#),
            ("*.", "secrets", r#"resource "secrets" is masked by earlier rule "*.""#),
            ("*.apps", "deployments.apps", r#"resource "deployments.apps" is masked by earlier rule "*.apps""#),
            ("*.*", "*.", r#"resource "*." is masked by earlier rule "*.*""#),
        ] {
            let mut chosen = Chosen::new();
            chosen.add(earlier, &[1]).unwrap();
            assert_eq!(chosen.add(later, &[2]), Err(said.to_owned()));
        }
    }
}
