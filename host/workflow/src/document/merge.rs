//! Putting a nearer value over an inherited one.

/// A nearer value replaces an inherited one.
pub(super) fn replace<T: Clone>(slot: &mut Option<T>, nearer: &Option<T>) {
    if nearer.is_some() {
        slot.clone_from(nearer);
    }
}
