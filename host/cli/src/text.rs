//! Text that is safe to show: the only thing that [`Terminal`](crate::terminal::Terminal) takes.
//!
//! ```text
//! any text ----------> visible ---+
//! a job's output ----> visible, but for colours of the list below ---+--> Text --> the terminal
//! Loom's own colours: a Style beside the words, never in them -------+
//! ```

use std::borrow::Cow;
use std::fmt;

use anstyle::AnsiColor;
use loom_contract::visible::visible;

/// How words look, by what they mean. Everything can be understood without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Like any other.
    Plain,
    /// Beside what matters.
    Dim,
    /// Something went well.
    Good,
    /// Something went wrong.
    Bad,
    /// Something to look at.
    Warning,
    /// The job that a line is about.
    Job,
}

impl Style {
    fn ansi(self) -> anstyle::Style {
        match self {
            Self::Plain => anstyle::Style::new(),
            Self::Dim => anstyle::Style::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default().bold(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Warning => AnsiColor::Yellow.on_default().bold(),
            Self::Job => AnsiColor::Cyan.on_default(),
        }
    }
}

/// Text in which nothing is hidden and nothing steers a terminal, whatever it was made from.
///
/// What is written to it, also by `write!`, goes through the filter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
enum Piece {
    /// Words that went through the filter.
    Words(Style, String),
    /// A change of colour that a job has asked for: parameters of the list.
    Colour(Vec<u8>),
}

impl Text {
    /// Adds words.
    pub(crate) fn push(&mut self, words: &str) {
        self.add(Style::Plain, visible(words));
    }

    /// Adds words that look like `style`.
    pub(crate) fn styled(&mut self, style: Style, words: &str) {
        self.add(style, visible(words));
    }

    /// Adds another text.
    pub(crate) fn append(&mut self, other: Self) {
        self.pieces.extend(other.pieces);
    }

    /// Adds a line of a job's output, with its colours. They end with the line. A carriage return at its
    /// end is dropped.
    pub(crate) fn output(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let before = self.pieces.len();
        self.coloured(line.strip_suffix('\r').unwrap_or(&line));
        if self.pieces[before..].iter().any(|piece| matches!(piece, Piece::Colour(_))) {
            self.pieces.push(Piece::Colour(vec![0]));
        }
    }

    /// Adds a text that somebody else has coloured: colours of the list stay, all other escapes are shown.
    pub(crate) fn coloured(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.find('\x1b') {
            let (before, escape) = rest.split_at(at);
            self.push(before);
            rest = match colour(escape) {
                Some((parameters, rest)) => {
                    self.pieces.push(Piece::Colour(parameters));
                    rest
                }
                None => {
                    let (escape, rest) = escape.split_at(1);
                    self.push(escape);
                    rest
                }
            };
        }
        self.push(rest);
    }

    /// The text as bytes for a terminal or a file; colours only if there is to be `color`.
    pub(crate) fn render(&self, color: bool) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Words(style, words) if color && *style != Style::Plain => {
                    let style = style.ansi();
                    out.push_str(&format!("{style}{words}{style:#}"));
                }
                Piece::Words(_, words) => out.push_str(words),
                Piece::Colour(parameters) if color => {
                    let parameters: Vec<String> = parameters.iter().map(u8::to_string).collect();
                    out.push_str(&format!("\x1b[{}m", parameters.join(";")));
                }
                Piece::Colour(_) => {}
            }
        }
        out
    }

    fn add(&mut self, style: Style, words: Cow<'_, str>) {
        match self.pieces.last_mut() {
            Some(Piece::Words(last, text)) if *last == style => text.push_str(&words),
            _ if words.is_empty() => {}
            _ => self.pieces.push(Piece::Words(style, words.into_owned())),
        }
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, words: &str) -> fmt::Result {
        self.push(words);
        Ok(())
    }
}

impl<T: AsRef<str>> From<T> for Text {
    fn from(words: T) -> Self {
        let mut text = Self::default();
        text.push(words.as_ref());
        text
    }
}

/// Of the sequence that sets colours with which `text` begins, the parameters, and what follows it. `None`
/// if it is none, or asks for more than colours and weights: neither what blinks nor what is concealed is
/// on the list.
fn colour(text: &str) -> Option<(Vec<u8>, &str)> {
    /// More than any program sets at once.
    const MOST: usize = 32;
    let sequence = text.strip_prefix("\x1b[")?;
    let end = sequence.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    let rest = sequence[end..].strip_prefix('m')?;
    let mut parameters = Vec::new();
    for word in sequence[..end].split(';') {
        // One that is left out is 0.
        parameters.push(if word.is_empty() { 0 } else { word.parse::<u8>().ok()? });
    }
    let mut at = parameters.as_slice();
    while let Some((first, after)) = at.split_first() {
        at = match (first, after) {
            (38 | 48, [5, _, after @ ..] | [2, _, _, _, after @ ..]) => after,
            (0..=4 | 7 | 9 | 22..=37 | 39..=47 | 49 | 90..=97 | 100..=107, after) => after,
            _ => return None,
        };
    }
    (parameters.len() <= MOST).then_some((parameters, rest))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn output(line: &[u8]) -> String {
        let mut text = Text::default();
        text.output(line);
        text.render(true)
    }

    #[test]
    fn a_job_has_its_colours_and_no_other_sequence() {
        assert_eq!(output(b"\x1b[1;31mred\x1b[0m\t."), "\x1b[1;31mred\x1b[0m\t.\x1b[0m");
        assert_eq!(output(b"\x1b[mx\x1b[;32my"), "\x1b[0mx\x1b[0;32my\x1b[0m");
        assert_eq!(
            output(b"\x1b[38;5;200mx\x1b[48;2;1;2;3;97my"),
            "\x1b[38;5;200mx\x1b[48;2;1;2;3;97my\x1b[0m"
        );
        for hidden in
            ["5", "6", "8", "1;8", "38;5", "38;2;1;2", "58;5;1", "300", "10", "1:2", "?25", "1;5;31"]
        {
            assert_eq!(output(format!("\x1b[{hidden}mx").as_bytes()), format!("^[[{hidden}mx"));
        }
        assert_eq!(output(b"\x1b[2Jgone\x07\x7f\r"), "^[[2Jgone^G^?");
        assert_eq!(output("\u{9b}2J\u{202e}".as_bytes()), "\\u{9b}2J\\u{202e}");
        assert_eq!(output(b"\x9b2J"), "\u{fffd}2J");
        assert_eq!(output(b"\x1b["), "^[[");
        assert_eq!(output(b"50%\r100%\r"), "50%^M100%");
        assert_eq!(output(b"\x1b]8;;http://x\x1b\\"), "^[]8;;http://x^[\\");
    }

    #[test]
    fn words_have_a_style_and_no_colours_of_their_own() {
        let mut text = Text::default();
        text.styled(Style::Bad, "no\x1b[2J");
        let name = "\u{202e}";
        let _ = write!(text, " {name} \x1b[31m");
        text.append("\n".into());
        assert_eq!(text.render(false), "no^[[2J \\u{202e} ^[[31m\n");
        assert_eq!(text.render(true), "\x1b[1m\x1b[31mno^[[2J\x1b[0m \\u{202e} ^[[31m\n");
        let mut text = Text::default();
        text.output(b"\x1b[31mx");
        assert_eq!(text.render(false), "x");
    }
}
