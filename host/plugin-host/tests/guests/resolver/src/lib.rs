//! Does what its references tell it to: `test://<verb> <words>`.

#![expect(clippy::print_stdout, clippy::panic, reason = "what a resolver does wrong is what is tested")]

use loom_sdk::http::Request;
use loom_sdk::{Error, ErrorKind, Result, SecretResolver, config, credentials, env, files};

#[derive(Debug, Default)]
struct Obedient {
    opened: Vec<String>,
    calls: usize,
}

loom_sdk::export_secret_resolver!(Obedient);

impl SecretResolver for Obedient {
    fn open(&mut self, references: &[String]) {
        self.opened = references.to_vec();
    }

    fn resolve(&mut self, reference: &str) -> Result<Vec<u8>> {
        self.calls += 1;
        let words: Vec<&str> = reference.trim_start_matches("test://").split(' ').collect();
        let unset = || Error::new(ErrorKind::NotFound, "NONE", "there is none");
        match words.as_slice() {
            ["opened"] => Ok(self.opened.join(",").into_bytes()),
            ["calls"] => Ok(self.calls.to_string().into_bytes()),
            ["config"] => Ok(config::json().into_bytes()),
            ["env", name] => env::get(name)?.ok_or_else(unset),
            ["credential", slot] => credentials::get(slot)?.ok_or_else(unset),
            ["credential", slot, owner] => credentials::get_of(slot, owner)?.ok_or_else(unset),
            ["exists", path] => Ok(files::exists(path)?.to_string().into_bytes()),
            ["read", path] => files::read(path),
            ["write", path, content] => files::write(path, content.as_bytes()).map(|()| Vec::new()),
            ["http", method, url] => {
                let answer = Request::new(method, url).header("X-Word", "loom").send()?;
                let mut text = answer.status.to_string().into_bytes();
                text.push(b' ');
                text.extend(answer.body);
                Ok(text)
            }
            ["fail", kind, code] => {
                let kind = match *kind {
                    "invalid" => ErrorKind::Invalid,
                    "not-found" => ErrorKind::NotFound,
                    "unavailable" => ErrorKind::Unavailable,
                    _ => ErrorKind::Failed,
                };
                Err(Error::new(kind, *code, "as it was told"))
            }
            ["panic", text] => {
                println!("printed {text}");
                loom_sdk::error!("logged {text}");
                panic!("panicked {text}")
            }
            ["loop"] => loop {
                std::hint::black_box(());
            },
            _ => Ok(reference.as_bytes().to_vec()),
        }
    }
}
