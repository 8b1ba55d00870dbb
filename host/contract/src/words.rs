//! How messages write what many of them hold.

/// `count` of what one is called `noun`: `1 file`, `2 files`.
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
