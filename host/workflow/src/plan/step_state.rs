//! Script entries that end by changing nothing but their own shell: no other step sees the change.
//!
//! The recogniser knows as much of the shell's grammar as it takes to find the last command of an entry. What it does not
//! know, such as `case` and here-documents, it gives up on: a warning that is missing costs less than a wrong one.

use std::collections::HashSet;

use crate::diagnostic::Problems;
use crate::workflow::Workflow;

/// Warns of entries that others follow and that leave behind nothing but the state of their shell.
pub(super) fn warn_of_lost_state(workflow: &Workflow, problems: &mut Problems) {
    // Jobs of one template or one matrix share their script.
    let mut seen = HashSet::new();
    for steps in workflow.jobs.iter().filter_map(|job| job.definition.script.as_ref()) {
        let Some((_, followed)) = steps.split_last() else { continue };
        if !seen.insert(steps[0].span) {
            continue;
        }
        for (index, step) in followed.iter().enumerate() {
            let Some(change) = lost_change(&step.command) else { continue };
            let hint = format!(
                "join this entry and those that rely on it into one with `|`, or write `{change} && …`: what `{change}` \
                 changes ends with its step"
            );
            let pointer = workflow.owners.pointer(step.span, &format!("script/{index}"));
            problems.step_state(step.span, pointer, hint);
        }
    }
}

/// The last command of `entry`, shortened, where it changes only the state of its shell.
fn lost_change(entry: &str) -> Option<String> {
    let mut scanner = Scanner { text: entry, at: 0 };
    let mut open_compounds = 0_usize;
    let mut commands = 0_usize;
    let mut piped = false;
    let mut last = None;
    let mut function = None;
    loop {
        let (words, end) = scanner.command()?;
        if !words.is_empty() {
            commands += 1;
            if open_compounds == 0 {
                function = words.first().filter(|word| word.ends_with("()")).copied();
            }
            let was_open = open_compounds > 0;
            let (rest, negated) = reserved(&words, &mut open_compounds)?;
            // The end of a function is all that there is of it.
            let whole = function.filter(|_| was_open && open_compounds == 0 && rest.is_empty());
            let rest = whole.as_ref().map_or(rest, std::slice::from_ref);
            let begins = whole.is_none() && words.first().is_some_and(|word| word.ends_with("()"));
            let alone =
                !begins && open_compounds == 0 && !piped && !negated && matches!(end, End::Next | End::Text);
            last = alone.then(|| rest.to_vec());
        }
        match end {
            End::Text => break,
            // A line break behind `|` goes on with the pipe.
            End::Next if words.is_empty() => {}
            End::Next | End::Background => piped = false,
            End::Pipe => piped = true,
        }
    }
    change(&last?, commands == 1)
}

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// `;`, `&&`, `||` or a line break.
    Next,
    Pipe,
    Background,
    /// The end of the entry.
    Text,
}

/// Takes reserved words from the front of a command, and counts the compound commands that they open and close. `None` for
/// those whose grammar is not known here.
fn reserved<'w, 'a>(words: &'w [&'a str], open: &mut usize) -> Option<(&'w [&'a str], bool)> {
    let mut negated = false;
    let mut rest = words;
    while let Some((first, after)) = rest.split_first() {
        match *first {
            "case" | "function" | "[[" | "select" | "coproc" => return None,
            "if" | "while" | "until" | "{" => *open += 1,
            "for" => {
                *open += 1;
                return Some((&[], negated));
            }
            "fi" | "done" | "}" => {
                *open = open.checked_sub(1)?;
                return Some((&[], negated));
            }
            "!" => negated = true,
            "then" | "else" | "elif" | "do" | "time" => {}
            name if name.ends_with("()") && after.first() == Some(&"{") => {}
            _ => break,
        }
        rest = after;
    }
    Some((rest, negated))
}

