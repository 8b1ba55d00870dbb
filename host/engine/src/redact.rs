//! Secret values are masked in every byte that leaves Loom.
//!
//! ```text
//!  value ──> forms: how people and tools print it (raw, base64, quoted, …)
//!               │
//!            search: all of them at once, at many places, in one pass
//!               │
//!  bytes ──> Stream / Redactor::text ──> bytes with [REDACTED:SECRET_NAME] or [REDACTED:MASKED]
//!                         │
//!  values ────────> Redacted::new ──> Redacted<T>, which is all that is recorded or shown (loom_contract::redacted)
//! ```
//!
//! - Forms that overlap or touch, of one value or of several, are masked as one, by the name of the form that begins
//!   first; of those that begin together, of the longest; of equally long ones, of the secret that was registered first.
//! - A mask takes the place of exactly what it masks: line terminators within it go with it, those beside it stay. Masks
//!   are not read again, so a value `REDACTED` does no harm. Nor does a value that a mask would complete: where a form
//!   begins as a mask ends (`]…`), or ends as one begins (`…[`), the rest of it is a form too, unless it is shorter than
//!   four bytes.
//! - A stream keeps back what may still become a form, until what follows decides: less than the longest form, or than
//!   three times the longest in base64 or hex, for the line breaks between its characters. Nothing else waits.
//! - Base64 and hex are found across line breaks. Only where a line ends after less than four characters of a form, these
//!   are shown, and the rest is masked: else most lines would be kept back for what their last character could become.
//!   For values of six bytes and less, which would show too much of themselves, lines are kept back.
//! - The forms of a value take about a hundred times its size in memory; of one above 64 KiB, about twenty times.
//!
//! - Sequences that colour a text do not hide a value that they stand in, and are masked with it. In dumps (`dump`) the
//!   digits of a value and the characters beside them are masked; a last line that may be one of a dump waits for its end.
//!
//! What cannot be caught: a value that was compressed, encrypted, hashed, reversed, or changed in any other way that
//! `forms` does not list, as by two of its ways after one another; one that is printed in pieces (a character a line,
//! with something before each line of its base64 or of its dump); the beginning of a value that is cut off, except at the
//! end of a stream; in base64, the one or two characters at either end that the value shares with what stands beside it.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom_contract::redacted::Mask;
use parking_lot::{Mutex, MutexGuard};
use zeroize::Zeroizing;

mod colour;
mod dump;
mod forms;
mod search;
#[cfg(test)]
mod tests;

use forms::Form;
use search::{Cursor, Edges, End, Findings, Match, Search};

/// What each mask begins with; it ends with the next `]`.
pub const MASK_BEGINS: &str = "[REDACTED:";

/// The values that must not be seen, of one run. Clones share them.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// How many secrets are registered, to be known without the lock.
    count: AtomicUsize,
    secrets: Mutex<Secrets>,
}

#[derive(Default)]
struct Secrets {
    list: Vec<Secret>,
    /// Looks for the first of `list`; made when it is needed.
    masks: Arc<Masks>,
}

struct Secret {
    origin: Origin,
    value: Zeroizing<Vec<u8>>,
    forms: Vec<Arc<Form>>,
}

/// Where a value is from.
#[derive(Clone, PartialEq, Eq)]
enum Origin {
    /// From the secret of that name.
    Secret(String),
    /// From a job that learnt it.
    Learnt,
}

impl Origin {
    /// What is written in the place of the value.
    fn mask(&self) -> String {
        match self {
            Self::Secret(name) => format!("{MASK_BEGINS}SECRET_{name}]"),
            Self::Learnt => format!("{MASK_BEGINS}MASKED]"),
        }
    }

    /// The value in a sentence.
    fn words(&self) -> String {
        match self {
            Self::Secret(name) => format!("the value of the secret `{name}`"),
            Self::Learnt => format!("a value that a job has masked through {}", crate::mask::VARIABLE),
        }
    }
}

