//! Builds of images.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bollard::moby::buildkit::v1::StatusResponse;
use bollard::models::BuildInfoAux;
use bollard::query_parameters::{BuildImageOptions, BuilderVersion};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use crate::ignore::Ignore;
use crate::image::check_reference;
use crate::pack::{Choose, Ids, Keep};
use crate::random::random;
use crate::transfer::Sending;
use crate::{Error, ImageInfo, Logins, Scope};

const DOCKERFILE: &str = "Dockerfile";
const IGNORE: &str = ".dockerignore";

/// An image to be built.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// The folder that is sent to the daemon, less what its `.dockerignore` says.
    pub context: PathBuf,
    /// Below the context; else `Dockerfile`.
    pub dockerfile: Option<String>,
    /// Values for its `ARG`s. They can be seen in the image's history, so they are no place for secrets.
    pub args: Vec<(String, String)>,
    /// The stage to stop at.
    pub target: Option<String>,
    /// Names that the image is to have, at least one.
    pub tags: Vec<String>,
    /// `os/arch` or `os/arch/variant`.
    pub platform: Option<String>,
    /// The builder that builds it.
    pub builder: Builder,
}

/// Which of the daemon's builders builds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Builder {
    /// BuildKit where the daemon has it: Docker since 20.10. It leaves a `Dockerfile` and `.dockerignore` that are ignored
    /// in the context, since it gets that as a whole.
    #[default]
    Best,
    /// The classic one, which every daemon has.
    Classic,
}

/// What is left to come after the image is there.
const REST: Duration = Duration::from_secs(10);

impl Scope {
    /// Builds an image. `on_line` is told the build's log, line by line as it comes. Dropping the future ends the build.
    ///
    /// # Errors
    /// [`Error::Build`] with the step that failed; [`Error::Invalid`] by what the description or the `.dockerignore` says;
    /// the context cannot be read.
    pub async fn build(
        &self,
        build: &Build,
        logins: &Logins,
        mut on_line: impl FnMut(&str),
    ) -> Result<ImageInfo, Error> {
        let Some((tag, more)) = build.tags.split_first() else {
            return Err(Error::invalid("a build without a name for its image", "cannot be found again"));
        };
        build.tags.iter().try_for_each(|tag| check_reference(tag))?;
        let dockerfile = dockerfile(build)?;
        let choose = context(build, &dockerfile)?;
        let mut options = BuildImageOptions {
            dockerfile,
            t: Some(tag.clone()),
            rm: true,
            forcerm: true,
            buildargs: Some(build.args.iter().cloned().collect()),
            // No labels: what is made of an image has those of the image.
            platform: build.platform.clone().unwrap_or_default(),
            target: build.target.clone().unwrap_or_default(),
            ..BuildImageOptions::default()
        };
        if build.builder == Builder::Best && self.docker().daemon().has_buildkit() {
            options.version = BuilderVersion::BuilderBuildKit;
            options.session = Some(format!("loom-{:016x}{:016x}", random(), random()));
        }
        let (logins, without) = logins.all().await?;
        without.iter().for_each(|error| on_line(&error.to_string()));
        self.check_open(&format!("build the image `{tag}`")).await?;
        let docker = self.docker();
        let doing = format!("build the image `{tag}`");
        let (sending, body) = Sending::begin(build.context.clone(), String::new(), Ids::default(), choose);
        let mut steps =
            docker.slow().build_image(options, Some(logins), Some(bollard::body_try_stream(body)));
        let mut log = Log::default();
        let mut until = None;
        let built = loop {
            let step = async {
                match until {
                    None => Ok(steps.next().await),
                    Some(until) => timeout_at(until, steps.next()).await,
                }
            };
            match docker.watch(&doing, step).await? {
                // The session of BuildKit may stay open longer than it is used.
                Ok(None) | Err(_) => break Ok(()),
                Ok(Some(Ok(info))) => match info.aux {
                    Some(BuildInfoAux::BuildKit(status)) => log.watch(status, &mut on_line),
                    Some(BuildInfoAux::Default(_)) => until = Some(Instant::now() + REST),
                    None => log.say(&info.stream.or(info.status).unwrap_or_default(), &mut on_line),
                },
                Ok(Some(Err(error))) => break Err(error),
            }
        };
        drop(steps);
        log.end(&mut on_line);
        let sent = sending.end().await;
        if let Err(error) = built {
            // What went wrong here explains what went wrong there.
            sent?;
            return Err(match Error::of(doing, error) {
                Error::Refused { words, .. } => Error::Build { tag: tag.clone(), step: log.step, words },
                error => error,
            });
        }
        for more in more {
            self.tag(tag, more).await?;
        }
        let built = docker.image(tag).await?;
        built.ok_or_else(|| Error::refused(doing, Some(404), "it was not there after it was built"))
    }

    async fn tag(&self, image: &str, name: &str) -> Result<(), Error> {
        let at_tag = name.rfind(':').filter(|at| !name[*at..].contains('/'));
        let (repo, tag) = at_tag.map_or((name, None), |at| (&name[..at], Some(&name[at + 1..])));
        let options = bollard::query_parameters::TagImageOptions {
            repo: Some(repo.to_owned()),
            tag: tag.map(str::to_owned),
        };
        let tagged = self.docker().api().tag_image(image, Some(options)).await;
        tagged.map_err(|error| Error::of(format!("name the image `{name}`"), error))
    }
}

