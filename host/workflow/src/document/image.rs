//! `image`: the container image that a job runs in, given or built. Without one a job runs on the host.

use std::collections::BTreeMap;

use loom_contract::graph_ir::PullPolicy;

use super::merge::replace;
use super::paths;
use super::value::{Reader, Text};
use crate::diagnostic::Pointer;
use crate::source::{Span, Spanned};
use crate::yaml::{Kind, Meaning, Node};

pub(super) const KEYS: [&str; 6] = ["name", "build", "entrypoint", "pull_policy", "user", "platform"];
pub(super) const BUILD_KEYS: [&str; 4] = ["context", "dockerfile", "args", "target"];
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
    pub(crate) name: Option<Spanned<Text>>,
    pub(crate) build: Option<Build>,
    pub(crate) entrypoint: Option<Spanned<Vec<Text>>>,
    pub(crate) pull_policy: Option<Spanned<PullPolicy>>,
    pub(crate) user: Option<Spanned<Text>>,
    pub(crate) platform: Option<Spanned<Text>>,
    given: Vec<&'static str>,
}

/// How the image is built.
#[derive(Debug, Clone, Default)]
pub(crate) struct Build {
    pub(crate) span: Span,
    pub(crate) context: Option<Spanned<Text>>,
    pub(crate) dockerfile: Option<Spanned<Text>>,
    pub(crate) args: BTreeMap<Text, Spanned<Text>>,
    pub(crate) target: Option<Spanned<Text>>,
    given: Vec<&'static str>,
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
        let mut require = |given: &[&str], key: &str, span: Span, at: &Pointer<'_>, what: &str| {
            if !given.contains(&key) {
                reader.error(span, &at.key(key), format!("add required key {key}: {what}"));
            }
        };
        require(
            &self.given,
            "name",
            self.span,
            &at,
            "the image's name, which is also the tag of what is built",
        );
        if let Some(build) = &self.build {
            let at = at.key("build");
            require(&build.given, "context", build.span, &at, "a folder, relative to the repository's root");
            require(&build.given, "dockerfile", build.span, &at, "a file, relative to the repository's root");
        }
    }

    fn merge(&mut self, nearer: &Self) {
        self.span = nearer.span;
        self.given.extend(&nearer.given);
        replace(&mut self.name, &nearer.name);
        match (&mut self.build, &nearer.build) {
            (Some(below), Some(nearer)) => below.merge(nearer),
            (below, Some(nearer)) => *below = Some(nearer.clone()),
            (_, None) => {}
        }
        replace(&mut self.entrypoint, &nearer.entrypoint);
        replace(&mut self.pull_policy, &nearer.pull_policy);
        replace(&mut self.user, &nearer.user);
        replace(&mut self.platform, &nearer.platform);
    }
}

impl Build {
    fn merge(&mut self, nearer: &Self) {
        self.span = nearer.span;
        self.given.extend(&nearer.given);
        replace(&mut self.context, &nearer.context);
        replace(&mut self.dockerfile, &nearer.dockerfile);
        self.args.extend(nearer.args.iter().map(|(name, value)| (name.clone(), value.clone())));
        replace(&mut self.target, &nearer.target);
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
    if name.value.contains('$') {
        reader.error(name.span, at, "write the image's name out: it takes no variables");
        return None;
    }
    if name.value.contains(|char: char| char.is_whitespace() || char.is_control()) {
        reader.error(name.span, at, hint);
        return None;
    }
    Some(name)
}

fn read_spec(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<ImageSpec> {
    let mut spec = ImageSpec { span: node.span, ..ImageSpec::default() };
    for entry in reader.map(node, at, NAME)? {
        let place = &at.key(&entry.key);
        let value = &entry.value;
        spec.given.extend(KEYS.iter().find(|key| **key == entry.key));
        match entry.key.as_str() {
            "name" => {
                spec.name =
                    read_name(value, place, "set name to an image's name, as in `alpine:3.20`", reader)
            }
            "build" => spec.build = read_build(value, place, reader),
            "entrypoint" => spec.entrypoint = reader.texts(value, place, "set entrypoint to a list of words"),
            "pull_policy" => {
                spec.pull_policy = reader.choice(value, place, "pull_policy", &PULL_POLICIES);
            }
            "user" => {
                let hint = "set user to a user's name or number, quoted, as in \"1000:1000\"";
                spec.user = reader.filled_text(value, place, hint);
            }
            "platform" => {
                let hint = "set platform to a system and architecture, as in linux/amd64";
                spec.platform = reader.filled_text(value, place, hint);
            }
            _ => reader.unknown_key(entry, place, "image", &KEYS),
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
        build.given.extend(BUILD_KEYS.iter().find(|key| **key == entry.key));
        match entry.key.as_str() {
            "context" => build.context = paths::read_one(value, place, "context", reader),
            "dockerfile" => build.dockerfile = paths::read_one(value, place, "dockerfile", reader),
            "args" => {
                let hint = "set args to a mapping of names to texts";
                for entry in reader.map(value, place, hint).unwrap_or_default() {
                    let place = place.key(&entry.key);
                    if let Some(value) =
                        reader.text(&entry.value, &place, "set each build argument to a text")
                    {
                        build.args.insert(entry.key.as_str().into(), value);
                    }
                }
            }
            "target" => {
                build.target = reader.filled_text(value, place, "set target to the name of a build stage")
            }
            _ => reader.unknown_key(entry, place, "build", &BUILD_KEYS),
        }
    }
    Some(build)
}
