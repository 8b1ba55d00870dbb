use std::marker::PhantomData;

use crate::bindings::loom::host::types;
use crate::bindings::resolver::exports::loom::plugin::secret_resolver as exports;
use crate::bindings::vault::exports::loom::plugin::vault_admin;
use crate::error::{Error, Result};

/// Finds the values of secrets. Loom makes one value with [`Default`] for a run, and asks it once for each job that starts
/// and has secrets of its schemes.
///
/// What it logs or prints is shown to nobody, since it may hold what nobody may see. Its errors are shown: they must not
/// hold values.
///
/// Registered with [`export_secret_resolver!`](crate::export_secret_resolver).
pub trait SecretResolver: Default {
    /// Called at most once, before anything is resolved, with every reference that the run may come to ask for. What takes
    /// long, such as opening a vault, may be done here; that it failed is told by [`SecretResolver::resolve`].
    fn open(&mut self, references: &[String]) {
        let _ = references;
    }

    /// The value of `reference`, which is whole: `<scheme>://<place>`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) where the reference is malformed,
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where the place holds nothing or more than one thing fits; any
    /// other kind where what holds the values cannot be reached or opened.
    fn resolve(&mut self, reference: &str) -> Result<Vec<u8>>;
}

/// Manages what a resolver reads from, for `loom secrets <scheme>`.
///
/// Registered with [`export_vault!`](crate::export_vault).
pub trait VaultAdmin: SecretResolver {
    /// Makes the vault `vault`, locked by its credentials; one that exists is replaced only where `replace` says so.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) where it exists.
    fn create_vault(&mut self, vault: &str, replace: bool) -> Result<()>;

    /// Locks `vault` with the credentials whose slots begin with `new-` instead of those it has.
    ///
    /// # Errors
    /// It cannot be opened or written.
    fn update_vault(&mut self, vault: &str) -> Result<()>;

    /// Makes the item at `path` with one field.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) where it exists.
    fn create_item(&mut self, vault: &str, path: &str, field: &str, value: &[u8]) -> Result<()>;

    /// Sets one field of the item at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where it does not exist.
    fn update_item(&mut self, vault: &str, path: &str, field: &str, value: &[u8]) -> Result<()>;

    /// All items, in order of path.
    ///
    /// # Errors
    /// The vault cannot be opened.
    fn list_items(&mut self, vault: &str) -> Result<Vec<Item>>;
}

/// What a vault holds under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its path, groups and name joined by `/`.
    pub path: String,
    /// The names of its fields that hold something. Never a value.
    pub fields: Vec<String>,
}

/// Makes the component a resolver of the given type, which implements [`SecretResolver`].
#[macro_export]
macro_rules! export_secret_resolver {
    ($resolver:ty) => {
        impl $crate::__private::ResolverInstance for $resolver {
            fn with<R>(call: impl FnOnce(&mut Self) -> R) -> R {
                ::std::thread_local! {
                    static INSTANCE: ::core::cell::RefCell<$resolver> =
                        ::core::cell::RefCell::new(::core::default::Default::default());
                }
                INSTANCE.with_borrow_mut(call)
            }
        }

        const _: () = $crate::__private::registered_resolver::<$resolver>();
        // Elsewhere there is no host; the crate builds all the same, so that its own tests run.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = $crate::__private::ExportedResolver<$resolver>;
    $crate::bindings::resolver::export!(Component with_types_in $crate::bindings::resolver);
        };
    };
}

/// Makes the component a resolver of the given type that also manages its vaults: it implements [`VaultAdmin`].
#[macro_export]
macro_rules! export_vault {
    ($resolver:ty) => {
        $crate::export_secret_resolver!($resolver);
        impl $crate::__private::VaultInstance for $resolver {}
        const _: () = $crate::__private::registered_vault::<$resolver>();
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = $crate::__private::ExportedResolver<$resolver>;
    $crate::bindings::vault::export!(Component with_types_in $crate::bindings::vault);
        };
    };
}

/// Makes sure on every target that `R` can be exported.
pub const fn registered_resolver<R: ResolverInstance>() {}

/// Makes sure on every target that `R` can be exported as a vault.
pub const fn registered_vault<R: VaultInstance>() {}

/// The one value of a component's resolver.
pub trait ResolverInstance: SecretResolver {
    /// Calls `call` with it.
    fn with<R>(call: impl FnOnce(&mut Self) -> R) -> R;
}

/// The one value of a component's resolver that manages vaults.
pub trait VaultInstance: ResolverInstance + VaultAdmin {}

/// What the component exports for the resolver `R`.
#[derive(Debug)]
pub struct ExportedResolver<R>(PhantomData<R>);

impl<R: ResolverInstance> exports::Guest for ExportedResolver<R> {
    fn open(references: Vec<String>) {
        R::with(|resolver| resolver.open(&references));
    }

    fn resolve(references: Vec<String>) -> Vec<Result<Vec<u8>, types::Error>> {
        R::with(|resolver| {
            references.iter().map(|reference| resolver.resolve(reference).map_err(Error::into_host)).collect()
        })
    }
}

impl<R: VaultInstance> vault_admin::Guest for ExportedResolver<R> {
    fn create_vault(vault: String, replace: bool) -> Result<(), types::Error> {
        R::with(|admin| admin.create_vault(&vault, replace)).map_err(Error::into_host)
    }

    fn update_vault(vault: String) -> Result<(), types::Error> {
        R::with(|admin| admin.update_vault(&vault)).map_err(Error::into_host)
    }

    fn create_item(vault: String, path: String, field: String, value: Vec<u8>) -> Result<(), types::Error> {
        R::with(|admin| admin.create_item(&vault, &path, &field, &value)).map_err(Error::into_host)
    }

    fn update_item(vault: String, path: String, field: String, value: Vec<u8>) -> Result<(), types::Error> {
        R::with(|admin| admin.update_item(&vault, &path, &field, &value)).map_err(Error::into_host)
    }

    fn list_items(vault: String) -> Result<Vec<vault_admin::Item>, types::Error> {
        let items = R::with(|admin| admin.list_items(&vault)).map_err(Error::into_host)?;
        let item = |item: Item| vault_admin::Item { path: item.path, fields: item.fields };
        Ok(items.into_iter().map(item).collect())
    }
}
