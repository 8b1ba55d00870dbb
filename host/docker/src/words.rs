//! The daemon's words for programs that it cannot start, as far as they are understood.

/// The program that the daemon's words are about, where they are about one that cannot be started.
pub(crate) fn program_in(words: &str) -> Option<String> {
    let (_, rest) = words.split_once("exec: \"")?;
    rest.split_once('"').map(|(program, _)| program.to_owned())
}

/// The daemon's words for a program that is not in the image.
pub(crate) fn is_missing(words: &str) -> bool {
    words.contains("executable file not found")
        || (words.contains("no such file or directory") && program_in(words).is_some())
}

/// And for a working folder that is not there.
pub(crate) fn is_folder_missing(words: &str) -> bool {
    words.contains("chdir to cwd")
}

/// The daemon's words for what has to do with the program alone.
pub(crate) fn is_explained(words: &str) -> bool {
    let others = ["exec format error", "unable to find "];
    program_in(words).is_some() || is_folder_missing(words) || others.iter().any(|part| words.contains(part))
}
