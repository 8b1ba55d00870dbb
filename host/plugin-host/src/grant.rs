//! Which programs a plugin may start: the one gate for `loom:exec`.

use crate::manifest::ExecGrant;

/// Further arguments of any kind.
const REST: &str = "...";

impl ExecGrant {
    /// Whether it allows `program` with `args`.
    pub(crate) fn allows(&self, program: &str, args: &[String]) -> bool {
        if self.program != program {
            return false;
        }
        let (patterns, open) = match self.args.split_last() {
            Some((last, before)) if last == REST => (before, true),
            _ => (self.args.as_slice(), false),
        };
        let enough = if open { args.len() >= patterns.len() } else { args.len() == patterns.len() };
        enough && patterns.iter().zip(args).all(|(pattern, arg)| matches(pattern, arg))
    }
}

impl std::fmt::Display for ExecGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.program)?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg}"))
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any text, line ends and nothing included.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Of the parts in the middle, the leftmost match leaves most for those that follow.
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The granted program and its patterns, the program asked for and its arguments, whether that is allowed.
    type Row = (&'static str, &'static [&'static str], &'static str, &'static [&'static str], bool);

    #[test]
    fn a_program_is_allowed_with_matching_arguments_only() {
        let table: [Row; 17] = [
            ("sh", &["-c", "*"], "sh", &["-c", "echo\nx"], true),
            ("sh", &["-c", "*"], "sh", &["-c", ""], true),
            ("sh", &["-c", "*"], "sh", &["-c"], false),
            ("sh", &["-c", "*"], "sh", &["-c", "x", "y"], false),
            ("sh", &["-c", "*"], "sh", &["-e", "x"], false),
            ("sh", &["-c", "*"], "/bin/sh", &["-c", "x"], false),
            ("sh", &["-c", "*"], "bash", &["-c", "x"], false),
            ("id", &[], "id", &[], true),
            ("id", &[], "id", &["-u"], false),
            ("git", &["show", "..."], "git", &["show"], true),
            ("git", &["show", "..."], "git", &["show", "a", "b"], true),
            ("git", &["show", "..."], "git", &["push"], false),
            ("git", &["...", "show"], "git", &["x", "show"], false),
            ("op", &["read", "op://*/*"], "op", &["read", "op://a/b"], true),
            ("op", &["read", "op://*/*"], "op", &["read", "op://a"], false),
            ("op", &["--*=ab*ab"], "op", &["--x=ab"], false),
            ("op", &["--*=ab*ab"], "op", &["--x=abab"], true),
        ];
        for (program, patterns, asked, args, allowed) in table {
            let grant =
                ExecGrant { program: program.into(), args: patterns.iter().map(|&p| p.into()).collect() };
            let args: Vec<String> = args.iter().map(|&a| a.into()).collect();
            assert_eq!(grant.allows(asked, &args), allowed, "`{grant}` for `{asked}` {args:?}");
        }
    }
}
