use super::*;

fn ignored(file: &str, path: &str) -> bool {
    Ignore::parse(file).unwrap().matches(path)
}

#[test]
fn patterns_mean_what_they_mean_to_docker() {
    let table: &[(&str, &[&str], &[&str])] = &[
        ("a", &["a", "a/b", "a/b/c"], &["b", "b/a", "ab"]),
        ("/a", &["a", "a/b"], &["b/a"]),
        ("a/", &["a", "a/b"], &["b/a"]),
        ("./a", &["a"], &["b/a"]),
        ("x/../a", &["a"], &["x/a"]),
        ("*", &["a", "a/b", ".a"], &[]),
        ("*.md", &["a.md", ".md", "a.md/x"], &["a/b.md", "a.mdx"]),
        ("*/*.md", &["a/b.md"], &["b.md", "a/b/c.md"]),
        ("**/*.md", &["b.md", "a/b.md", "a/b/c.md"], &["a.m"]),
        ("**", &["a", "a/b"], &[]),
        ("a/**", &["a/b", "a/b/c"], &["a", "b/a/c"]),
        ("a/**/b", &["a/b", "a/x/b", "a/x/y/b", "a/x/b/z"], &["b", "a/xb", "xa/b"]),
        ("**/a", &["a", "x/a", "x/y/a", "x/a/y"], &["xa", "x/ya"]),
        ("te?t", &["test", "te.t"], &["tet", "te/t", "teest"]),
        ("a[b-d]e", &["abe", "ade"], &["aee", "ae"]),
        ("a[^b-d]e", &["aee"], &["abe", "a/e"]),
        ("a\\*b", &["a*b"], &["axb"]),
        ("a.b", &["a.b"], &["axb"]),
        ("a+(b)$", &["a+(b)$"], &["aab"]),
        ("# a", &[], &["# a", "a"]),
        (" # a", &["# a"], &["a"]),
        ("  a  ", &["a"], &["  a  "]),
        ("\u{feff}a", &["a"], &[]),
        ("a\n!a/b", &["a", "a/c"], &["a/b", "a/b/c"]),
        ("*\n!a\n!b/c", &["x", "b", "b/d"], &["a", "a/z", "b/c"]),
        ("*.md\n!README*.md\nREADME-x.md", &["a.md", "README-x.md"], &["README.md", "README-y.md"]),
        ("!a\na", &["a"], &[]),
        ("*\n!**/*.go", &["a", "a/b.rs"], &["x.go", "a/b.go"]),
        ("ä?", &["äö"], &["ä"]),
        (".", &[], &["a"]),
        ("/", &[], &["a"]),
    ];
    for (file, yes, no) in table {
        for path in *yes {
            assert!(ignored(file, path), "{file:?} ignores {path}");
        }
        for path in *no {
            assert!(!ignored(file, path), "{file:?} does not ignore {path}");
        }
    }
}

#[test]
fn folders_are_looked_into_where_something_in_them_may_be_kept() {
    let may = |file: &str, folder: &str| Ignore::parse(file).unwrap().may_keep_below(folder);
    assert!(!may("*", "a"));
    assert!(may("*\n!a/b", "a"));
    assert!(may("*\n!a/b/c", "a/b"));
    assert!(!may("*\n!a/b", "b"));
    assert!(!may("*\n!a", "ab"));
    assert!(may("*\n!**/x", "b"));
    assert!(may("*\n!a*/x", "abc"));
    assert!(!may("*\n!a*/x", "bc"));
}

#[test]
fn what_is_no_pattern_is_named() {
    for (file, line) in [("a\n!", "!"), ("[a", "[a"), ("a\\", "a\\"), ("[]", "[]")] {
        assert_eq!(Ignore::parse(file).unwrap_err().0, line);
    }
}

proptest::proptest! {
    #[test]
    fn no_pattern_panics_or_takes_long(file in "[a-c*?/!\\[\\]^\\\\.\n-]{0,40}", path in "[a-c.]{1,5}(/[a-c.]{1,5}){0,6}") {
        if let Ok(ignore) = Ignore::parse(&file) {
            let _ = ignore.matches(&path);
            let _ = ignore.may_keep_below(&path);
        }
    }

    #[test]
    fn what_is_kept_lies_only_in_folders_that_are_looked_into(
        lines in proptest::collection::vec("!?(\\*\\*/)?[ab*?]{1,2}(/(\\*\\*|[ab*?]{1,2})){0,2}", 1..4),
        path in "[ab]{1,2}(/[ab]{1,2}){1,3}",
    ) {
        let ignore = Ignore::parse(&lines.join("\n")).unwrap();
        let folder = path.rsplit_once('/').unwrap().0;
        if ignore.matches(folder) && !ignore.matches(&path) {
            proptest::prop_assert!(ignore.may_keep_below(folder));
        }
    }
}