/// What a simple command changes in its shell and nowhere else, as a hint shows it: without values, which may be secret.
/// `whole` if it is the only one of its entry; of several, the last one may take back what an earlier one has done.
fn change(words: &[&str], whole: bool) -> Option<String> {
    let assigned = words.iter().take_while(|word| assignment(word).is_some()).count();
    let (assignments, words) = words.split_at(assigned);
    let Some((name, args)) = words.split_first() else {
        return assignments.last().and_then(|word| assignment(word)).map(|name| format!("{name}=…"));
    };
    let operand = args.iter().find(|arg| !arg.starts_with(['-', '+']));
    match *name {
        "cd" | "pushd" => {
            let target = args.last().map_or("", |word| word.trim_matches(['"', '\'']));
            let returns = !whole && (["-", "$OLDPWD"].contains(&target) || target.starts_with(".."));
            (!is_workspace(target) && !returns).then(|| format!("{name} {target}").trim_end().to_owned())
        }
        "export" | "readonly" | "alias" | "unset" => {
            let operand = operand?;
            let value = operand.contains('=');
            let shown = operand.split('=').next().unwrap_or_default();
            match (*name, value) {
                // An alias without a value is printed.
                ("alias", false) => None,
                (_, true) => Some(format!("{name} {shown}=…")),
                (_, false) => Some(format!("{name} {shown}")),
            }
        }
        "set" => {
            let takes_back = !whole && args.iter().all(|arg| arg.starts_with('+'));
            let prints = args.is_empty() || args == ["-o"] || args == ["+o"];
            let shown: Vec<&str> = args.iter().take(2).copied().take_while(|arg| *arg != "--").collect();
            (!takes_back && !prints).then(|| format!("set {}", shown.join(" ")).trim_end().to_owned())
        }
        "shopt" => (args.len() > 1).then(|| format!("shopt {}", args.join(" "))),
        name if name.ends_with("()") => Some(format!("{name} {{ …; }}")),
        "umask" | "ulimit" => operand.map(|_| format!("{name} {}", args.join(" "))),
        "trap" => {
            let prints = args.first().is_none_or(|arg| ["-p", "-l"].contains(arg));
            let takes_back = !whole && args.first() == Some(&"-");
            let signal = args.last().filter(|_| args.len() > 1);
            signal.filter(|_| !prints && !takes_back).map(|signal| format!("trap … {signal}"))
        }
        "." | "source" => args.first().map(|file| format!("{name} {file}")),
        "eval" => args.iter().any(|arg| arg.contains("$(") || arg.contains('`')).then(|| "eval …".to_owned()),
        _ => None,
    }
}

/// Whether `target` is where every step starts.
fn is_workspace(target: &str) -> bool {
    let target = target.strip_suffix('/').unwrap_or(target);
    [".", "$CI_PROJECT_DIR", "${CI_PROJECT_DIR}", "$LOOM_PROJECT_DIR", "${LOOM_PROJECT_DIR}"]
        .contains(&target)
}

/// The name that `word` gives a value, where it does.
fn assignment(word: &str) -> Option<&str> {
    let (name, _) = word.split_once('=')?;
    let name = name.strip_suffix('+').unwrap_or(name);
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
    is_name.then_some(name)
}

