//! Values as tools printed them: what stands here was copied from their output. Coreutils 9.1, xxd 2022-01-14,
//! jq 1.6, bash 5.2, dash 0.5.12, Python 3.11 (with PyYAML), Node.js 20, Go 1.26, curl 7.88.

use crate::redact::Redactor;

/// What needs quotes in some way everywhere.
const QUOTES: &str = r#"it's $ecret "q" \b &<x>! a/b~c*(d)"#;
const LINES: &str = "line one's $1\nline \"two\"\nab\n";
const UNICODE: &str = "pässwörd€😀";
const CONTROL: &str = "ab\tcd\x1bef\x01gh\x7f";
const APOSTROPHES: &str = "''a''b'";

/// `printed` with `value` masked, where a mask is `●`.
fn masked(value: impl AsRef<[u8]>, printed: &str) -> String {
    let redactor = Redactor::default();
    assert!(redactor.register("X", value.as_ref()));
    redactor.text(printed).replace("[REDACTED:SECRET_X]", "●")
}

#[track_caller]
fn check<const N: usize>(value: &str, printed: [(&str, &str); N]) {
    for (printed, expected) in printed {
        assert_eq!(masked(value, printed), expected, "of {printed}");
    }
}

#[test]
fn as_it_is() {
    check(QUOTES, [(&format!("<{QUOTES}>"), "<●>")]);
    check("hunt2", [("hunt2hunt2 hunt hunt22", "● hunt ●2")]);
    check("four", [("fourth", "●th")]);
    // Of bytes that are no text, what a text shows of them, if that is enough.
    assert_eq!(masked(b"\x00\xff\xfe\x01", "\0\u{fffd}\u{fffd}\x01"), "\0\u{fffd}\u{fffd}\x01");
    assert_eq!(masked(b"ab\xffcd\xe2\x82", "<ab\u{fffd}cd\u{fffd}>"), "<●>");
    // Of bytes that are no text, one that is a part of a character.
    assert_eq!(masked(b"\xbcab\x00", "üab\0"), "\u{fffd}●");
}

#[test]
fn without_its_escapes() {
    // A key of a service account.
    const KEY: &str = r#"{"key": "-----BEGIN-----\nMIIE\/vQIB\nADANBg==\nauf\u20ac\ud83d\ude00w\"x\ty"}"#;
    check(
        KEY,
        [
            // `echo` of dash, `printf %b`
            ("{\"key\": \"-----BEGIN-----\nMIIE\\/vQIB\nADANBg==\nauf\\u20ac\\ud83d\\ude00w\\\"x\ty\"}", "●"),
            // `jq -r .key`
            ("-----BEGIN-----\nMIIE/vQIB\nADANBg==\n", "●\n●\n●\n"),
            // A reader of JSON that does not decode
            ("{\"key\": \"-----BEGIN-----\nMIIE/vQIB\nADANBg==\nauf€😀w\"x\ty\"}", "●"),
            // `sed 's/\\n/\n/g'`
            ("MIIE\\/vQIB\nADANBg==", "●\n●"),
        ],
    );
    // `printf %b`, and its base64
    check(r"a\x4a\0112\112b\\c", [("aJJJb\\c", "●"), ("YUpKSmJcYw==", "●")]);
    for odd in [r"four\", r"\u12", r"\ud800\u0041 and more", r"\x", r"\0", r"\777\"] {
        check(&format!("{odd}+more"), [(&format!("{odd}+more"), "●")]);
        check(&format!("more+{odd}"), [(&format!("more+{odd}"), "●")]);
    }
}

#[test]
fn quoted_by_gnu_programs() {
    // `ls --quoting-style=shell-escape`, in the locale C and in C.UTF-8
    check("pässwörd€'x", [(r"'p'$'\303\244''ssw'$'\303\266''rd'$'\342\202\254'\''x'", "'●'")]);
    check(CONTROL, [(r"'ab'$'\t''cd'$'\033''ef'$'\001''gh'$'\177'", "'●")]);
    check(
        "a\nb\x01\x02cä",
        [(r"'a'$'\n''b'$'\001\002''cä'", "'●'"), (r"'a'$'\n''b'$'\001\002''c'$'\303\244'", "'●")],
    );
}

