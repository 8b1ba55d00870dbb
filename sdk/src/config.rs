//! What the user's configuration says to a resolver.

use crate::bindings::loom::host;

/// It as JSON: an object, empty where the user configured nothing.
pub fn json() -> String {
    host::config::get()
}
