//! Secrets from 1Password.