/// Reads a shell's text command by command.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The words of the next simple command, redirections left out, and how it ends. `None` for what is not known here.
    fn command(&mut self) -> Option<(Vec<&'a str>, End)> {
        let mut words = Vec::new();
        loop {
            match self.peek() {
                None => return Some((words, End::Text)),
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                Some(b'\\') if self.rest().starts_with("\\\n") => self.at += 2,
                Some(b'#') => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                Some(b'\n' | b';' | b'&' | b'|') => {
                    let (operator, end) = self.operator()?;
                    self.at += operator;
                    return Some((words, end));
                }
                Some(b'(') if words.is_empty() => {
                    let from = self.at;
                    self.at += 1;
                    self.nested(Nesting::Parentheses)?;
                    // A subshell: one word that no command is called.
                    words.push(&self.text[from..self.at]);
                }
                // A function: its name with its brackets.
                Some(b'(')
                    if words.len() == 1
                        && self.text[..self.at].ends_with(words[0])
                        && self.rest().starts_with("()") =>
                {
                    let from = self.at - words[0].len();
                    self.at += 2;
                    words = vec![&self.text[from..self.at]];
                }
                // What belongs to `case`.
                Some(b'(' | b')') => return None,
                Some(b'<' | b'>') => self.redirection()?,
                Some(_) => {
                    let word = self.word()?;
                    // The number in `2>file`.
                    let descriptor = word.bytes().all(|byte| byte.is_ascii_digit())
                        && matches!(self.peek(), Some(b'<' | b'>'));
                    if !descriptor {
                        words.push(word);
                    }
                }
            }
        }
    }

    /// The length of the operator here, and what it means to the command before it.
    fn operator(&self) -> Option<(usize, End)> {
        let rest = self.rest();
        let table = [
            (";;", None),
            ("&>", None),
            ("|&", Some(End::Pipe)),
            ("&&", Some(End::Next)),
            ("||", Some(End::Next)),
            ("\n", Some(End::Next)),
            (";", Some(End::Next)),
            ("&", Some(End::Background)),
            ("|", Some(End::Pipe)),
        ];
        let (operator, end) = table.into_iter().find(|(operator, _)| rest.starts_with(operator))?;
        Some((operator.len(), end?))
    }

    /// Passes over a redirection and its target.
    fn redirection(&mut self) -> Option<()> {
        let operator =
            self.rest().bytes().take_while(|byte| matches!(byte, b'<' | b'>' | b'&' | b'|')).count();
        let here_document = self.rest().starts_with("<<") && !self.rest().starts_with("<<<");
        self.at += operator;
        self.at += self.rest().bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        // Also what is behind `>` in `>(command)`.
        if here_document || matches!(self.peek(), Some(b'(')) {
            return None;
        }
        self.word().map(|_| ())
    }

    /// Passes over one word.
    fn word(&mut self) -> Option<&'a str> {
        let from = self.at;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'&' | b'|' | b'(' | b')' | b'<' | b'>' => break,
                b'\\' => self.escaped(),
                b'\'' => self.single_quotes()?,
                b'"' => self.nested_from(1, Nesting::Quotes)?,
                b'`' => self.nested_from(1, Nesting::Backticks)?,
                b'$' if self.rest().starts_with("$(") => self.nested_from(2, Nesting::Parentheses)?,
                b'$' if self.rest().starts_with("${") => self.nested_from(2, Nesting::Braces)?,
                _ => self.at += 1,
            }
        }
        Some(&self.text[from..self.at])
    }

    fn nested_from(&mut self, opener: usize, nesting: Nesting) -> Option<()> {
        self.at += opener;
        self.nested(nesting)
    }

    /// Passes over the rest of a nesting that has just begun, with all that nests in it. `None` where its end is missing.
    fn nested(&mut self, nesting: Nesting) -> Option<()> {
        let mut open = vec![nesting];
        let mut open_quotes = usize::from(nesting == Nesting::Quotes);
        while let Some(inner) = open.last().copied() {
            let byte = self.peek()?;
            // Within double quotes, `${A:-it's}` has no quote that opens.
            let plain = inner == Nesting::Quotes || (inner == Nesting::Braces && open_quotes > 0);
            match byte {
                b'\\' => {
                    self.escaped();
                    continue;
                }
                b'\'' if !plain => {
                    self.single_quotes()?;
                    continue;
                }
                b'"' if inner == Nesting::Quotes => {
                    open.pop();
                    open_quotes -= 1;
                }
                b'"' => {
                    open.push(Nesting::Quotes);
                    open_quotes += 1;
                }
                b'`' if inner == Nesting::Backticks => drop(open.pop()),
                b'`' => open.push(Nesting::Backticks),
                b')' if inner == Nesting::Parentheses => drop(open.pop()),
                b'}' if inner == Nesting::Braces => drop(open.pop()),
                b'(' if inner == Nesting::Parentheses => open.push(Nesting::Parentheses),
                b'$' if self.rest().starts_with("$(") => {
                    self.at += 1;
                    open.push(Nesting::Parentheses);
                }
                b'$' if self.rest().starts_with("${") => {
                    self.at += 1;
                    open.push(Nesting::Braces);
                }
                _ => {}
            }
            self.at += 1;
        }
        Some(())
    }

    fn single_quotes(&mut self) -> Option<()> {
        let inside = &self.rest()[1..];
        self.at += inside.find('\'')? + 2;
        Some(())
    }

    /// Passes over a backslash and the character behind it.
    fn escaped(&mut self) {
        self.at += self.rest().chars().take(2).map(char::len_utf8).sum::<usize>();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }
}

/// What holds text in which other rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nesting {
    Quotes,
    Parentheses,
    Braces,
    Backticks,
}

#[cfg(test)]
mod tests;
