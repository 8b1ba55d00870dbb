//! The table of the keywords of jobs. A row is all that a job needs to know of a keyword; reading, inheritance and what
//! is still missing go through it.

use std::sync::Arc;

use super::field::Field;
use super::keys::Keys;
use super::value::{Reader, Text, is_name, name_pattern};
use super::{
    Artifacts, Cache, Image, Invariant, Need, Parallel, Parent, Retry, Secrets, Services, Step, Timeout,
    Variables, artifacts, cache, extends, image, invariant, job, needs, parallel, retry, script, secrets,
    services, timeout, variables,
};
use crate::diagnostic::Pointer;
use crate::source::{Span, Spanned};
use crate::yaml::Node;

/// Makes of each row `Keyword, name: Type, how it is read, how a nearer value is put over an inherited one;` a keyword
/// and a field of [`Job`].
macro_rules! keywords {
    ($($Keyword:ident, $name:ident: $Type:ty, $read:expr, $merge:expr;)+) => {
        /// A keyword of jobs and templates.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Keyword {
            $(#[doc = concat!("`", stringify!($name), "`")] $Keyword),+
        }

        impl Keyword {
            /// Every keyword, in the order in which messages and the schema name them.
            pub const ALL: &'static [Self] = &[$(Self::$Keyword),+];

            /// The keyword as it is written.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$Keyword => stringify!($name)),+
                }
            }
        }

        /// A job, a template, or `default`.
        #[derive(Debug, Clone)]
        pub(crate) struct Job {
            pub(crate) name: Spanned<Text>,
            /// From its name to the end of its last value.
            pub(crate) span: Span,
            /// The most that a copy of it, with all that it inherits, costs: [`Entry::weight`](crate::yaml::Entry).
            pub(crate) weight: usize,
            $(pub(crate) $name: Field<$Type>),+
        }

        impl Job {
            /// A job with nothing in it, called `name`.
            pub(crate) fn empty(name: Spanned<Text>) -> Self {
                Self { span: name.span, name, weight: 0, $($name: Field::Absent),+ }
            }

            /// Reads the value of `keyword`.
            pub(super) fn read_keyword(
                &mut self,
                keyword: Keyword,
                value: &Node,
                at: &Pointer<'_>,
                reader: &mut Reader<'_>,
            ) {
                match keyword {
                    $(Keyword::$Keyword => {
                        let read: fn(&Node, &Pointer<'_>, &mut Reader<'_>) -> Option<$Type> = $read;
                        self.$name = read(value, at, reader).into();
                    })+
                }
            }

            /// Counts `keyword` as present: nobody asks for it.
            pub(super) fn mark_present(&mut self, keyword: Keyword) {
                match keyword {
                    $(Keyword::$Keyword => self.$name.mark_present()),+
                }
            }

            /// Puts `nearer` over this one.
            pub(crate) fn merge(&mut self, nearer: &Self) {
                $(self.$name.merge(&nearer.$name, $merge);)+
                self.weight = self.weight.saturating_add(nearer.weight);
            }
        }
    };
}

keywords! {
    Stage, stage: Spanned<Text>, read_stage, Clone::clone_from;
    Target, target: Spanned<Text>, read_target, Clone::clone_from;
    Script, script: Arc<Vec<Step>>, |node, at, reader| script::read(node, at, reader).map(Arc::new), Clone::clone_from;
    // Parents are looked up where they are written; that a copy has them, too, means nothing.
    Extends, extends: Vec<Parent>, extends::read, Clone::clone_from;
    Needs, needs: Arc<Vec<Need>>, |node, at, reader| needs::read(node, at, reader).map(Arc::new), Clone::clone_from;
    Variables, variables: Variables, variables::read, variables::merge;
    Image, image: Image, image::read, Image::merge;
    Services, services: Arc<Services>, |node, at, reader| services::read(node, at, reader).map(Arc::new), Clone::clone_from;
    Secrets, secrets: Secrets, secrets::read, secrets::merge;
    Cache, cache: Cache, cache::read, Cache::merge;
    Artifacts, artifacts: Artifacts, artifacts::read, Artifacts::merge;
    RunnerPool, runner_pool: Spanned<Text>, read_runner_pool, Clone::clone_from;
    Invariant, invariant: Invariant, invariant::read, Invariant::merge;
    Timeout, timeout: Timeout, timeout::read, Timeout::merge;
    Retry, retry: Retry, retry::read, Retry::merge;
    AllowFailure, allow_failure: Spanned<bool>, read_allow_failure, Clone::clone_from;
    Parallel, parallel: Arc<Parallel>, |node, at, reader| parallel::read(node, at, reader).map(Arc::new), Clone::clone_from;
    Provider, provider: Spanned<Text>, read_provider, Clone::clone_from;
}

impl Keyword {
    /// The keywords that `default` may hold, in the order in which messages and the schema name them.
    pub const IN_DEFAULT: &'static [Self] = &[
        Self::Image,
        Self::Services,
        Self::Cache,
        Self::Variables,
        Self::Target,
        Self::Artifacts,
        Self::Timeout,
        Self::Retry,
    ];
}

impl Keys for Keyword {
    const KEYS: &'static [Self] = Self::ALL;

    fn as_written(self) -> &'static str {
        self.name()
    }
}

fn read_stage(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<Text>> {
    reader.filled_text(node, at, "set stage to one of the stages")
}

fn read_target(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<Text>> {
    let hint = "set target to linux, the only supported target";
    let target = reader.text(node, at, hint)?;
    if &*target.value != "linux" {
        reader.error(target.span, at, hint);
        return None;
    }
    Some(target)
}

fn read_runner_pool(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<Text>> {
    reader.filled_text(node, at, "set runner_pool to the name of a pool")
}

fn read_allow_failure(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<bool>> {
    reader.flag(node, at, "set allow_failure to true or false")
}

fn read_provider(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<Text>> {
    let hint = "set provider to the name of a provider, as in `host`";
    let provider = reader.filled_text(node, at, hint)?;
    if !is_name(&provider.value, job::MOST_NAME) {
        let pattern = name_pattern(job::MOST_NAME);
        let hint =
            format!("rename provider {} to match ^{pattern}$", crate::diagnostic::quoted(&provider.value));
        reader.error(provider.span, at, hint);
        return None;
    }
    Some(provider)
}
