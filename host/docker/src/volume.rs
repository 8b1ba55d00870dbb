//! A volume.

use crate::{Kind, Resource};

/// A volume of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub(crate) name: String,
}

impl Volume {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The volume as a resource of its scope.
    pub fn resource(&self) -> Resource {
        Resource { kind: Kind::Volume, id: self.name.clone(), name: self.name.clone() }
    }
}
