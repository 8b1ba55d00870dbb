//! Reading the files of a workflow: depth-first, each once, the including file after what it includes.

use std::collections::HashSet;

use crate::diagnostic::{Pointer, Problems, quoted};
use crate::document::{Document, Include, Job, Reader, Role, Text, foreign_file, system_of_text};
use crate::loader::Loader;
use crate::source::{Sources, Span};
use crate::yaml;

/// How many files may include each other in a row.
const MOST_DEPTH: usize = 16;
/// How many bytes all included files may have together.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// How many files may be included.
const MOST_FILES: usize = 1000;

/// What was read.
pub(super) struct Read {
    /// The files, in the order in which they are merged.
    pub(super) files: Vec<Document>,
    /// No file is missing. Where one is, what it would have brought must not be asked for.
    pub(super) complete: bool,
}

/// Reads all files. `None` where nothing can be made of the root file.
pub(super) fn read(sources: &mut Sources, loader: &dyn Loader, problems: &mut Problems) -> Option<Read> {
    let mut left = yaml::MOST_VALUES;
    let root = parse(sources, 0, Role::Root, &mut left, problems)?;
    let seen = HashSet::new();
    let mut files =
        Files { sources, loader, problems, seen, done: Vec::new(), bytes: 0, left, complete: true };
    files.include(&root, &mut Vec::new());
    let Files { mut done, complete, .. } = files;
    done.push(root);
    if !complete {
        done.iter_mut().flat_map(|file| &mut file.jobs).for_each(Job::mark_all_present);
    }
    Some(Read { files: done, complete })
}

fn parse(
    sources: &Sources,
    file: u32,
    role: Role,
    left: &mut usize,
    problems: &mut Problems,
) -> Option<Document> {
    if role == Role::Root
        && let Some(system) = system_of_text(sources.text(file))
    {
        problems.error(Span::new(file, 0..0), Pointer::Root, foreign_file(system));
        return None;
    }
    let before = problems.errors();
    let tree = yaml::parse(sources, file, left, problems)?;
    let refused = problems.errors() > before;
    let mut document = Document::read(&tree, role, &mut Reader::new(problems))?;
    if refused {
        // What a refused anchor or merge key would have brought must not be asked for.
        document.jobs.iter_mut().for_each(Job::mark_all_present);
    }
    Some(document)
}

struct Files<'a> {
    sources: &'a mut Sources,
    loader: &'a dyn Loader,
    problems: &'a mut Problems,
    seen: HashSet<Text>,
    done: Vec<Document>,
    bytes: usize,
    /// How many keys and values may still be read.
    left: usize,
    complete: bool,
}

impl Files<'_> {
    /// Reads what `document` includes; `path` leads from the root file to it. At most [`MOST_DEPTH`] calls deep.
    fn include(&mut self, document: &Document, path: &mut Vec<Text>) {
        for Include { local, index } in &document.include {
            let at = |problems: &mut Problems, hint: String| {
                let root = Pointer::Root;
                problems.error(local.span, root.key("include").index(*index).key("local"), hint);
            };
            if path.contains(&local.value) {
                let mut cycle: Vec<&str> = path.iter().map(|path| &**path).collect();
                cycle.push(&local.value);
                let from = cycle.iter().position(|path| *path == &*local.value).unwrap_or(0);
                let edges = cycle.get(from..).unwrap_or_default().join(" -> ");
                at(self.problems, format!("resolve include cycle by removing one include: {edges}"));
                continue;
            }
            if path.len() >= MOST_DEPTH {
                self.complete = false;
                at(
                    self.problems,
                    format!("include this file from a nearer one: includes nest at most {MOST_DEPTH} deep"),
                );
                continue;
            }
            if !self.seen.insert(local.value.clone()) {
                continue;
            }
            if self.seen.len() > MOST_FILES {
                self.complete = false;
                at(self.problems, format!("include less: at most {MOST_FILES} files are read"));
                return;
            }
            let text = match self.loader.load(&local.value) {
                Ok(text) => text,
                Err(error) => {
                    let name = quoted(&local.value);
                    self.complete = false;
                    at(self.problems, format!("create the file {name}, or correct the path: {error}"));
                    continue;
                }
            };
            self.bytes = self.bytes.saturating_add(text.len());
            if self.bytes > MOST_BYTES {
                self.complete = false;
                at(
                    self.problems,
                    format!("include less: the included files have more than {MOST_BYTES} bytes together"),
                );
                return;
            }
            let file = self.sources.add(&local.value, &text);
            let Some(included) = parse(self.sources, file, Role::Included, &mut self.left, self.problems)
            else {
                self.complete = false;
                continue;
            };
            path.push(local.value.clone());
            self.include(&included, path);
            path.pop();
            self.done.push(included);
        }
    }
}
