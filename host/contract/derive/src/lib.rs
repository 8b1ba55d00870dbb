//! `#[derive(Redact)]` for the types of `loom-contract`: a value is redacted by redacting each of its fields.
//!
//! A field that is added later is redacted too, without anybody's thinking of it; a field whose type cannot be redacted
//! does not compile.

use proc_macro::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Fields};

/// Implements `loom_contract::redacted::Redact` for a struct or an enum of that crate, from all of its fields.
#[proc_macro_derive(Redact)]
pub fn redact(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    let name = &input.ident;
    let arms = match &input.data {
        Data::Struct(data) => vec![arm(&quote!(Self), &data.fields)],
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| {
                let variant_name = &variant.ident;
                arm(&quote!(Self::#variant_name), &variant.fields)
            })
            .collect(),
        Data::Union(_) => {
            let error = syn::Error::new_spanned(name, "the fields of a union are not known");
            return error.to_compile_error().into();
        }
    };
    let implementation = quote! {
        impl crate::redacted::Redact for #name {
            fn redact(&mut self, mask: &dyn crate::redacted::Mask) {
                // A type may have no field.
                let _ = mask;
                match self { #(#arms)* }
            }
        }
    };
    implementation.into()
}

/// The arm for the struct or variant at `path`: names every one of `fields`, and redacts it.
fn arm(path: &proc_macro2::TokenStream, fields: &Fields) -> proc_macro2::TokenStream {
    let members = fields.members();
    let bound: Vec<_> = (0..fields.len()).map(|number| format_ident!("field_{number}")).collect();
    quote! {
        #path { #(#members: #bound),* } => { #(crate::redacted::Redact::redact(#bound, mask);)* }
    }
}
