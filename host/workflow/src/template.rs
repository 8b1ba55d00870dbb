//! Values with references: `$NAME`, `${NAME}`, and `$$` for a dollar sign.

use std::fmt;
use std::fmt::Write as _;

/// A text with references to variables in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Reference { name: String, braced: bool },
}

/// A `${` that does not begin a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a reference: {0}")]
pub(crate) struct BadReference(
    /// The text from the `${` on, up to its `}` or its end.
    pub(crate) String,
);

impl Template {
    /// Reads `text`. A `$` that neither a name, `{` nor `$` follows is a dollar sign.
    pub(crate) fn parse(text: &str) -> Result<Self, BadReference> {
        let mut template = Self::default();
        scan(text, |piece| match piece {
            Piece::Text(text) => template.push_text(text),
            Piece::Reference { name, braced } => {
                template.parts.push(Part::Reference { name: name.to_owned(), braced });
            }
        })?;
        Ok(template)
    }

    /// Whether [`parse`](Self::parse) can read `text`, without the memory that it takes.
    pub(crate) fn check(text: &str) -> Result<(), BadReference> {
        scan(text, |_| ())
    }

    /// A text without references, whatever it holds.
    pub(crate) fn literal(text: &str) -> Self {
        let mut template = Self::default();
        template.push_text(text);
        template
    }

    /// The names that it refers to, in order, each as often as it stands there.
    pub fn refs(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Reference { name, .. } => Some(name.as_str()),
        })
    }

    /// The text with every reference filled in by `lookup`; one for which it has no answer stays as it is written.
    pub fn render(&self, lookup: &mut dyn FnMut(&str) -> Option<String>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Reference { name, braced } => match lookup(name) {
                    Some(value) => text.push_str(&value),
                    None if *braced => text.extend(["${", name, "}"]),
                    None => text.extend(["$", name]),
                },
            }
        }
        text
    }

    /// `text`, which is a template, with every reference filled in as [`render`](Self::render) does; as it is where it is
    /// none.
    pub fn fill(text: &str, lookup: &mut dyn FnMut(&str) -> Option<String>) -> String {
        Self::parse(text).map_or_else(|_| text.to_owned(), |template| template.render(lookup))
    }

    /// The template with what `lookup` knows put in place of the references to it.
    pub(crate) fn resolve<'a>(&self, lookup: impl Fn(&str) -> Option<&'a Template>) -> Self {
        let mut resolved = Self::default();
        for part in &self.parts {
            match part {
                Part::Text(text) => resolved.push_text(text),
                Part::Reference { name, .. } => match lookup(name) {
                    Some(value) => value.parts.iter().for_each(|part| resolved.push(part)),
                    None => resolved.push(part),
                },
            }
        }
        resolved
    }

    /// A path without the reference to one of `roots` that it begins with: `$ROOT/a` is `a`, and `$ROOT` alone is `.`.
    pub(crate) fn below(mut self, roots: &[&str]) -> Self {
        match self.parts.first() {
            Some(Part::Reference { name, .. }) if roots.contains(&name.as_str()) => {}
            _ => return self,
        }
        match self.parts.get(1) {
            Some(Part::Text(text)) if text.starts_with('/') => {
                let below = Part::Text(text.trim_start_matches('/').to_owned());
                self.parts.splice(..2, [below]);
                if self.len() == 0 { Self::literal(".") } else { self }
            }
            None => Self::literal("."),
            // It goes on without a slash: another name.
            Some(_) => self,
        }
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        self.len() + self.parts.len() * (size_of::<Part>() + 16)
    }

    /// How long its text is, in bytes, at least.
    pub(crate) fn len(&self) -> usize {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.len(),
                Part::Reference { name, .. } => name.len() + 1,
            })
            .sum()
    }

    fn push(&mut self, part: &Part) {
        match part {
            Part::Text(text) => self.push_text(text),
            Part::Reference { .. } => self.parts.push(part.clone()),
        }
    }

    fn push_text(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.parts.push(Part::Text(text.to_owned())),
        }
    }
}

