//! A network of containers.

use crate::{Kind, Resource};

/// A network of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// Whether what is in a network reaches what is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Outside is reachable.
    Reachable,
    /// The containers reach only one another.
    Closed,
}

impl Network {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The network as a resource of its scope.
    pub fn resource(&self) -> Resource {
        Resource { kind: Kind::Network, id: self.id.clone(), name: self.name.clone() }
    }
}
