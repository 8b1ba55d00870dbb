//! The keys of the language's mappings, each set an enum, so that the compiler finds where one was forgotten.

/// The keys that a mapping may hold.
pub(crate) trait Keys: Copy + Eq + 'static {
    /// All of them, in the order in which messages and the schema name them.
    const KEYS: &'static [Self];

    /// The key as it is written.
    fn as_written(self) -> &'static str;

    /// The key that is written `text`.
    fn of(text: &str) -> Option<Self> {
        Self::KEYS.iter().copied().find(|key| key.as_written() == text)
    }
}

/// How `keys` are written.
pub(crate) fn written<K: Keys>(keys: &[K]) -> Vec<&'static str> {
    keys.iter().map(|key| key.as_written()).collect()
}

/// Defines the keys of one mapping: an enum that is [`Keys`].
macro_rules! keys {
    ($(#[$meta:meta])* $vis:vis enum $Keys:ident { $($(#[$doc:meta])* $Key:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $Keys {
            $($(#[$doc])* $Key),+
        }

        impl $crate::document::keys::Keys for $Keys {
            const KEYS: &'static [Self] = &[$(Self::$Key),+];

            fn as_written(self) -> &'static str {
                match self {
                    $(Self::$Key => $text),+
                }
            }
        }
    };
}

pub(super) use keys;