#[test]
fn base64() {
    check(
        QUOTES,
        [
            ("aXQncyAkZWNyZXQgInEiIFxiICY8eD4hIGEvYn5jKihkKQ==", "●"),
            // `echo "$SECRET" | base64`
            ("aXQncyAkZWNyZXQgInEiIFxiICY8eD4hIGEvYn5jKihkKQo=", "●"),
            // After `user:`, and between `me:` and `@host`.
            ("dXNlcjppdCdzICRlY3JldCAicSIgXGIgJjx4PiEgYS9ifmMqKGQp", "dXNlcjp●"),
            ("bWU6aXQncyAkZWNyZXQgInEiIFxiICY8eD4hIGEvYn5jKihkKUBob3N0", "bWU6●UBob3N0"),
            // `base64 -w 10`
            ("aXQncyAkZW\nNyZXQgInEi\nIFxiICY8eD\n4hIGEvYn5j\nKihkKQ==\n", "●\n"),
        ],
    );
    check(
        UNICODE,
        [
            ("cMOkc3N3w7ZyZOKCrPCfmIA=", "●"),
            ("cMOkc3N3w7ZyZOKCrPCfmIAK", "●"),
            ("dXNlcjpww6Rzc3fDtnJk4oKs8J+YgA==", "dXNlcjp●A=="),
            ("dXNlcjpww6Rzc3fDtnJk4oKs8J-YgA", "dXNlcjp●A"),
            ("cMOkc3N3w7\r\nZyZOKCrPCf\r\nmIA=\r\n", "●\r\n"),
        ],
    );
    check(LINES, [("bGluZSBvbm\nUncyAkMQps\naW5lICJ0d2\n8iCmFiCg==\n", "●\n")]);
    // The ends that are shared with neighbours stay; between them there are at least four characters.
    check(
        "four",
        [
            ("Zm91cg==", "●"),
            ("Zm91cg", "●"),
            ("eGZvdXJ4", "eG●J4"),
            ("eHhmb3VyeHg=", "eHh●eHg="),
            ("Zm91cgo=", "●"),
        ],
    );
}

#[test]
fn base64_of_json_and_of_base64() {
    // `jq -cn --arg p "$SECRET" '{password: $p}' | base64 -w0`
    check(
        QUOTES,
        [
            (
                "eyJwYXNzd29yZCI6Iml0J3MgJGVjcmV0IFwicVwiIFxcYiAmPHg+ISBhL2J+YyooZCkifQo=",
                "eyJwYXNzd29yZCI6Im●kifQo=",
            ),
            // Go's `json.Marshal`, after which `base64.URLEncoding`
            (
                "eyJwIjoiaXQncyAkZWNyZXQgXCJxXCIgXFxiIFx1MDAyNlx1MDAzY3hcdTAwM2UhIGEvYn5jKihkKSJ9",
                "eyJwIjoi●SJ9",
            ),
        ],
    );
    // `python3 -c 'json.dumps'`
    check(UNICODE, [("eyJwIjogInBcdTAwZTRzc3dcdTAwZjZyZFx1MjBhY1x1ZDgzZFx1ZGUwMCJ9", "eyJwIjogIn●CJ9")]);
    // `printf %s "$SECRET" | base64 | base64`, of a short and a long value
    check("s3cret-pass", [("Y3pOamNtVjBMWEJoYzNNPQo=", "●")]);
    check(QUOTES, [("YVhRbmN5QWtaV055WlhRZ0luRWlJRnhpSUNZOGVENGhJR0V2WW41aktpaGtLUT09Cg==", "●")]);
    let long = "0123456789".repeat(12);
    let printed = "TURFeU16UTFOamM0T1RBeE1qTTBOVFkzT0Rrd01USXpORFUyTnpnNU1ERXlNelExTmpjNE9UQXhN\n\
                   ak0wTlRZM09Ea3dNVEl6TkRVMgpOemc1TURFeU16UTFOamM0T1RBeE1qTTBOVFkzT0Rrd01USXpO\n\
                   RFUyTnpnNU1ERXlNelExTmpjNE9UQXhNak0wTlRZM09Ea3dNVEl6Ck5EVTJOemc1Cg==\n";
    assert_eq!(masked(&long, printed), "●\n");
    // Docker's login in a Kubernetes secret: base64 of `{"auth":"<base64 of ann:s3cret-pass>"}`
    check("s3cret-pass", [("eyJhdXRoIjoiWVc1dU9uTXpZM0psZEMxd1lYTnoifQ==", "eyJhdXRoIjoiWVc1dU9u●oifQ==")]);
}

