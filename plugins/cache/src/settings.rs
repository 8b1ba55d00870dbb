//! What the workflow says: the job's `cache`.

use std::collections::BTreeSet;

use serde::Deserialize;

/// The value of the keyword: one cache, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Caches {
    One(Box<CacheSettings>),
    List(Vec<CacheSettings>),
}

impl Caches {
    pub(crate) fn into_list(self) -> Vec<CacheSettings> {
        match self {
            Self::One(cache) => vec![*cache],
            Self::List(caches) => caches,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct CacheSettings {
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) disabled: bool,
    #[serde(default)]
    pub(crate) paths: Vec<String>,
    pub(crate) key: Option<Key>,
    #[serde(default)]
    pub(crate) fallback_keys: Vec<String>,
    pub(crate) policy: Policy,
    pub(crate) when: When,
}

impl CacheSettings {
    /// The name by which its entries are kept apart from those of other caches: where it has none, its paths.
    pub(crate) fn name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let plain = |path: &String| path.trim_start_matches("./").trim_end_matches('/').to_owned();
        let paths: BTreeSet<String> = self.paths.iter().map(plain).collect();
        format!("paths:{}", paths.into_iter().collect::<Vec<_>>().join(","))
    }

    /// It in words.
    pub(crate) fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| "cache".to_owned(), |name| format!("cache `{name}`"))
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Key {
    Template(String),
    Parts {
        prefix: Option<String>,
        #[serde(default)]
        files: Vec<String>,
        template: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Policy {
    PullPush,
    Pull,
    Push,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    OnSuccess,
    OnFailure,
    Always,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(cache: &str) -> String {
        let cache = format!(r#"{{"policy": "pull", "when": "always", {cache}}}"#);
        serde_json::from_str::<CacheSettings>(&cache).map(|cache| cache.name()).unwrap_or_default()
    }

    #[test]
    fn caches_without_a_name_are_kept_apart_by_their_paths() {
        for (cache, expected) in [
            (r#""paths": ["a"]"#, "paths:a"),
            (r#""paths": ["./a/"]"#, "paths:a"),
            (r#""paths": ["b", "a", "b/"]"#, "paths:a,b"),
            (r#""paths": ["a"], "name": "deps""#, "deps"),
        ] {
            assert_eq!(name(cache), expected, "{cache}");
        }
    }
}
