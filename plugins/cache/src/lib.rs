//! The cache around providers.