#[test]
fn texts_of_a_json_document_that_are_secrets() {
    const ACCOUNT: &str = r#"{"type": "service_account", "project_id": "my-project-12",
        "private_key_id": "0123456789abcdef0123", "private_key": "-----BEGIN X KEY-----\nMIIEvQ/IBADANBg==\n-----END X KEY-----\n",
        "client_email": "me@my-project-12.iam.example", "client_id": "123456789012345678901",
        "auth_uri": "https://accounts.example/o/oauth2/auth", "token_type": "password",
        "db": {"dsn": "postgres://app:pw-of-app@db/app", "userPassword": "hunter-two", "users": [{"API-KEY": "k-e-y-s-1"}]},
        "config.json": "{\"auths\": {\"ghcr.example\": {\"auth\": \"YW5uOnMzY3JldA==\"}}}",
        "hook": "https://chat.example/hooks/T012ABCDEF345678", "short": {"token": "1234567"}}"#;
    check(
        ACCOUNT,
        [
            ("-----BEGIN X KEY-----\nMIIEvQ/IBADANBg==\n-----END X KEY-----\n", "●\n"),
            // `jq '.private_key | @base64'`
            ("LS0tLS1CRUdJTiBYIEtFWS0tLS0tCk1JSUV2US9JQkFEQU5CZz09Ci0tLS0tRU5EIFggS0VZLS0tLS0K", "●"),
            ("<0123456789abcdef0123>", "<●>"),
            ("postgres://app:pw-of-app@db/app", "●"),
            ("hunter-two k-e-y-s-1 aHVudGVyLXR3bw==", "● ● ●"),
            ("YW5uOnMzY3JldA==", "●"),
            ("https://chat.example/hooks/T012ABCDEF345678", "●"),
        ],
    );
    for innocent in [
        "service_account",
        "my-project-12",
        "me@my-project-12.iam.example",
        "123456789012345678901",
        "https://accounts.example/o/oauth2/auth",
        "password",
        "1234567",
        "ghcr.example",
    ] {
        check(ACCOUNT, [(innocent, innocent)]);
    }
    check(
        r#"["no-secret", {"a": ["t0ken-of-sixteen", "abcdef0123456789"]}]"#,
        [("no-secret t0ken-of-sixteen", "no-secret t0ken-of-sixteen"), ("abcdef0123456789", "●")],
    );
    // Not too many of them, and no document in a document in a document without end.
    let many: Vec<String> = (0..100).map(|n| format!("\"secret value {n}\"")).collect();
    let many = format!("{{\"token\": [{}]}}", many.join(","));
    assert_eq!(super::fields::of(many.as_bytes()).len(), 64);
    let nested = (0..9).fold(r#"{"token": "innermost"}"#.to_owned(), |inner, _| {
        serde_json::json!({ "token": inner }).to_string()
    });
    assert!(super::fields::of(nested.as_bytes()).len() < 9);
    assert!(super::fields::of(b"{\"token\": \"12345678\"").is_empty(), "it is no JSON");
}

#[test]
fn hexadecimal() {
    check(
        QUOTES,
        [
            ("697427732024656372657420227122205c6220263c783e2120612f627e63\n2a286429\n", "●\n"),
            ("697427732024656372657420227122205C6220263C783E2120612F627E63\r\n2A286429\r\n", "●\r\n"),
            // `od -An -tx1`
            (
                " 69 74 27 73 20 24 65 63 72 65 74 20 22 71 22 20\n 5c 62 20 26 3c 78 3e 21 20 61 2f 62 7e 63 2a 28\n 64 29\n",
                " ●\n",
            ),
        ],
    );
    check("four", [("66:6F:75:72", "●"), ("x666f7572x", "x●x")]);
}

