//! Drives a store from the command line and says what it did and how long that took:
//!
//! ```text
//! cargo run --release -p loom-cache --example store -- <store> save <name> <key> <tree> <pattern>…
//! …                                                           restore <name> <key> <tree> <pattern>…
//! …                                                           gc <max bytes> | verify | list
//! ```

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use loom_cache::{Origin, Save, Store, Tracked};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [root, command, rest @ ..] = &args[..] else {
        return Err("usage: store <store> <command> …".into());
    };
    let cancel = AtomicBool::new(false);
    let started = Instant::now();
    let store = Store::open(Path::new(root))?;
    let report = match (*command, rest) {
        ("save", [name, key, tree, patterns @ ..]) => {
            let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            let (tree, origin) = (Path::new(tree), Origin::default());
            let saved = store.save(&Save {
                name,
                key,
                tree,
                patterns: &patterns,
                tracked: &Tracked::default(),
                origin: &origin,
                cancel: &cancel,
            })?;
            format!("{saved:?}")
        }
        ("restore", [name, key, tree, patterns @ ..]) => {
            let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            let found = store.find(name, key)?;
            match found.entry {
                Some(entry) => {
                    format!("{:?}", entry.restore(Path::new(tree), &patterns, &Tracked::default(), &cancel)?)
                }
                None => format!("miss {:?}", found.warnings),
            }
        }
        ("gc", [max]) => format!("{:?}", store.gc(max.parse()?, &[])?),
        ("verify", []) => format!("{:?}", store.verify(&cancel)?),
        ("list", []) => format!("{:#?}", store.list()?),
        _ => return Err("no such command".into()),
    };
    let took = started.elapsed();
    #[expect(clippy::print_stdout, reason = "what an example has to say")]
    {
        println!("{report}\nin {:.1} ms", took.as_secs_f64() * 1e3);
    }
    Ok(())
}
