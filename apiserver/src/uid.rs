//! UUIDs of objects and requests.
//!
//! Of the thread's own generator, which is seeded by the operating system and fit for secrets: asking that for each would be a system call. Never
//! the same twice.

/// A new one, of version 4.
pub(crate) fn random() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn they_are_of_version_4_and_differ() {
        let all: std::collections::HashSet<String> = (0..1000).map(|_| super::random()).collect();
        assert_eq!(all.len(), 1000);
        for one in all {
            let parsed: uuid::Uuid = one.parse().unwrap();
            assert_eq!((parsed.get_version_num(), parsed.get_variant()), (4, uuid::Variant::RFC4122));
            assert_eq!(parsed.to_string(), one);
        }
    }
}