#[test]
fn percent() {
    check(
        QUOTES,
        [
            ("it%27s%20%24ecret%20%22q%22%20%5Cb%20%26%3Cx%3E%21%20a/b~c%2A%28d%29", "●"),
            ("it%27s%20%24ecret%20%22q%22%20%5Cb%20%26%3Cx%3E%21%20a%2Fb~c%2A%28d%29", "●"),
            ("it%27s+%24ecret+%22q%22+%5Cb+%26%3Cx%3E%21+a%2Fb~c%2A%28d%29", "●"),
            // encodeURIComponent, encodeURI, URLSearchParams, a URL's password.
            ("it's%20%24ecret%20%22q%22%20%5Cb%20%26%3Cx%3E!%20a%2Fb~c*(d)", "●"),
            ("it's%20$ecret%20%22q%22%20%5Cb%20&%3Cx%3E!%20a/b~c*(d)", "●"),
            ("a=it%27s+%24ecret+%22q%22+%5Cb+%26%3Cx%3E%21+a%2Fb%7Ec*%28d%29", "a=●"),
            ("http://u:it's%20$ecret%20%22q%22%20%5Cb%20&%3Cx%3E!%20a%2Fb~c*(d)@h/", "http://u:●@h/"),
            // Go's PathEscape.
            ("it%27s%20$ecret%20%22q%22%20%5Cb%20&%3Cx%3E%21%20a%2Fb~c%2A%28d%29", "●"),
            ("?x=it%27s+%24ecret+%22q%22+%5cb+%26%3cx%3e%21+a%2fb~c%2a%28d%29", "?x=●"),
        ],
    );
    check(
        UNICODE,
        [("p%C3%A4ssw%C3%B6rd%E2%82%AC%F0%9F%98%80", "●"), ("p%c3%a4ssw%c3%b6rd%e2%82%ac%f0%9f%98%80", "●")],
    );
    check(LINES, [("line%20one%27s%20%241%0Aline%20%22two%22%0Aab%0A", "●")]);
    // `xxd -p | sed 's/../%&/g'`
    check("four", [("%66%6f%75%72", "●")]);
}

