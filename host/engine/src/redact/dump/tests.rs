//! Dumps as tools printed them: what stands here was copied from their output. xxd 2022-01-14, util-linux 2.38,
//! Coreutils 9.1.

use crate::redact::Redactor;

const VALUE: &str = "pa$$-Zq7kP\"w9mT_21x";

/// What each tool prints for `printf 'x=%s\n\303\244' "$VALUE"`.
const PRINTED: &[(&str, &str)] = &[
    (
        "xxd",
        r#"00000000: 783d 7061 2424 2d5a 7137 6b50 2277 396d  x=pa$$-Zq7kP"w9m
00000010: 545f 3231 780a c3a4                      T_21x...
"#,
    ),
    (
        "xxd -g1 -c 10",
        r#"00000000: 78 3d 70 61 24 24 2d 5a 71 37  x=pa$$-Zq7
0000000a: 6b 50 22 77 39 6d 54 5f 32 31  kP"w9mT_21
00000014: 78 0a c3 a4                    x...
"#,
    ),
    (
        "xxd -e",
        r#"00000000: 61703d78 5a2d2424 506b3771 6d397722  x=pa$$-Zq7kP"w9m
00000010: 31325f54 a4c30a78                    T_21x...
"#,
    ),
    (
        "xxd -b -c 6",
        r#"00000000: 01111000 00111101 01110000 01100001 00100100 00100100  x=pa$$
00000006: 00101101 01011010 01110001 00110111 01101011 01010000  -Zq7kP
0000000c: 00100010 01110111 00111001 01101101 01010100 01011111  "w9mT_
00000012: 00110010 00110001 01111000 00001010 11000011 10100100  21x...
"#,
    ),
    (
        "hexdump -C",
        r#"00000000  78 3d 70 61 24 24 2d 5a  71 37 6b 50 22 77 39 6d  |x=pa$$-Zq7kP"w9m|
00000010  54 5f 32 31 78 0a c3 a4                           |T_21x...|
00000018
"#,
    ),
    (
        "hexdump",
        r#"0000000 3d78 6170 2424 5a2d 3771 506b 7722 6d39
0000010 5f54 3132 0a78 a4c3                    
0000018
"#,
    ),
    (
        "hexdump -c",
        r#"0000000   x   =   p   a   $   $   -   Z   q   7   k   P   "   w   9   m
0000010   T   _   2   1   x  \n 303 244                                
0000018
"#,
    ),
    (
        "hexdump -b",
        r#"0000000 170 075 160 141 044 044 055 132 161 067 153 120 042 167 071 155
0000010 124 137 062 061 170 012 303 244                                
0000018
"#,
    ),
    (
        "od -c",
        r#"0000000   x   =   p   a   $   $   -   Z   q   7   k   P   "   w   9   m
0000020   T   _   2   1   x  \n 303 244
0000030
"#,
    ),
    (
        "od -b",
        r#"0000000 170 075 160 141 044 044 055 132 161 067 153 120 042 167 071 155
0000020 124 137 062 061 170 012 303 244
0000030
"#,
    ),
    (
        "od -x",
        r#"0000000 3d78 6170 2424 5a2d 3771 506b 7722 6d39
0000020 5f54 3132 0a78 a4c3
0000030
"#,
    ),
    (
        "od -t x1z",
        r#"0000000 78 3d 70 61 24 24 2d 5a 71 37 6b 50 22 77 39 6d  >x=pa$$-Zq7kP"w9m<
0000020 54 5f 32 31 78 0a c3 a4                          >T_21x...<
0000030
"#,
    ),
    (
        "od -A x -t x1 -v -w7",
        r#"000000 78 3d 70 61 24 24 2d
000007 5a 71 37 6b 50 22 77
00000e 39 6d 54 5f 32 31 78
000015 0a c3 a4
000018
"#,
    ),
    (
        "od",
        r#"0000000 036570 060560 022044 055055 033561 050153 073442 066471
0000020 057524 030462 005170 122303
0000030
"#,
    ),
    (
        "od -a",
        r#"0000000   x   =   p   a   $   $   -   Z   q   7   k   P   "   w   9   m
0000020   T   _   2   1   x  nl   C   $
0000030
"#,
    ),
    (
        "od -t u1",
        r#"0000000 120  61 112  97  36  36  45  90 113  55 107  80  34 119  57 109
0000020  84  95  50  49 120  10 195 164
0000030
"#,
    ),
    (
        "od -t x4",
        r#"0000000 61703d78 5a2d2424 506b3771 6d397722
0000020 31325f54 a4c30a78
0000030
"#,
    ),
    (
        "od -t x8 -w8",
        r#"0000000 5a2d242461703d78
0000010 6d397722506b3771
0000020 a4c30a7831325f54
0000030
"#,
    ),
    (
        "od -An -c",
        r#"   x   =   p   a   $   $   -   Z   q   7   k   P   "   w   9   m
   T   _   2   1   x  \n 303 244
"#,
    ),
    (
        "od -t x1 -c",
        r#"0000000  78  3d  70  61  24  24  2d  5a  71  37  6b  50  22  77  39  6d
          x   =   p   a   $   $   -   Z   q   7   k   P   "   w   9   m
0000020  54  5f  32  31  78  0a  c3  a4
          T   _   2   1   x  \n 303 244
0000030
"#,
    ),
    (
        "od -An -x",
        r#" 3d78 6170 2424 5a2d 3771 506b 7722 6d39
 5f54 3132 0a78 a4c3
"#,
    ),
    (
        "od -An -b -w5",
        r#" 170 075 160 141 044
 044 055 132 161 067
 153 120 042 167 071
 155 124 137 062 061
 170 012 303 244
"#,
    ),
];

