//! Makes the trees that `benches/cache/run` measures with, and changes them:
//!
//! ```text
//! tree packages|big|tiny <folder>        20,000 files of a package store; 2 GiB in 20 files; 100,000 tiny files
//! tree change <folder> <percent> <salt>  gives that share of the files new content of the same length
//! ```

use std::path::{Path, PathBuf};

use fs_err as fs;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["packages", folder] => packages(Path::new(folder))?,
        ["big", folder] => big(Path::new(folder))?,
        ["tiny", folder] => tiny(Path::new(folder))?,
        ["change", folder, percent, salt] => change(Path::new(folder), percent.parse()?, salt.parse()?)?,
        _ => {
            return Err(
                "usage: tree packages|big|tiny <folder> | tree change <folder> <percent> <salt>".into()
            );
        }
    }
    Ok(())
}

/// 500 packages of 40 files, 4 kB in the mean: half are below 1.5 kB, a few are large.
fn packages(root: &Path) -> std::io::Result<()> {
    let mut random = Random(1);
    for package in 0..500 {
        for file in 0..40 {
            let folder = match file % 10 {
                0 => PathBuf::new(),
                1..=5 => PathBuf::from("lib"),
                6..=8 => PathBuf::from(format!("dist/esm/{}", file / 10)),
                _ => PathBuf::from("test"),
            };
            let folder = root.join(format!("@scope{}/package-{package}", package % 20)).join(folder);
            fs::create_dir_all(&folder)?;
            let size = match random.below(100) {
                0..50 => 200 + random.below(1300),
                50..90 => 1500 + random.below(5000),
                90..99 => 6500 + random.below(16000),
                _ => 40_000 + random.below(60_000),
            };
            fs::write(folder.join(format!("file-{file}.js")), text(&mut random, size))?;
        }
    }
    Ok(())
}

/// 20 files, every second as a program is, the others as what is compressed already.
fn big(root: &Path) -> std::io::Result<()> {
    fs::create_dir_all(root)?;
    let mut random = Random(2);
    for file in 0..20 {
        let mut bytes = Vec::with_capacity((2 << 30) / 20);
        while bytes.len() < (2 << 30) / 20 {
            if file % 2 == 0 {
                // Instructions: few values, some of them often, with numbers in between.
                bytes.extend_from_slice(&[0x48, 0x89, (random.below(8) * 9) as u8, 0x24, 0, 0]);
                bytes.extend_from_slice(&(random.below(1 << 12) as u32).to_le_bytes());
                if random.below(3) == 0 {
                    bytes.extend_from_slice(&random.next().to_le_bytes());
                }
            } else {
                bytes.extend_from_slice(&random.next().to_le_bytes());
            }
        }
        fs::write(root.join(format!("artifact-{file}.bin")), bytes)?;
    }
    Ok(())
}

/// 100,000 files of 0 to 600 bytes, ten to a folder.
fn tiny(root: &Path) -> std::io::Result<()> {
    let mut random = Random(3);
    for folder in 0..10_000 {
        let path = root.join(format!("{}/{}/{}", folder / 500, folder / 25 % 20, folder % 25));
        fs::create_dir_all(&path)?;
        for file in 0..10 {
            let size = random.below(600);
            fs::write(path.join(format!("object-{file}.o")), text(&mut random, size))?;
        }
    }
    Ok(())
}

fn change(root: &Path, percent: u64, salt: u64) -> std::io::Result<()> {
    let mut folders = vec![root.to_owned()];
    let mut random = Random(salt.wrapping_mul(0x9E37_79B9) | 1);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if random.below(100) < percent {
                let size = entry.metadata()?.len();
                fs::write(entry.path(), text(&mut random, size))?;
            }
        }
    }
    Ok(())
}

/// Words of source code, so that it compresses as that does: to about a third.
fn text(random: &mut Random, size: u64) -> Vec<u8> {
    const WORDS: [&str; 32] = [
        "const ",
        "function ",
        "return ",
        "export ",
        "import ",
        "value",
        "index",
        "options",
        "length",
        "this.",
        "(",
        ")",
        " => ",
        " = ",
        "{\n  ",
        "}\n",
        ";\n",
        ", ",
        "if (",
        "for (let i = 0; i < ",
        "undefined",
        "null",
        "result",
        "string",
        "number",
        ".map(",
        ".filter(",
        "await ",
        "async ",
        "// note that the ",
        " of the ",
        "'use strict'",
    ];
    let size = usize::try_from(size).unwrap_or(0);
    let mut text = Vec::with_capacity(size + 32);
    while text.len() < size {
        let at = random.below(32).min(random.below(32));
        text.extend_from_slice(WORDS[at as usize].as_bytes());
        if random.below(6) == 0 {
            text.extend_from_slice(format!("{:x}", random.next() >> 44).as_bytes());
        }
    }
    text.truncate(size);
    text
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
