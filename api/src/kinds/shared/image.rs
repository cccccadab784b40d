//! Names of container images, as far as defaults depend on them.
//!
//! Never pulls.

/// The longest name of a repository, with the registry.
const LONGEST: usize = 255;

/// `Always` for what may move (no tag, or `latest`, and no digest), else `IfNotPresent`; a name that is no image name
/// counts as fixed.
#[must_use]
pub fn pull_policy(reference: &str) -> &'static str {
    let (name, digest) = reference.split_once('@').map_or((reference, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map(|(_, tag)| tag);
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    let repository = name.len() - tag.map_or(0, |tag| tag.len() + 1);
    let whole = if name.contains('/') { repository } else { repository + "docker.io/library/".len() };
    let is_name = plain(last.split(':').next().unwrap_or_default()) && whole <= LONGEST;
    match (tag, digest) {
        (None, None) if is_name => "Always",
        (Some("latest"), _) if is_name => "Always",
        _ => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::pull_policy;

    #[test]
    fn moving_names_are_pulled_always() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("registry:5000/nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
            ("", "IfNotPresent"),
            (&"x".repeat(237), "Always"),
            (&"x".repeat(238), "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