/// Writes it so that reading it again gives the same: a dollar sign is doubled only where it would read as a reference.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (part, next) in self.parts.iter().zip(self.parts.iter().skip(1).map(Some).chain([None])) {
            let first_of_next = match next {
                None => None,
                Some(Part::Text(text)) => text.chars().next(),
                Some(Part::Reference { .. }) => Some('$'),
            };
            match part {
                Part::Text(text) => {
                    for (at, char) in text.char_indices() {
                        f.write_char(char)?;
                        let following = text[at + char.len_utf8()..].chars().next().or(first_of_next);
                        if char == '$'
                            && following.is_some_and(|next| is_name_start(next) || matches!(next, '$' | '{'))
                        {
                            f.write_char('$')?;
                        }
                    }
                }
                Part::Reference { name, braced } if *braced || first_of_next.is_some_and(is_name_char) => {
                    write!(f, "${{{name}}}")?;
                }
                Part::Reference { name, .. } => write!(f, "${name}")?,
            }
        }
        Ok(())
    }
}

/// A part of a text as it stands there.
enum Piece<'t> {
    Text(&'t str),
    Reference { name: &'t str, braced: bool },
}

fn scan<'t>(text: &'t str, mut take: impl FnMut(Piece<'t>)) -> Result<(), BadReference> {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, dollar) = rest.split_at(at);
        take(Piece::Text(before));
        let after = &dollar[1..];
        if let Some(after) = after.strip_prefix('$') {
            take(Piece::Text("$"));
            rest = after;
        } else if let Some(braced) = after.strip_prefix('{') {
            let name = &braced[..name_len(braced)];
            let Some(after) = braced[name.len()..].strip_prefix('}').filter(|_| !name.is_empty()) else {
                let end = dollar.find('}').map_or(dollar.len(), |at| at + 1);
                return Err(BadReference(dollar[..end].to_owned()));
            };
            take(Piece::Reference { name, braced: true });
            rest = after;
        } else {
            let (name, after) = after.split_at(name_len(after));
            take(match name {
                "" => Piece::Text("$"),
                name => Piece::Reference { name, braced: false },
            });
            rest = after;
        }
    }
    take(Piece::Text(rest));
    Ok(())
}

fn is_name_start(char: char) -> bool {
    char.is_ascii_alphabetic() || char == '_'
}

fn is_name_char(char: char) -> bool {
    is_name_start(char) || char.is_ascii_digit()
}

/// The length of the name at the start of `text`, 0 without one.
fn name_len(text: &str) -> usize {
    if !text.starts_with(is_name_start) {
        return 0;
    }
    text.find(|char| !is_name_char(char)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Template::parse(text).unwrap().to_string()
    }

    #[test]
    fn reading_what_was_written_gives_the_same() {
        for text in
            ["", "a", "$A", "${A}b", "$A-b", "$$A", "$$$A", "5 $", "$ 5", "a$.b", "$$${A}", "$$$$", "ä$Aä"]
        {
            let template = Template::parse(text).unwrap();
            assert_eq!(Template::parse(&template.to_string()).unwrap(), template, "{text}");
        }
        assert_eq!(shown("100$$"), "100$");
        assert_eq!(shown("$$ 5"), "$ 5");
        assert_eq!(shown("$$HOME"), "$$HOME");
        assert_eq!(shown("$$$$"), "$$$");
    }

    #[test]
    fn references_are_filled_in_and_keep_apart_from_what_follows() {
        let home = Template::parse("$HOME").unwrap();
        let value = Template::parse("${B}x/$B/$$B/$C").unwrap();
        let resolved = value.resolve(|name| (name == "B").then_some(&home));
        assert_eq!(resolved.to_string(), "${HOME}x/$HOME/$$B/$C");
        assert_eq!(resolved.refs().collect::<Vec<_>>(), ["HOME", "HOME", "C"]);
        let text = resolved.render(&mut |name| (name == "HOME").then(|| "/h".to_owned()));
        assert_eq!(text, "/hx//h/$B/$C");
    }

    #[test]
    fn a_path_below_a_root_is_what_follows_it() {
        for (path, below) in [
            ("$ROOT/a/$B", "a/$B"),
            ("${ROOT}//a", "a"),
            ("$ROOT", "."),
            ("$ROOT/", "."),
            ("$ROOT-a/b", "$ROOT-a/b"),
            ("$ROOT$B", "$ROOT$B"),
            ("a/$ROOT/b", "a/$ROOT/b"),
            ("$$ROOT/b", "$$ROOT/b"),
        ] {
            assert_eq!(Template::parse(path).unwrap().below(&["ROOT"]).to_string(), below, "{path}");
        }
    }

    #[test]
    fn a_brace_without_a_name_is_no_reference() {
        for (text, bad) in
            [("x${A:-b}y", "${A:-b}"), ("${", "${"), ("a${}", "${}"), ("${1}", "${1}"), ("${A", "${A")]
        {
            assert_eq!(Template::parse(text), Err(BadReference(bad.to_owned())), "{text}");
        }
    }
}
