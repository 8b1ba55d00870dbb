//! `image`: the container image that a job runs in, given or built. Without one a job runs on the host.

use std::collections::BTreeMap;

use loom_contract::graph_ir::PullPolicy;

use super::field::Field;
use super::keys::{Keys, keys, written};
use super::paths;
use super::value::{Reader, Text};
use super::variables::check_template;
use crate::diagnostic::Pointer;
use crate::source::{Span, Spanned};
use crate::yaml::{Kind, Meaning, Node};

keys! {
    /// The keys of the long form of `image`.
    pub(super) enum ImageKey {
        Name = "name",
        Build = "build",
        Entrypoint = "entrypoint",
        PullPolicy = "pull_policy",
        User = "user",
        Platform = "platform",
    }
}
keys! {
    /// The keys of `build`.
    pub(super) enum BuildKey {
        Context = "context",
        Dockerfile = "dockerfile",
        Args = "args",
        Target = "target",
    }
}
pub(super) const PULL_POLICIES: [(&str, PullPolicy); 3] = [
    ("if-not-present", PullPolicy::IfNotPresent),
    ("always", PullPolicy::Always),
    ("never", PullPolicy::Never),
];
const NAME: &str = "set image to an image's name, as in `alpine:3.20`";

/// What was typed under `image`.
#[derive(Debug, Clone)]
pub(crate) enum Image {
    /// Nothing, or an empty text: an inherited image is undone.
    Host,
    /// The name alone.
    Name(Spanned<Text>),
    Spec(Box<ImageSpec>),
}

/// The long form.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageSpec {
    pub(crate) span: Span,
    pub(crate) name: Field<Spanned<Text>>,
    pub(crate) build: Field<Build>,
    pub(crate) entrypoint: Field<Spanned<Vec<Text>>>,
    pub(crate) pull_policy: Field<Spanned<PullPolicy>>,
    pub(crate) user: Field<Spanned<Text>>,
    pub(crate) platform: Field<Spanned<Text>>,
}

/// How the image is built.
#[derive(Debug, Clone, Default)]
pub(crate) struct Build {
    pub(crate) span: Span,
    pub(crate) context: Field<Spanned<Text>>,
    pub(crate) dockerfile: Field<Spanned<Text>>,
    pub(crate) args: BTreeMap<Text, Spanned<Text>>,
    pub(crate) target: Field<Spanned<Text>>,
}

impl Image {
    /// Puts `nearer` over this one. Only two long forms are merged.
    pub(super) fn merge(&mut self, nearer: &Self) {
        match (self, nearer) {
            (Self::Spec(below), Self::Spec(nearer)) => below.merge(nearer),
            (below, nearer) => below.clone_from(nearer),
        }
    }
}

impl ImageSpec {
    /// Reports what is missing once everything is inherited.
    pub(crate) fn check(&self, owner: &str, reader: &mut Reader<'_>) {
        let root = Pointer::Root;
        let at = root.key(owner);
        let at = at.key("image");
        let mut require = |is_absent: bool, key: &str, span: Span, at: &Pointer<'_>, what: &str| {
            if is_absent {
                reader.error(span, &at.key(key), format!("add required key {key}: {what}"));
            }
        };
        require(
            self.name.is_absent(),
            "name",
            self.span,
            &at,
            "the image's name, which is also the tag of what is built",
        );
        if let Some(build) = self.build.as_ref() {
            let at = at.key("build");
            let what = "a folder, relative to the repository's root";
            require(build.context.is_absent(), "context", build.span, &at, what);
            let what = "a file, relative to the repository's root";
            require(build.dockerfile.is_absent(), "dockerfile", build.span, &at, what);
        }
    }

    fn merge(&mut self, nearer: &Self) {
        self.span = nearer.span;
        self.name.replace(&nearer.name);
        self.build.merge(&nearer.build, Build::merge);
        self.entrypoint.replace(&nearer.entrypoint);
        self.pull_policy.replace(&nearer.pull_policy);
        self.user.replace(&nearer.user);
        self.platform.replace(&nearer.platform);
    }
}

