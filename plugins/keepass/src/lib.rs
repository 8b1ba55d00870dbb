//! Secrets from KeePass vaults.
