//! `.dockerignore`: which files of a folder are no part of a build's context.
//!
//! The rules are those of Docker: a line is a pattern, a later one wins, `!` takes out of what earlier ones have matched,
//! `**` stands for any number of folders, and what a pattern matches it matches with all that is below.

/// The patterns of one file, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// `!`: it takes back.
    exception: bool,
    parts: Vec<Part>,
    /// Up to the first part that is no plain character.
    plain: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    One(char),
    /// `?`
    Any,
    /// `*`
    Some,
    /// `**` at the end.
    All,
    /// `**/`: nothing, or …
    Folders,
    /// … anything up to a slash. Always after `Folders`.
    Within,
    /// `[a-z]`, `[^a-z]`
    Class {
        not: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Ignore {
    /// Reads a file.
    ///
    /// # Errors
    /// A line, and what is wrong with it: the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, (String, &'static str)> {
        let mut ignore = Self::default();
        for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (exception, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if line.is_empty() {
                continue;
            }
            if pattern.is_empty() {
                return Err((line.to_owned(), "takes back nothing"));
            }
            ignore.add(exception, pattern).map_err(|why| (line.to_owned(), why))?;
        }
        Ok(ignore)
    }

    /// Sees to it that one file is not ignored.
    pub(crate) fn keep(&mut self, path: &str) {
        let parts = path.chars().map(Part::One).collect();
        self.patterns.push(Pattern { exception: true, parts, plain: path.to_owned() });
    }

    /// Whether the file or folder at `path`, below the root, is ignored.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        let ways: Vec<Vec<char>> = folders.chain([path]).map(|way| way.chars().collect()).collect();
        let mut ignored = false;
        for pattern in &self.patterns {
            // It cannot change anything.
            if ignored != pattern.exception {
                continue;
            }
            if ways.iter().any(|way| pattern.matches(way)) {
                ignored = !pattern.exception;
            }
        }
        ignored
    }

    /// Whether something below an ignored folder may not be ignored.
    pub(crate) fn may_keep_below(&self, folder: &str) -> bool {
        let below = format!("{folder}/");
        self.patterns.iter().filter(|pattern| pattern.exception).any(|pattern| {
            let (plain, all) = (&pattern.plain, pattern.plain.chars().count() == pattern.parts.len());
            plain.starts_with(&below) || (!all && below.starts_with(plain.as_str()))
        })
    }

    fn add(&mut self, exception: bool, pattern: &str) -> Result<(), &'static str> {
        let cleaned = clean(pattern);
        // The root itself cannot be ignored.
        if cleaned.is_empty() {
            return Ok(());
        }
        let parts = parts(&cleaned)?;
        let one = |part: &Part| if let Part::One(c) = part { Some(*c) } else { None };
        let plain = parts.iter().map_while(one).collect();
        self.patterns.push(Pattern { exception, parts, plain });
        Ok(())
    }
}

/// Without slashes at both ends, `.`, and `..` with what is before it.
fn clean(pattern: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in pattern.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

fn parts(pattern: &str) -> Result<Vec<Part>, &'static str> {
    let mut chars = pattern.chars().peekable();
    let mut parts = Vec::new();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_none() {
                    parts.push(Part::All);
                } else {
                    parts.extend([Part::Folders, Part::Within]);
                }
            }
            '*' => parts.push(Part::Some),
            '?' => parts.push(Part::Any),
            '\\' => parts.push(Part::One(chars.next().ok_or("ends in a backslash")?)),
            '[' => parts.push(class(&mut chars).ok_or("has a `[` without its `]`")?),
            c => parts.push(Part::One(c)),
        }
    }
    Ok(parts)
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Part> {
    let not = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    let one = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next()? {
        '\\' => chars.next(),
        c => Some(c),
    };
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Some(Part::Class { not, ranges });
        }
        let from = one(chars)?;
        let to = if chars.next_if_eq(&'-').is_some() { one(chars)? } else { from };
        ranges.push((from, to));
    }
}

impl Pattern {
    /// All ways through the parts are followed at once, so that no pattern takes long.
    fn matches(&self, text: &[char]) -> bool {
        let parts = &self.parts;
        let mut at = vec![false; parts.len() + 1];
        at[0] = true;
        skip(parts, &mut at);
        for &c in text {
            let mut next = vec![false; parts.len() + 1];
            for (index, part) in parts.iter().enumerate().filter(|(index, _)| at[*index]) {
                match part {
                    Part::One(one) => next[index + 1] |= *one == c,
                    Part::Any => next[index + 1] |= c != '/',
                    Part::Some => next[index] |= c != '/',
                    Part::All => next[index] = true,
                    Part::Folders => {}
                    Part::Within => {
                        next[index] = true;
                        next[index + 1] |= c == '/';
                    }
                    Part::Class { not, ranges } => {
                        let inside = ranges.iter().any(|(from, to)| (from..=to).contains(&&c));
                        next[index + 1] |= c != '/' && inside != *not;
                    }
                }
            }
            skip(parts, &mut next);
            at = next;
        }
        at[parts.len()]
    }
}

/// Goes on where a part may stand for nothing.
fn skip(parts: &[Part], at: &mut [bool]) {
    for (index, part) in parts.iter().enumerate() {
        if !at[index] {
            continue;
        }
        match part {
            Part::Some | Part::All => at[index + 1] = true,
            Part::Folders => {
                at[index + 1] = true;
                at[index + 2] = true;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