impl Build {
    fn merge(&mut self, nearer: &Self) {
        self.span = nearer.span;
        self.context.replace(&nearer.context);
        self.dockerfile.replace(&nearer.dockerfile);
        self.args.extend(nearer.args.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.target.replace(&nearer.target);
    }
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Image> {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.meaning() == Meaning::Null || scalar.text.is_empty() => {
            Some(Image::Host)
        }
        Kind::Map(_) => Some(Image::Spec(Box::new(read_spec(node, at, reader)?))),
        _ => read_name(node, at, NAME, reader).map(Image::Name),
    }
}

/// An image's name, without what a daemon would only stumble over later.
pub(super) fn read_name(
    node: &Node,
    at: &Pointer<'_>,
    hint: &str,
    reader: &mut Reader<'_>,
) -> Option<Spanned<Text>> {
    let name = reader.filled_text(node, at, hint)?;
    if !check_template(&name.value, name.span, at, reader) {
        return None;
    }
    if name.value.contains(|char: char| char.is_whitespace() || char.is_control()) {
        reader.error(name.span, at, hint);
        return None;
    }
    Some(name)
}

/// A text that may refer to variables.
fn read_template(
    node: &Node,
    at: &Pointer<'_>,
    hint: &str,
    reader: &mut Reader<'_>,
) -> Option<Spanned<Text>> {
    let text = reader.filled_text(node, at, hint)?;
    check_template(&text.value, text.span, at, reader).then_some(text)
}

fn read_spec(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<ImageSpec> {
    let mut spec = ImageSpec { span: node.span, ..ImageSpec::default() };
    for entry in reader.map(node, at, NAME)? {
        let place = &at.key(&entry.key);
        let value = &entry.value;
        match ImageKey::of(&entry.key) {
            Some(ImageKey::Name) => {
                let hint = "set name to an image's name, as in `alpine:3.20`";
                spec.name = read_name(value, place, hint, reader).into();
            }
            Some(ImageKey::Build) => spec.build = read_build(value, place, reader).into(),
            Some(ImageKey::Entrypoint) => {
                spec.entrypoint = reader.texts(value, place, "set entrypoint to a list of words").into();
            }
            Some(ImageKey::PullPolicy) => {
                spec.pull_policy = reader.choice(value, place, "pull_policy", &PULL_POLICIES).into();
            }
            Some(ImageKey::User) => {
                let hint = "set user to a user's name or number, quoted, as in \"1000:1000\"";
                spec.user = read_template(value, place, hint, reader).into();
            }
            Some(ImageKey::Platform) => {
                let hint = "set platform to a system and architecture, as in linux/amd64";
                spec.platform = read_template(value, place, hint, reader).into();
            }
            None => reader.unknown_key(entry, place, "image", &written(ImageKey::KEYS)),
        }
    }
    Some(spec)
}

fn read_build(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Build> {
    let hint = "set build to a mapping with context and dockerfile";
    let mut build = Build { span: node.span, ..Build::default() };
    for entry in reader.map(node, at, hint)? {
        let place = &at.key(&entry.key);
        let value = &entry.value;
        match BuildKey::of(&entry.key) {
            Some(BuildKey::Context) => {
                build.context = paths::read_one(value, place, "context", reader).into();
            }
            Some(BuildKey::Dockerfile) => {
                build.dockerfile = paths::read_one(value, place, "dockerfile", reader).into();
            }
            Some(BuildKey::Args) => {
                let hint = "set args to a mapping of names to texts";
                for entry in reader.map(value, place, hint).unwrap_or_default() {
                    let place = place.key(&entry.key);
                    let text = reader.text(&entry.value, &place, "set each build argument to a text");
                    if let Some(value) =
                        text.filter(|text| check_template(&text.value, text.span, &place, reader))
                    {
                        build.args.insert(entry.key.as_str().into(), value);
                    }
                }
            }
            Some(BuildKey::Target) => {
                let hint = "set target to the name of a build stage";
                build.target = read_template(value, place, hint, reader).into();
            }
            None => reader.unknown_key(entry, place, "build", &written(BuildKey::KEYS)),
        }
    }
    Some(build)
}