#[test]
fn json() {
    check(
        QUOTES,
        [
            (r#"{"a":"it's $ecret \"q\" \\b &<x>! a/b~c*(d)"}"#, r#"{"a":"●"}"#),
            (r#""it's $ecret \"q\" \\b \u0026\u003cx\u003e! a/b~c*(d)""#, r#""●""#),
            (r#""it's $ecret \"q\" \\b &<x>! a\/b~c*(d)""#, r#""●""#),
            // jq '. | tojson'
            (r#""{\"a\":\"it's $ecret \\\"q\\\" \\\\b &<x>! a/b~c*(d)\"}""#, r#""{\"a\":\"●\"}""#),
        ],
    );
    // Python's `json.dumps(json.dumps(…))`; `jq -a tojson`, where only the outer text is ASCII
    check(
        &format!("{UNICODE}\"x"),
        [
            (r#""\"p\\u00e4ssw\\u00f6rd\\u20ac\\ud83d\\ude00\\\"x\"""#, r#""\"●\"""#),
            (r#""\"p\u00e4ssw\u00f6rd\u20ac\ud83d\ude00\\\"x\"""#, r#""\"●\"""#),
        ],
    );
    check(UNICODE, [(r#""p\u00e4ssw\u00f6rd\u20ac\ud83d\ude00""#, r#""●""#), (r#""pässwörd€😀""#, r#""●""#)]);
    check(
        CONTROL,
        [(r#""ab\tcd\u001bef\u0001gh\u007f""#, r#""●""#), ("\"ab\\tcd\\u001bef\\u0001gh\x7f\"", r#""●""#)],
    );
    check(LINES, [(r#""line one's $1\nline \"two\"\nab\n""#, r#""●""#)]);
}

#[test]
fn bash() {
    check(
        QUOTES,
        [
            // printf %q, ${x@Q}, declare -p
            (r#"it\'s\ \$ecret\ \"q\"\ \\b\ \&\<x\>\!\ a/b~c\*\(d\)"#, "●"),
            (r#"'it'\''s $ecret "q" \b &<x>! a/b~c*(d)'"#, "'●'"),
            (r#"declare -x x="it's \$ecret \"q\" \\b &<x>! a/b~c*(d)""#, r#"declare -x x="●""#),
            // set -x
            (r#"+ y='a it'\''s $ecret "q" \b &<x>! a/b~c*(d) b'"#, "+ y='a ● b'"),
            (
                r#"+ [[ b == \i\t\'\s\ \$\e\c\r\e\t\ \"\q\"\ \\\b\ \&\<\x\>\!\ \a\/\b\~\c\*\(\d\) ]]"#,
                "+ [[ b == ● ]]",
            ),
            (r#"+ [[ b =~ it's \$ecret "q" \\b &<x>! a/b~c\*\(d\) ]]"#, "+ [[ b =~ ● ]]"),
        ],
    );
    check(
        LINES,
        [
            (r#"$'line one\'s $1\nline "two"\nab\n'"#, "$'●'"),
            ("+ : 'line one'\\''s $1\nline \"two\"\nab\n'\n", "+ : '●\n'\n"),
        ],
    );
    check(
        UNICODE,
        [
            (r"+ : $'p\303\244ssw\303\266rd\342\202\254\360\237\230\200'", "+ : $'●'"),
            (r"+ [[ b == \p\ä\s\s\w\ö\r\d\€\😀 ]]", "+ [[ b == ● ]]"),
        ],
    );
    check(CONTROL, [(r"$'ab\tcd\Eef\001gh\177'", "$'●'")]);
    check(APOSTROPHES, [(r"\'\'a\'\'b\'", "●"), (r"+ : ''\'''\''a'\'''\''b'\'''", "+ : '●'")]);
    check("~#~x", [(r"\~#~x", r"\●")]);
}

#[test]
fn dash_and_python_shells() {
    check(
        QUOTES,
        [
            (r#"export x='it'"'"'s $ecret "q" \b &<x>! a/b~c*(d)'"#, "export x='●'"),
            // set -x
            (r#"+ : it's $ecret "q" \b &<x>! a/b~c*(d)"#, "+ : ●"),
        ],
    );
    check(LINES, [("+ : line one's $1\nline \"two\"\nab\n\n", "+ : ●\n\n")]);
    check(
        APOSTROPHES,
        [
            (r#"x=''"''"'a'"''"'b'"'""#, "x='●"),
            // shlex.quote
            (r#"''"'"''"'"'a'"'"''"'"'b'"'"''"#, "'●'"),
        ],
    );
}

#[test]
fn string_literals() {
    check(QUOTES, [(r#"'it\'s $ecret "q" \\b &<x>! a/b~c*(d)'"#, "'●'")]);
    check(
        LINES,
        [(r#"'line one\'s $1\nline "two"\nab\n'"#, "'●'"), (r#"`line one's $1\nline "two"\nab\n`"#, "`●`")],
    );
    check(
        UNICODE,
        [
            (r"b'p\xc3\xa4ssw\xc3\xb6rd\xe2\x82\xac\xf0\x9f\x98\x80'", "b'●'"),
            (r#""p\u00e4ssw\u00f6rd\u20ac\U0001f600""#, r#""●""#),
            (r#""p\xE4ssw\xF6rd\u20AC\U0001F600""#, r#""●""#),
            // Python's `ascii`
            (r"'p\xe4ssw\xf6rd\u20ac\U0001f600'", "'●'"),
        ],
    );
    check("ä'b\n\x01", [(r#""\xe4'b\n\x01""#, r#""●""#), (r#"'\xe4\'b\n\x01"'"#, r#"'●"'"#)]);
    check(CONTROL, [(r"'ab\tcd\x1bef\x01gh\x7f'", "'●'"), (r#""ab\tcd\eef\x01gh\x7F""#, r#""●""#)]);
    check(APOSTROPHES, [("'''''a''''b'''", "'●'")]);
}

#[test]
fn databases_and_tables() {
    check(
        QUOTES,
        [
            // Python's `csv`, jq's `@csv`, names in SQL
            (r#"1,"it's $ecret ""q"" \b &<x>! a/b~c*(d)",2"#, r#"1,"●",2"#),
            // PHP's `addslashes`, `mysql_real_escape_string`
            (r#"'it\'s $ecret \"q\" \\b &<x>! a/b~c*(d)'"#, "'●'"),
            // MySQL's `QUOTE`
            (r#"'it\'s $ecret "q" \\b &<x>! a/b~c*(d)'"#, "'●'"),
            // `mysql --batch`, `COPY`
            (r#"it's $ecret "q" \\b &<x>! a/b~c*(d)"#, "●"),
        ],
    );
    check(
        LINES,
        [
            (r#"'line one\'s $1\nline \"two\"\nab\n'"#, "'●'"),
            ("'line one\\'s $1\nline \\\"two\\\"\nab\n'", "'●\n'"),
            ("\"line one's $1\nline \"\"two\"\"\nab\n\"", "\"●\n\""),
            (r#"line one's $1\nline "two"\nab\n"#, "●"),
        ],
    );
    check("a\0b\x1ac\td", [("a\\0b\x1ac\td", "●"), ("a\\0b\\Zc\td", "●"), ("a\\0b\x1ac\\td", "●")]);
}

#[test]
fn markup() {
    check(
        QUOTES,
        [
            (r#"<a>it's $ecret "q" \b &amp;&lt;x&gt;! a/b~c*(d)</a>"#, "<a>●</a>"),
            (r#"<a x="it's $ecret &quot;q&quot; \b &amp;&lt;x&gt;! a/b~c*(d)"/>"#, r#"<a x="●"/>"#),
            ("it&apos;s $ecret &quot;q&quot; \\b &amp;&lt;x&gt;! a/b~c*(d)", "●"),
            ("it&#x27;s $ecret &quot;q&quot; \\b &amp;&lt;x&gt;! a/b~c*(d)", "●"),
            ("it&#39;s $ecret &quot;q&quot; \\b &amp;&lt;x&gt;! a/b~c*(d)", "●"),
            ("it&#39;s $ecret &#34;q&#34; \\b &amp;&lt;x&gt;! a/b~c*(d)", "●"),
        ],
    );
    check(
        LINES,
        [
            (r#"<a x="line one's $1&#10;line &quot;two&quot;&#10;ab&#10;"/>"#, r#"<a x="●"/>"#),
            ("line one&#39;s $1&#xA;line &#34;two&#34;&#xA;ab&#xA;", "●"),
        ],
    );
    check(UNICODE, [(r#"<a x="p&#228;ssw&#246;rd&#8364;&#128512;">"#, r#"<a x="●">"#)]);
}

#[test]
fn lines_of_a_value_by_themselves() {
    check(LINES, [("1: line one's $1\n2: line \"two\"\n3: ab\n", "1: ●\n2: ●\n3: ab\n")]);
    check(LINES, [("line one's $1\r\nline \"two\"\r\nab\r\n", "●\r\n")]);
    check("line one\r\nline two\r\n", [("line one\nline two\n", "●\n"), ("x line two", "x ●")]);
    // Quoted for a shell, in JSON: also line by line.
    check(LINES, [(r"'line one'\''s $1'", "'●'"), (r#""line \"two\"""#, r#""●""#)]);
    // White space around a line is not looked for, but a line of less than eight bytes without it is.
    check(
        "{\n    \"key\": \"a\",\n    short\n\t12345678\n        }\n}",
        [
            ("\"key\": \"a\",", "●"),
            ("    short|short", "●|short"),
            ("<12345678>", "<●>"),
            ("        }\n{}", "        }\n{}"),
        ],
    );
}

#[test]
fn a_key_in_pem() {
    let key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBjKVqNHtJ8Gxm1KnYD2RZJ6zIYVd3VF0bIzSg0MpLfRoAoGCCqGSM49\nAwEHoUQDQgAEc0y8Tqg7XJt+kq/5cZ8mWJ2l5H0o1rUQ3Z0yIhXn9eFzRk2w5gNq\nT4v8b6J+/AbCdEf==\n-----END EC PRIVATE KEY-----\n";
    assert_eq!(masked(key, key), "●\n");
    assert_eq!(masked(key, &key.replace('\n', "\r\n")), "●\r\n");
    assert_eq!(masked(key, &key.replace('\n', "\\n")), "●");
    assert_eq!(masked(key, &key.replace('\n', " ")), "● ● ● ● ● ");
    assert_eq!(masked(key, &key.replace('\n', "\n  ")), "●\n  ●\n  ●\n  ●\n  ●\n  ");
}

#[test]
fn of_a_very_long_value_few_forms_are_made() {
    let value = "%'\"$ ".repeat(64 * 1024 / 5 + 1);
    let size: usize = super::of(value.as_bytes()).iter().map(|form| form.bytes.len()).sum();
    assert!(size < 25 * value.len(), "{size}");
}

#[test]
fn what_is_too_short_is_refused() {
    let redactor = Redactor::default();
    for value in ["", "abc", "abc\n", "\r\nabc\r\n", "\n\n\n\n\n"] {
        assert!(!redactor.register("X", value.as_bytes()), "{value:?}");
    }
    assert!(redactor.is_empty());
    assert!(redactor.register("X", b"abcd"));
    assert!(!redactor.is_empty());
}
