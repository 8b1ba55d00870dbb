//! Counts words of a text.

use aho_corasick::AhoCorasick;

fn main() {
    let words = ["warp", "weft", "loom"];
    let text = "a loom holds the warp, the weft goes through it, and the loom beats it home";
    println!("{}", count(&words, text));
}

fn count(words: &[&str], text: &str) -> usize {
    AhoCorasick::new(words).map_or(0, |words| words.find_iter(text).count())
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn every_word_counts() {
        assert_eq!(count(&["a", "bc"], "abcabc"), 4);
    }
}
