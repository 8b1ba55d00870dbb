//! A key's value in one definition, and how a nearer definition is put over it.

/// The value of a key. A refused one has been reported: it is not missing, and nobody asks for it again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Field<T> {
    /// The key does not stand there.
    #[default]
    Absent,
    /// The key stands there, and its value could not be read.
    Refused,
    /// The value that was read.
    Given(T),
}

impl<T> Field<T> {
    /// Whether the key does not stand there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The value; `None` where there is none, for whatever reason.
    pub(crate) fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Absent | Self::Refused => None,
            Self::Given(value) => Some(value),
        }
    }

    /// The value; `None` where there is none, for whatever reason.
    pub(crate) fn into_value(self) -> Option<T> {
        match self {
            Self::Absent | Self::Refused => None,
            Self::Given(value) => Some(value),
        }
    }

    /// The value, if there is one, as an iterator.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.as_ref().into_iter()
    }

    /// Makes an absent key one that stands there.
    pub(super) fn mark_present(&mut self) {
        if self.is_absent() {
            *self = Self::Refused;
        }
    }
}

impl<T: Clone> Field<T> {
    /// Puts `nearer` over this one, with `merge` where both have a value. A refused value changes no inherited one.
    pub(super) fn merge(&mut self, nearer: &Self, merge: impl FnOnce(&mut T, &T)) {
        match (&mut *self, nearer) {
            (_, Self::Absent) => {}
            (_, Self::Refused) => self.mark_present(),
            (Self::Given(below), Self::Given(nearer)) => merge(below, nearer),
            (Self::Absent | Self::Refused, Self::Given(_)) => self.clone_from(nearer),
        }
    }

    /// Puts `nearer` over this one: a nearer value replaces an inherited one.
    pub(super) fn replace(&mut self, nearer: &Self) {
        self.merge(nearer, T::clone_from);
    }
}

/// What reading a key's value gave.
impl<T> From<Option<T>> for Field<T> {
    fn from(read: Option<T>) -> Self {
        read.map_or(Self::Refused, Self::Given)
    }
}

#[cfg(test)]
mod tests {
    use super::Field::{Absent, Given, Refused};

    #[test]
    fn a_nearer_value_replaces_and_a_refused_one_only_counts_as_present() {
        for (below, nearer, merged) in [
            (Absent, Absent, Absent),
            (Absent, Refused, Refused),
            (Absent, Given(2), Given(2)),
            (Refused, Absent, Refused),
            (Refused, Refused, Refused),
            (Refused, Given(2), Given(2)),
            (Given(1), Absent, Given(1)),
            (Given(1), Refused, Given(1)),
            (Given(1), Given(2), Given(2)),
        ] {
            let mut field = below.clone();
            field.replace(&nearer);
            assert_eq!(field, merged, "{nearer:?} over {below:?}");
        }
    }
}