/// What is looked for, and what is written instead.
#[derive(Default)]
struct Masks {
    search: Search,
    /// What is found, in words; by secret.
    words: Vec<Arc<str>>,
    masks: Vec<String>,
}

impl Redactor {
    /// Masks `value` from now on, as `[REDACTED:SECRET_<name>]`, also in streams that are open. Returns whether it can be
    /// masked: values of less than four bytes are not, without counting line terminators. To register the same again is
    /// free.
    pub fn register(&self, name: &str, value: &[u8]) -> bool {
        self.add(Origin::Secret(name.to_owned()), value)
    }

    /// The same for a value that belongs to no secret, as `[REDACTED:MASKED]`.
    pub(crate) fn learn(&self, value: &[u8]) -> bool {
        self.add(Origin::Learnt, value)
    }

    fn add(&self, origin: Origin, value: &[u8]) -> bool {
        if !forms::maskable(value) {
            return false;
        }
        let known = |secrets: &Secrets| secrets.list.iter().any(|s| s.origin == origin && *s.value == value);
        if known(&self.0.lock()) {
            return true;
        }
        let forms = forms::of(value).into_iter().map(Arc::new).collect();
        let mut secrets = self.0.lock();
        if !known(&secrets) {
            let value = Zeroizing::new(value.to_vec());
            secrets.list.push(Secret { origin, value, forms });
            self.0.count.store(secrets.list.len(), Ordering::Release);
        }
        true
    }

    /// Whether nothing is registered.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many values are registered. It only grows.
    pub(crate) fn count(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// `text` with all values masked; borrowed where there are none.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // A value that is no UTF-8 may have been a part of a character.
            Cow::Owned(masked) => Cow::Owned(match String::from_utf8(masked) {
                Ok(masked) => masked,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
        }
    }

    /// `bytes` with all values masked; borrowed where there are none.
    pub fn bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
        if self.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let masks = self.0.masks();
        let edges = Edges { begins_line: true, end: End::Whole };
        let mut matches = masks.search.find(bytes, edges).matches;
        if matches.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut masked = Vec::with_capacity(bytes.len());
        sort(&mut matches);
        masks.mask(bytes, 0, &matches, None, &mut |part| masked.extend_from_slice(part));
        Cow::Owned(masked)
    }

    /// Masks what arrives in pieces: one for each stream of a process.
    pub fn stream(&self) -> Stream {
        Stream { reader: Reader::new(self), open: None }
    }

    /// Looks for values in a file that is read in pieces.
    pub fn scanner(&self) -> Scanner {
        Scanner { reader: Reader::new(self) }
    }
}

/// What is recorded and shown is masked by this and by nothing else.
impl Mask for Redactor {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.text(text)
    }

    fn bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
        self.bytes(bytes)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock()
    }

    fn masks(&self) -> Arc<Masks> {
        let mut secrets = self.lock();
        if secrets.masks.words.len() < secrets.list.len() {
            secrets.masks = Arc::new(Masks::new(&secrets.list));
        }
        Arc::clone(&secrets.masks)
    }
}

impl Masks {
    fn new(secrets: &[Secret]) -> Self {
        let masks: Vec<String> = secrets.iter().map(|s| s.origin.mask()).collect();
        let mut forms = Vec::new();
        for (number, secret) in secrets.iter().enumerate() {
            forms.extend(secret.forms.iter().map(|form| (number, Arc::clone(form))));
            forms.extend(beside(&secret.forms, &masks).into_iter().map(|form| (number, Arc::new(form))));
        }
        Self {
            search: Search::new(forms),
            words: secrets.iter().map(|s| s.origin.words().into()).collect(),
            masks,
        }
    }

