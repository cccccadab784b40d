//! Which resources a server has, in the versions it prefers. A group that cannot be asked is named and does not hide
//! the others. It caches nothing.

use kube::{
    Client,
    core::{ApiResource, discovery::verbs},
};
use std::collections::BTreeSet;

/// One resource of the server.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its names.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Its verbs.
    pub verbs: Vec<String>,
}

impl Found {
    /// Whether the resource has a verb.
    #[must_use]
    pub fn has(&self, verb: &str) -> bool {
        self.verbs.iter().any(|held| held == verb)
    }

    /// Whether objects of it can be watched and deleted, so that the garbage collector can keep them.
    #[must_use]
    pub fn is_collectable(&self) -> bool {
        [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|verb| self.has(verb))
    }

    /// `resource.group`, or the resource alone in the core group.
    #[must_use]
    pub fn group_resource(&self) -> String {
        if self.resource.group.is_empty() {
            self.resource.plural.clone()
        } else {
            format!("{}.{}", self.resource.plural, self.resource.group)
        }
    }
}

/// What discovery said: the resources, and per group version that could not be asked, why.
#[derive(Clone, Debug, Default)]
pub struct Discovered {
    /// The resources, each in one version.
    pub resources: Vec<Found>,
    /// Group versions that failed, with the error's words.
    pub failures: Vec<(String, String)>,
}

/// Asks the server for its resources.
///
/// # Errors
/// The list of groups itself could not be had.
pub async fn discover(client: &Client) -> Result<Discovered, kube::Error> {
    let groups = client.list_api_groups().await?;
    let mut versions = vec!["v1".to_owned()];
    for group in groups.groups {
        let preferred = group.preferred_version.map(|version| version.group_version);
        let others = group.versions.into_iter().map(|version| version.group_version);
        let mut ordered: Vec<String> = preferred.iter().cloned().collect();
        ordered.extend(others.filter(|version| Some(version) != preferred.as_ref()));
        versions.extend(ordered);
    }
    let mut found = Discovered::default();
    let mut seen = BTreeSet::new();
    for group_version in versions {
        let listed = if group_version == "v1" {
            client.list_core_api_resources("v1").await
        } else {
            client.list_api_group_resources(&group_version).await
        };
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                found.failures.push((group_version, crate::controller::message(&error)));
                continue;
            }
        };
        let (group, version) = group_version.split_once('/').unwrap_or(("", &group_version));
        for entry in listed.resources {
            if entry.name.contains('/') || !seen.insert((group.to_owned(), entry.name.clone())) {
                continue;
            }
            found.resources.push(Found {
                resource: ApiResource {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    api_version: group_version.clone(),
                    kind: entry.kind,
                    plural: entry.name,
                },
                namespaced: entry.namespaced,
                verbs: entry.verbs,
            });
        }
    }
    Ok(found)
}