/// `printed` with `value` masked, where a mask is `●`: all at once, and a piece at a time.
fn masked(value: &str, printed: &str) -> String {
    let redactor = Redactor::default();
    assert!(redactor.register("X", value.as_bytes()));
    let whole = redactor.text(printed).replace("[REDACTED:SECRET_X]", "●");
    for length in [1, 7, 64, 100] {
        let mut stream = redactor.stream();
        let mut out = Vec::new();
        for piece in printed.as_bytes().chunks(length) {
            stream.push(piece, &mut |shown| out.extend_from_slice(shown));
        }
        stream.end(&mut |shown| out.extend_from_slice(shown));
        let out = String::from_utf8(out).unwrap().replace("[REDACTED:SECRET_X]", "●");
        assert_eq!(out, whole, "by {length}");
    }
    whole
}

#[test]
fn every_tool_shows_what_is_beside_the_value_and_nothing_of_it() {
    for (tool, printed) in PRINTED {
        let shown = masked(VALUE, printed);
        // Addresses stay, and so does what is beside the value in the first and the last line.
        assert_eq!(shown.lines().count(), printed.lines().count(), "{tool}: {shown}");
        for (line, before) in shown.lines().zip(printed.lines()) {
            assert!(line.contains('●') || line == before, "{tool}: {shown}");
        }
        assert!(shown.contains('●'), "{tool}: {shown}");
        let left: String = shown.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        for part in ["Zq7", "w9m", "5a7137", "5a2d", "132161067", "055132", "9m", "7kP", "0132"] {
            assert!(!left.contains(part), "{tool}: {part} in {shown}");
        }
    }
}

#[test]
fn digits_and_characters_are_masked_in_each_line() {
    let by = |tool: &str| PRINTED.iter().find(|(name, _)| *name == tool).unwrap().1;
    assert_eq!(
        masked(VALUE, by("xxd")),
        "00000000: 783d ●  x=●\n00000010: ●0a c3a4                      ●...\n"
    );
    assert_eq!(
        masked(VALUE, by("hexdump -C")),
        "00000000  78 3d ●  |x=●|\n00000010  ● 0a c3 a4                           |●...|\n00000018\n"
    );
    assert_eq!(masked(VALUE, by("hexdump")), "0000000 3d78 ●\n0000010 ● a4c3                    \n0000018\n");
    assert_eq!(masked(VALUE, by("od -c")), "0000000   x   =●\n0000020●  \\n 303 244\n0000030\n");
    assert_eq!(masked(VALUE, by("od -b")), "0000000 170 075●\n0000020● 012 303 244\n0000030\n");
    assert_eq!(masked(VALUE, by("od")), "0000000 036570 ●\n0000020 ● 122303\n0000030\n");
}

