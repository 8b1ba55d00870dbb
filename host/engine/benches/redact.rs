//! How fast output is masked: one core, 64 KiB a read, as a process's output arrives. The text fits into the second-level
//! cache, as what was just read does.

use divan::Bencher;
use divan::counter::BytesCount;
use loom_engine::redact::Redactor;

fn main() {
    divan::main();
}

/// Bytes per read.
const READ: usize = 64 * 1024;
/// Bytes of text.
const TOTAL: usize = 1024 * 1024;
const SECRETS: [usize; 5] = [0, 1, 5, 20, 60];

/// Lines of 80 bytes, as logs have them.
#[divan::bench(args = SECRETS)]
fn log(bencher: Bencher<'_, '_>, secrets: usize) {
    mask(bencher, &redactor(secrets), &text(80, ""), READ);
}

/// Lines of 40 bytes.
#[divan::bench(args = SECRETS)]
fn short_lines(bencher: Bencher<'_, '_>, secrets: usize) {
    mask(bencher, &redactor(secrets), &text(40, ""), READ);
}

/// One line of 80 bytes a read.
#[divan::bench(args = SECRETS)]
fn line_by_line(bencher: Bencher<'_, '_>, secrets: usize) {
    mask(bencher, &redactor(secrets), &text(80, ""), 80);
}

/// No word but the first six bytes of secrets.
#[divan::bench(args = SECRETS)]
fn near_misses(bencher: Bencher<'_, '_>, secrets: usize) {
    let words: Vec<u8> = (0..secrets.max(1)).flat_map(|n| secret(n).into_bytes()[..6].to_vec()).collect();
    let mut text = words.repeat(TOTAL / words.len());
    text.chunks_mut(80).for_each(|line| *line.last_mut().unwrap_or(&mut 0) = b'\n');
    mask(bencher, &redactor(secrets), &text, READ);
}

/// Lines of which every other word is coloured.
#[divan::bench(args = SECRETS)]
fn coloured(bencher: Bencher<'_, '_>, secrets: usize) {
    let text = String::from_utf8(text(80, "")).unwrap_or_default();
    let coloured: String = text
        .split_inclusive(' ')
        .enumerate()
        .map(|(n, word)| if n % 2 == 0 { word.to_owned() } else { format!("\x1b[1;31m{word}\x1b[0m") })
        .collect();
    mask(bencher, &redactor(secrets), coloured.as_bytes(), READ);
}

/// What `xxd` prints.
#[divan::bench(args = SECRETS)]
fn dump(bencher: Bencher<'_, '_>, secrets: usize) {
    let lines = text(80, "")[..TOTAL / 4].chunks(16).enumerate().fold(String::new(), |dump, (n, bytes)| {
        let digits = bytes.iter().fold(String::new(), |digits, byte| format!("{digits}{byte:02x}"));
        let pairs: Vec<&str> = (0..digits.len()).step_by(4).filter_map(|at| digits.get(at..at + 4)).collect();
        format!("{dump}{:08x}: {}  {}\n", 16 * n, pairs.join(" "), ".".repeat(bytes.len()))
    });
    mask(bencher, &redactor(secrets), &lines.as_bytes()[..TOTAL], READ);
}

/// Log lines with a few secrets whose value has only five or six bytes.
#[divan::bench]
fn short_values(bencher: Bencher<'_, '_>) {
    let redactor = redactor(20);
    redactor.register("SHORT", b"hunt2");
    redactor.register("SHORTER", b"s3cret");
    mask(bencher, &redactor, &text(80, ""), READ);
}

/// A secret in every tenth line.
#[divan::bench(args = SECRETS)]
fn masked(bencher: Bencher<'_, '_>, secrets: usize) {
    mask(bencher, &redactor(secrets), &text(80, &secret(0)), READ);
}

/// From values to what finds them.
#[divan::bench(args = SECRETS)]
fn register(bencher: Bencher<'_, '_>, secrets: usize) {
    let values: Vec<String> = (0..secrets).map(secret).collect();
    bencher.bench(|| {
        let redactor = Redactor::default();
        for value in &values {
            redactor.register("NAME", value.as_bytes());
        }
        redactor.text("text").len()
    });
}

fn mask(bencher: Bencher<'_, '_>, redactor: &Redactor, text: &[u8], read: usize) {
    bencher.counter(BytesCount::new(text.len())).bench(|| {
        let mut stream = redactor.stream();
        let mut written = 0;
        let mut out = |bytes: &[u8]| written += divan::black_box(bytes).len();
        for read in text.chunks(read) {
            stream.push(read, &mut out);
        }
        stream.end(&mut out);
        written
    });
}

fn redactor(secrets: usize) -> Redactor {
    let redactor = Redactor::default();
    for n in 0..secrets {
        redactor.register(&format!("NAME_{n}"), secret(n).as_bytes());
    }
    redactor
}

/// Tokens, passwords and addresses of 20 to 60 bytes.
fn secret(n: usize) -> String {
    let mut random = Random(n as u64 + 1);
    let length = 20 + random.below(41);
    let start = ["ghp_", "", "AKIA", "postgres://app:", "s!'\"& ", "xoxb-"][n % 6];
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_/+$!";
    let end = (start.len()..length).map(|_| char::from(letters[random.below(letters.len())]));
    start.chars().chain(end).collect()
}

/// Lines of `width` bytes of build logs; `secret` in every tenth.
fn text(width: usize, secret: &str) -> Vec<u8> {
    let words = [
        "Compiling",
        "warning:",
        "src/main.rs:42:17",
        "test result: ok.",
        "error[E0308]",
        "https://registry.example.com/v2/",
        "2026-03-07T12:00:00.000Z",
        "INFO",
        "Downloaded",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15",
        "in 0.42s",
        "node_modules/",
        "GET /api/v1/users/31337 200",
        "+ echo",
        "{\"level\":\"debug\",\"msg\":\"ready\"}",
        "--release",
        "postgres://localhost",
        "the quick brown fox",
        "100%",
        "aGVsbG8gd29ybGQ=",
        "(1/250)",
        "== passed ==",
    ];
    let mut random = Random(7);
    let mut text = Vec::with_capacity(TOTAL + 2 * width);
    for line in 0.. {
        if text.len() >= TOTAL {
            break;
        }
        let start = text.len();
        if line % 10 == 0 {
            text.extend_from_slice(secret.as_bytes());
        }
        while text.len() < start + width - 1 {
            text.extend_from_slice(words[random.below(words.len())].as_bytes());
            text.push(b' ');
        }
        text.truncate(start + width - 1);
        text.push(b'\n');
    }
    text
}

/// Numbers that are the same in every measurement.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed >> 33) as usize) % end
    }
}
