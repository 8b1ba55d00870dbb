//! Secrets from the environment.