/// The name of the Dockerfile below the context.
fn dockerfile(build: &Build) -> Result<String, Error> {
    let name = build.dockerfile.as_deref().unwrap_or(DOCKERFILE);
    let mut parts = Vec::new();
    for part in Path::new(name).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            _ => return Err(Error::invalid(format!("the Dockerfile `{name}`"), "is not below the context")),
        }
    }
    let name = parts.join("/");
    if fs_err::metadata(build.context.join(&name)).is_ok_and(|meta| meta.is_file()) {
        return Ok(name);
    }
    let path = build.context.join(&name);
    Err(Error::invalid(format!("the Dockerfile `{}`", path.display()), "does not exist, or is no file"))
}

/// What belongs to the context. The Dockerfile and the `.dockerignore` are always sent, since the daemon needs them, and
/// takes them out by itself.
fn context(build: &Build, dockerfile: &str) -> Result<Box<Choose>, Error> {
    // As BuildKit has it: a Dockerfile may have its own.
    for name in [format!("{dockerfile}{IGNORE}"), IGNORE.to_owned()] {
        let path = build.context.join(&name);
        let text = match read_below(&build.context, &path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::file("read", path, error)),
        };
        let mut ignore = Ignore::parse(&String::from_utf8_lossy(&text)).map_err(|(line, why)| {
            Error::invalid(format!("the pattern `{line}` of `{}`", path.display()), why)
        })?;
        ignore.keep(IGNORE);
        ignore.keep(dockerfile);
        return Ok(Box::new(move |path| {
            let path = String::from_utf8_lossy(path);
            // BuildKit takes what does not begin with a plain entry, as the root is, for a Dockerfile alone.
            if path.is_empty() {
                return Keep::Yes;
            }
            match ignore.matches(&path) {
                false => Keep::Yes,
                true if ignore.may_keep_below(&path) => Keep::Below,
                true => Keep::No,
            }
        }));
    }
    Ok(Box::new(|_| Keep::Yes))
}

/// What is at `path`, unless a symlink there leads out of the context: a line of it may be shown.
fn read_below(context: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let real = fs_err::canonicalize(path)?;
    if !real.starts_with(fs_err::canonicalize(context)?) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is a symlink that leads out of the context",
        ));
    }
    fs_err::read(real)
}

/// What a build would send, for tests of the rules.
#[doc(hidden)]
pub fn context_of(build: &Build) -> Result<Vec<PathBuf>, Error> {
    let choose = context(build, &dockerfile(build)?)?;
    let (to, mut from) = tokio::sync::mpsc::channel(1);
    let root = build.context.clone();
    let packing = std::thread::spawn(move || crate::pack::pack(&root, "", Ids::default(), &*choose, to));
    let mut bytes = Vec::new();
    while let Some(chunk) = from.blocking_recv() {
        bytes.extend_from_slice(&chunk.map_err(|error| Error::file("read", &build.context, error))?);
    }
    drop(packing.join());
    let mut names = Vec::new();
    let read = |error| Error::file("read", &build.context, error);
    for entry in tar::Archive::new(&*bytes).entries().map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = PathBuf::from(std::ffi::OsStr::from_bytes(&entry.path_bytes()));
        names.extend(Some(name).filter(|name| name != Path::new("./")));
    }
    Ok(names)
}

/// BuildKit's step for a context that comes as a tar.
const UNPACKING: &str = "copy /context /";

/// The log of a build, whose pieces are no lines.
#[derive(Default)]
struct Log {
    line: String,
    /// The last that was begun, or the one that failed.
    step: Option<String>,
    /// BuildKit's steps that were reported, and the lines of each that are not whole yet.
    reported: HashSet<String>,
    lines: HashMap<String, Vec<u8>>,
}

impl Log {
    /// Reports output of the classic builder.
    fn say(&mut self, text: &str, on_line: &mut impl FnMut(&str)) {
        self.line.push_str(text);
        // What is told of the pull of a base image has no end of line.
        if !text.contains('\n') && !text.is_empty() && self.line == text && !text.starts_with("Step ") {
            self.line.push('\n');
        }
        while let Some((line, rest)) = self.line.split_once('\n') {
            let line = line.trim_end_matches('\r');
            if line.starts_with("Step ") {
                self.step = Some(line.to_owned());
            }
            if !line.is_empty() {
                on_line(line);
            }
            self.line = rest.to_owned();
        }
    }

    /// Reports progress of BuildKit, whose steps go on side by side.
    fn watch(&mut self, status: StatusResponse, on_line: &mut impl FnMut(&str)) {
        for vertex in status.vertexes {
            let is_own = vertex.name.starts_with("[internal]") || vertex.name == UNPACKING;
            let begun = vertex.started.is_some() && !is_own;
            if begun && self.reported.insert(vertex.digest.clone()) {
                on_line(&format!("{}{}", if vertex.cached { "CACHED " } else { "" }, vertex.name));
            }
            if !vertex.error.is_empty() {
                self.step = Some(vertex.name);
            }
            if vertex.completed.is_some()
                && let Some(rest) = self.lines.remove(&vertex.digest)
            {
                on_line(&String::from_utf8_lossy(&rest));
            }
        }
        for log in status.logs {
            let line = self.lines.entry(log.vertex).or_default();
            line.extend_from_slice(&log.msg);
            while let Some(end) = line.iter().position(|&byte| byte == b'\n') {
                let rest = line.split_off(end + 1);
                let text = String::from_utf8_lossy(line);
                on_line(text.trim_end_matches(['\r', '\n']));
                *line = rest;
            }
        }
        self.lines.retain(|_, line| !line.is_empty());
    }

    fn end(&mut self, on_line: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.say("\n", on_line);
        }
        for rest in std::mem::take(&mut self.lines).into_values() {
            on_line(&String::from_utf8_lossy(&rest));
        }
    }
}