    /// Gives `out` the bytes of `text` from `from` on with `matches`, in order, masked. `open`: how many of them belong to
    /// a mask that was given out before, if the last that was given out is a mask. Returns the same for what follows on
    /// `text`; matches may end there.
    fn mask(
        &self,
        text: &[u8],
        from: usize,
        matches: &[Match],
        open: Option<usize>,
        out: &mut dyn FnMut(&[u8]),
    ) -> Option<usize> {
        let mut open = open.map(|length| from + length);
        // What ends before was given out before.
        for found in matches.iter().filter(|found| from < found.end) {
            let start = found.start.max(from);
            match open {
                Some(end) if start <= end => open = Some(end.max(found.end)),
                _ => {
                    give(&text[open.unwrap_or(from)..start], out);
                    out(self.masks[found.secret].as_bytes());
                    open = Some(found.end);
                }
            }
        }
        match open {
            Some(end) if text.len() <= end => Some(end - text.len()),
            _ => {
                give(&text[open.unwrap_or(from)..], out);
                None
            }
        }
    }
}

/// Whether `shown`, in which values may be masked, can be what `text` looks like then.
pub fn may_be(shown: &str, text: &str) -> bool {
    let mut pieces = shown.split(MASK_BEGINS);
    let Some(mut rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    // What stands behind each mask.
    let pieces: Vec<&str> = pieces.filter_map(|piece| Some(piece.split_once(']')?.1)).collect();
    let Some((last, between)) = pieces.split_last() else { return rest.is_empty() };
    for piece in between {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn give(bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
    if !bytes.is_empty() {
        out(bytes);
    }
}

/// In the order in which names are given.
fn sort(matches: &mut [Match]) {
    matches.sort_unstable_by_key(|m| (m.start, Reverse(m.end), m.secret));
}

/// What is left of `forms` beside one of `masks` that ends as they begin, or begins as they end.
fn beside(forms: &[Arc<Form>], masks: &[String]) -> Vec<Form> {
    let mut rests = forms::Set::default();
    for form in forms {
        cut(&form.bytes, masks, &mut rests);
    }
    let mut next = 0;
    while let Some(rest) = rests.list.get(next) {
        let rest = rest.bytes.clone();
        cut(&rest, masks, &mut rests);
        next += 1;
    }
    rests.list
}

fn cut(form: &[u8], masks: &[String], rests: &mut forms::Set) {
    for (at, byte) in form.iter().enumerate() {
        // Base64 and hex, which may be wrapped, have no brackets.
        let rest = match byte {
            b'[' if masks.iter().any(|mask| mask.as_bytes().starts_with(&form[at..])) => &form[..at],
            b']' if masks.iter().any(|mask| mask.as_bytes().ends_with(&form[..=at])) => &form[at + 1..],
            _ => continue,
        };
        rests.add(Zeroizing::new(rest.to_vec()), false);
    }
}

/// Bytes that arrive in pieces, and what is kept of them.
struct Reader {
    redactor: Redactor,
    masks: Arc<Masks>,
    /// The end of what arrived: it may become a form.
    kept: Zeroizing<Vec<u8>>,
    /// So many of `kept` were told: a form may begin with them, but they are not masked with it.
    told: usize,
    /// How far the form has been compared that may begin after these.
    pending: Option<Cursor>,
    /// Whether a line begins with `kept`, or with what follows where nothing is kept.
    begins_line: bool,
}

/// What a [`Reader`] tells: bytes, which of them are new and decided, and all forms in them, in order.
type Visit<'v> = &'v mut dyn FnMut(&Masks, &[u8], Range<usize>, &[Match]);

impl Reader {
    fn new(redactor: &Redactor) -> Self {
        Self {
            redactor: redactor.clone(),
            masks: Arc::default(),
            kept: Zeroizing::default(),
            told: 0,
            pending: None,
            begins_line: true,
        }
    }

    fn refresh(&mut self) {
        if self.redactor.0.count.load(Ordering::Acquire) != self.masks.words.len() {
            self.masks = self.redactor.0.masks();
            // It was of what was looked for before.
            self.pending = None;
        }
    }

    fn push(&mut self, bytes: &[u8], visit: Visit<'_>) {
        self.refresh();
        if let Some(cursor) = self.pending.and_then(|cursor| self.masks.search.goes_on(cursor, bytes)) {
            // Nothing is decided. It is not searched again and again while a long value arrives.
            self.pending = Some(cursor);
            self.kept.extend_from_slice(bytes);
            return;
        }
        if self.kept.is_empty() {
            let kept = self.tell(bytes, visit);
            self.kept.extend_from_slice(&bytes[kept..]);
            return;
        }
        let mut text = mem::take(&mut self.kept);
        let before = text.len();
        // So many bytes decide nearly always what is kept; the others need not be copied.
        let (near, far) = bytes.split_at(bytes.len().min(self.masks.search.reach));
        text.extend_from_slice(near);
        let kept = self.tell(&text, visit);
        if far.is_empty() {
            text.drain(..kept);
        } else if let Some(decided) = kept.checked_sub(before) {
            let rest = &bytes[decided..];
            let kept = self.tell(rest, visit);
            text.clear();
            text.extend_from_slice(&rest[kept..]);
        } else {
            text.drain(..kept);
            text.extend_from_slice(far);
            let kept = self.tell(&text, visit);
            text.drain(..kept);
        }
        self.kept = text;
    }

    /// Tells what is decided of `text`, but for what was told before. Returns from where on it has to be kept.
    fn tell(&mut self, text: &[u8], visit: Visit<'_>) -> usize {
        let told = mem::take(&mut self.told);
        let edges = Edges { begins_line: self.begins_line, end: End::Open };
        let Findings { mut matches, partial } = self.masks.search.find(text, edges);
        sort(&mut matches);
        let (first, start) = partial.map_or((text.len(), text.len()), |p| (p.first, p.start.max(told)));
        visit(&self.masks, text, told..start, &matches);
        // What is whole but not decided is found again.
        let whole = matches.iter().filter(|m| start <= m.start).map(|m| m.first);
        let first = whole.fold(first, usize::min);
        self.told = start - first;
        self.pending = partial.and_then(|p| p.cursor);
        self.begins_line = text[..first].last().map_or(self.begins_line, |last| *last == b'\n');
        first
    }

    fn end(&mut self, visit: Visit<'_>) {
        self.refresh();
        self.pending = None;
        let text = mem::take(&mut self.kept);
        let told = mem::take(&mut self.told);
        let edges = Edges { begins_line: self.begins_line, end: End::Cut };
        let mut matches = self.masks.search.find(&text, edges).matches;
        sort(&mut matches);
        visit(&self.masks, &text, told..text.len(), &matches);
    }
}

/// Masks values in a stream of bytes, wherever it is cut into pieces.
pub struct Stream {
    reader: Reader,
    /// See [`Masks::mask`].
    open: Option<usize>,
}

impl Stream {
    /// Takes what was read, and gives `out` what may be handed on: everything up to where a value may have begun.
    /// Where nothing is registered, that is `bytes` themselves.
    pub fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        if self.reader.redactor.is_empty() {
            give(bytes, out);
            return;
        }
        let open = &mut self.open;
        self.reader.push(bytes, &mut |masks, text, new, matches| {
            let matches = &matches[..matches.partition_point(|m| m.start < new.end)];
            *open = masks.mask(&text[..new.end], new.start, matches, *open, out);
        });
    }

    /// The stream has ended: gives out what was kept back. The beginning of a value is masked too, if it has eight bytes.
    pub fn end(&mut self, out: &mut dyn FnMut(&[u8])) {
        let open = self.open.take();
        self.reader.end(&mut |masks, text, new, matches| {
            masks.mask(text, new.start, matches, open, out);
        });
    }
}

/// Says which value a file holds.
pub struct Scanner {
    reader: Reader,
}

impl Scanner {
    /// Takes the next piece of the file, and returns in words the first value of which a form ends in it.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Arc<str>> {
        let mut found = None;
        // All that is held is looked at each time: there is no end to tell what it turned out to be.
        self.reader.pending = None;
        self.reader.push(bytes, &mut |masks, _, _, matches| {
            let first = matches.first().map(|m| Arc::clone(&masks.words[m.secret]));
            found = found.take().or(first);
        });
        found
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner").finish_non_exhaustive()
    }
}
