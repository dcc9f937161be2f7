//! Words that users write: in problem lines, on command lines, in a tuner's file.

/// A word that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: cannot read {word:?}; write {expected}")]
#[non_exhaustive]
pub struct WordError {
    /// The field that the word is for.
    pub field: &'static str,
    /// The word as given.
    pub word: String,
    /// The words that can be read.
    pub expected: &'static str,
}

impl WordError {
    pub(crate) fn new(field: &'static str, word: &str, expected: &'static str) -> Self {
        Self {
            field,
            word: word.to_owned(),
            expected,
        }
    }
}

/// Implements `Display` and `FromStr` of an enum by one word for each value.
macro_rules! words {
    ($type:ident, $field:literal, $expected:literal: $($value:ident $word:literal),+ $(,)?) => {
        impl $type {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// The word for it in problem lines and on command lines.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $word),+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::word::WordError;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().copied().find(|value| value.name() == word);
                found.ok_or_else(|| $crate::word::WordError::new($field, word, $expected))
            }
        }
    };
}
pub(crate) use words;
