//! What of a job's file is masked, and when.

use std::io::Write as _;

use loom_contract::id::RunIds;
use loom_ownership::{PrivateFolder, Runs};

use super::*;

struct Job {
    mask: MaskFile,
    redactor: Redactor,
    dir: PathBuf,
}

impl Job {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("loom-engine-test-mask-{}-{name}", std::process::id()));
        let redactor = Redactor::default();
        fs::create_dir_all(&dir).unwrap();
        let runs = Runs::open(&PrivateFolder::open_or_make(&dir).unwrap()).unwrap();
        let ledger = runs.register(&RunIds::from_stamp(7).run_id, Path::new("/")).unwrap();
        let secrets = SecretsDir { path: dir.join("secrets"), in_memory: true, ledger: Some(ledger) };
        let mask = MaskFile::create(&secrets, "job", redactor.clone()).unwrap();
        Self { mask, redactor, dir }
    }

    fn append(&self, text: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new().append(true).open(self.mask.path()).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    /// `text` after a look, where a mask is `●`.
    fn shown(&self, text: &str) -> String {
        assert_eq!(self.mask.look(LastLine::Waits), []);
        self.redactor.text(text).replace("[REDACTED:MASKED]", "●")
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn each_whole_line_is_masked_from_the_next_look_on() {
    let job = Job::new("lines");
    assert_eq!(job.shown("first-value"), "first-value");
    job.append("first-value\nsecond-");
    assert_eq!(job.shown("<first-value> second-value"), "<●> second-value");
    job.append("value\r\n\nthird value\n");
    assert_eq!(job.shown("second-value, third value, Zmlyc3QtdmFsdWU="), "●, ●, ●");
    // Nobody writes any more: what has no end is whole.
    job.append("the last");
    assert_eq!(job.shown("the last"), "the last");
    assert_eq!(job.mask.look(LastLine::IsWhole), []);
    assert_eq!(job.shown("the last"), "●");
    job.append(" and more\n");
    assert_eq!(job.shown("the last and more"), "●");
}

#[test]
fn a_json_text_is_a_value_of_several_lines() {
    let job = Job::new("json");
    let pem = "-----BEGIN-----\n\"MIIE\\vQ/IBADANBg==\n-----END-----\n";
    job.append(line_of(pem) + "\n\"no JSON\n");
    assert_eq!(job.shown(&format!("<{pem}>")), "<●\n>");
    // Its base64 as a whole.
    assert_eq!(job.shown("LS0tLS1CRUdJTi0tLS0tCiJNSUlFXHZRL0lCQURBTkJnPT0KLS0tLS1FTkQtLS0tLQo="), "●");
    assert_eq!(job.shown("\"no JSON"), "●");
}

#[test]
fn a_file_that_is_written_anew_is_read_anew() {
    let job = Job::new("anew");
    job.append("first-value\n");
    assert_eq!(job.shown("first-value"), "●");
    for (text, value) in
        [("second\n", "second"), ("third-value, longer than the first\n", "longer than the first")]
    {
        fs::write(job.mask.path(), text).unwrap();
        assert_eq!(job.shown(text), "●\n".to_owned(), "{value}");
    }
    assert_eq!(job.shown("first-value second"), "● ●");
}

#[test]
fn what_a_job_puts_in_its_place_is_not_read() {
    let job = Job::new("place");
    job.append("first-value\n");
    fs::remove_file(job.mask.path()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        job.mask.path(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert_eq!(job.shown("first-value"), "●");
    fs::remove_file(job.mask.path()).unwrap();
    let outside = job.dir.join("outside");
    fs::write(&outside, "outside\n").unwrap();
    std::os::unix::fs::symlink(&outside, job.mask.path()).unwrap();
    assert_eq!(job.shown("outside"), "outside");
    job.mask.remove().unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "outside\n");
    job.mask.remove().unwrap();
}

#[test]
fn what_is_too_short_or_too_much_is_said_once() {
    let job = Job::new("limits");
    job.append("abc\nabcd\nxy\n");
    assert_eq!(job.mask.look(LastLine::Waits), [Problem::Short]);
    job.append("z\n");
    assert_eq!(job.shown("abc abcd"), "abc ●");
    let many: Vec<String> = (0..MOST_VALUES).map(|n| format!("value-{n:06}\n")).collect();
    job.append(many.concat());
    assert_eq!(job.mask.look(LastLine::Waits), [Problem::Many]);
    assert_eq!(job.shown("value-000042 value-000999"), "● value-000999");

    let job = Job::new("long");
    job.append("a-value\n");
    // A hole costs nothing, and is not read.
    fs::OpenOptions::new().append(true).open(job.mask.path()).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(job.mask.look(LastLine::Waits), [Problem::Long]);
    assert_eq!(job.shown("a-value"), "●");

    let job = Job::new("anew-and-long");
    for byte in [b'a', b'b', b'c'] {
        fs::write(job.mask.path(), [vec![byte; LONGEST / 2 - 1], b"\n".to_vec()].concat()).unwrap();
        assert_eq!(job.mask.look(LastLine::Waits).is_empty(), byte < b'c');
    }
}

#[test]
fn it_is_this_users_alone_until_it_is_shared() {
    let job = Job::new("modes");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let folder = job.mask.path().parent().unwrap();
    assert_eq!([mode(job.mask.path()), mode(folder), mode(&job.dir.join("secrets"))], [0o600, 0o700, 0o700]);
    job.mask.share().unwrap();
    assert_eq!([mode(job.mask.path()), mode(folder), mode(&job.dir.join("secrets"))], [0o666, 0o700, 0o700]);
}