#[test]
fn what_is_like_a_dump_and_is_none_stays() {
    for text in [
        "250af23 a commit\n1234567 deadbeef\n",
        "    indented text, four bytes a column\n",
        "  12   7 words  40 words.txt\n",
        "20260307 12:00:00 Zq7k\n",
        "*\n",
        "",
        " ",
    ] {
        assert_eq!(masked(VALUE, text), text);
    }
    // Columns of numbers that happen to be a value are masked, too.
    assert_eq!(masked("1234", "   1   2   3   4\n"), "●\n");
}

#[test]
fn lines_that_were_left_out_count() {
    let repeated = "abcd".repeat(14) + "XYZ";
    for printed in [
        // `hexdump -C`
        "00000000  61 62 63 64 61 62 63 64  61 62 63 64 61 62 63 64  |abcdabcdabcdabcd|\n*\n\
         00000030  61 62 63 64 61 62 63 64  58 59 5a                 |abcdabcdXYZ|\n0000003b\n",
        // `od -c`
        "0000000   a   b   c   d   a   b   c   d   a   b   c   d   a   b   c   d\n*\n\
         0000060   a   b   c   d   a   b   c   d   X   Y   Z\n0000073\n",
        // `od -A d -c`
        "0000000   a   b   c   d   a   b   c   d   a   b   c   d   a   b   c   d\n*\n\
         0000048   a   b   c   d   a   b   c   d   X   Y   Z\n0000059\n",
    ] {
        let shown = masked(&repeated, printed);
        assert!(!shown.contains("61") && !shown.contains("abcd") && !shown.contains("X   Y"), "{shown}");
    }
    // Beside zeros without end.
    let zeros = "00000000  70 61 24 24 2d 5a 71 37  6b 50 22 77 39 6d 54 5f  |pa$$-Zq7kP\"w9mT_|\n\
                 00000010  32 31 78 00 00 00 00 00  00 00 00 00 00 00 00 00  |21x.............|\n\
                 00000020  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n\
                 ffffffff70  00 00 00 00 00 00 00 70  61 24 24 2d 5a 71 37 6b  |.......pa$$-Zq7k|\n\
                 ffffffff80  50 22 77 39 6d 54 5f 32  31 78                    |P\"w9mT_21x|\nffffffff8a\n";
    assert_eq!(
        masked(VALUE, zeros),
        "00000000  ●  |●|\n00000010  ● 00 00 00 00 00  00 00 00 00 00 00 00 00  |●.............|\n\
         00000020  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n\
         ffffffff70  00 00 00 00 00 00 00 ●  |.......●|\nffffffff80  ●                    |●|\nffffffff8a\n"
    );
}

#[test]
fn other_forms_are_found_in_dumps_and_dumps_among_other_lines() {
    // `printf %s "$VALUE" | base64 | xxd`
    let printed = "before\n00000000: 6347 456b 4a43 3161 6354 6472 5543 4a33  cGEkJC1acTdrUCJ3\n\
                   00000010: 4f57 3155 587a 4978 6541 3d3d 0a         OW1UXzIxeA==.\nafter\n";
    assert_eq!(masked(VALUE, printed), "before\n00000000: ●  ●\n00000010: ● 0a         ●.\nafter\n");
    // The ends of lines of another system; digits in colour.
    let printed = PRINTED[0].1.replace('\n', "\r\n");
    assert_eq!(masked(VALUE, &printed).matches('●').count(), 4);
    let printed = PRINTED[0].1.replace("2424", "\x1b[1;32m2424\x1b[0m");
    assert_eq!(masked(VALUE, &printed).matches('●').count(), 4);
}

#[test]
fn a_dump_that_is_cut_off_shows_no_beginning_of_eight_bytes() {
    let first = PRINTED[0].1.lines().next().unwrap();
    let redactor = Redactor::default();
    assert!(redactor.register("X", VALUE.as_bytes()));
    for text in [first.to_owned(), format!("{first}\n")] {
        let mut stream = redactor.stream();
        let mut out = Vec::new();
        stream.push(text.as_bytes(), &mut |shown| out.extend_from_slice(shown));
        stream.end(&mut |shown| out.extend_from_slice(shown));
        let out = String::from_utf8(out).unwrap().replace("[REDACTED:SECRET_X]", "●");
        assert_eq!(out.trim_end(), "00000000: 783d ●  x=●");
    }
}
