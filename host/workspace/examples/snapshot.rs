//! Copies the repository at one path to another, says what it cost and removes the copy again:
//! `cargo run --release -p loom-workspace --example snapshot -- <repository> <copy> [--keep]`.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [repository, copy, rest @ ..] = &args[..] else {
        return Err("usage: snapshot <repository> <copy> [--keep]".into());
    };
    let (repository, copy) = (Path::new(repository), Path::new(copy));
    let started = Instant::now();
    let snapshot =
        loom_workspace::create(repository, copy, |path| std::fs::create_dir(path), &AtomicBool::new(false))?;
    let made = started.elapsed();
    let mut report = format!("{snapshot:#?}\nmade in {made:.2?}");
    if rest.is_empty() {
        let started = Instant::now();
        loom_tree::remove(snapshot.dir())?;
        report += &format!(", removed in {:.2?}", started.elapsed());
    }
    #[expect(clippy::print_stdout, reason = "what an example has to say")]
    {
        println!("{report}");
    }
    Ok(())
}
