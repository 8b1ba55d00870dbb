//! Builds, and what of a folder is sent for them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use fs_err as fs;
use loom_docker::{Build, Builder, ContainerSpec, Error, Logins};
use loom_docker_testimage as testimage;

use crate::support::{stdout, waiting, with_scope};

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn from() -> String {
    format!("FROM {}\n", testimage::busybox().unwrap())
}

fn a_build(root: &Path, tag: &str) -> Build {
    Build { context: root.to_owned(), tags: vec![tag.to_owned()], ..Build::default() }
}

#[tokio::test]
async fn an_image_is_built_from_a_folder_with_arguments_and_a_target() {
    with_scope(async |scope| {
        for (builder, step) in [(Builder::Best, "[first 3/3] RUN"), (Builder::Classic, "Step 5/5 : RUN")] {
            let root = tempfile::tempdir().unwrap();
            // So that no step of an earlier time is taken for it.
            let run = &*scope.owner().run_id;
            let dockerfile =
                "ARG WHO\nENV WHO=$WHO\nCOPY . /src\nRUN echo hello $WHO >/said\nFROM scratch AS other\n";
            let dockerfile = format!("{} AS first\n{dockerfile}", from().trim_end());
            write(root.path(), &[("docker/my.Dockerfile", &dockerfile), ("a/b", run), ("skip", "x")]);
            write(root.path(), &[(".dockerignore", "skip\ndocker\n")]);
            std::os::unix::fs::symlink("/etc/hostname", root.path().join("link")).unwrap();
            let tags = ["loom-test/built:one", "loom-test/built:two"].map(str::to_owned).to_vec();
            let build = Build {
                dockerfile: Some("docker/my.Dockerfile".to_owned()),
                args: vec![("WHO".to_owned(), "world & co".to_owned())],
                target: Some("first".to_owned()),
                builder,
                tags: tags.clone(),
                ..a_build(root.path(), "")
            };
            let mut lines = Vec::new();
            let image =
                scope.build(&build, &Logins::none(), |line| lines.push(line.to_owned())).await.unwrap();
            assert!(lines.iter().any(|line| line.starts_with(step)), "{lines:#?}");
            assert!(image.env.contains(&("WHO".to_owned(), "world & co".to_owned())));
            assert_eq!(scope.docker().image(&tags[1]).await.unwrap().unwrap().id, image.id);
            let spec = ContainerSpec { image: tags[0].clone(), ..waiting() };
            let container = scope.create_container(&spec).await.unwrap();
            container.start().await.unwrap();
            let said = stdout(&container, "cat /said /src/a/b; ls -A /src; readlink /src/link").await;
            assert_eq!(
                said,
                format!("hello world & co\n{run}.dockerignore\na\ndocker\nlink\n/etc/hostname\n")
            );
            scope.remove(&container.resource()).await.unwrap();
            // What is made of an image has its labels: by them, nothing could be told apart.
            assert_eq!(crate::support::labelled(&scope.owner().run_id), [""; 0]);
            for tag in &tags {
                scope.docker().remove_image(tag).await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_step_that_fails_is_named_with_its_output() {
    with_scope(async |scope| {
        let root = tempfile::tempdir().unwrap();
        let (run, copy) = ("RUN echo before; echo why >&2; exit 7", "COPY none /");
        let (from, nowhere) = (from(), "FROM 127.0.0.1:1/none:1\n".to_owned());
        let cases = [
            (Builder::Classic, format!("{from}{run}"), "Step 2/2 : RUN echo before", "code: 7"),
            (Builder::Classic, format!("{from}{copy}"), "Step 2/2 : COPY none /", "none"),
            (Builder::Classic, nowhere.clone(), "Step 1/1 : FROM 127.0.0.1:1/none:1", "refused"),
            (Builder::Best, format!("{from}{run}"), "[2/2] RUN echo before", "exit code: 7"),
            (Builder::Best, format!("{from}{copy}"), "[2/2] COPY none /", "none"),
            (Builder::Best, nowhere, "[internal] load metadata for 127.0.0.1:1/none:1", "refused"),
        ];
        for (builder, dockerfile, step, words) in cases {
            write(root.path(), &[("Dockerfile", &dockerfile)]);
            let mut lines = Vec::new();
            let build = Build { builder, ..a_build(root.path(), "loom-test/bad:1") };
            let built = scope.build(&build, &Logins::none(), |line| lines.push(line.to_owned())).await;
            let error = built.unwrap_err();
            let Error::Build { step: Some(at), words: said, .. } = &error else { panic!("{error:?}") };
            assert!(at.starts_with(step) && said.contains(words), "{error}");
            assert!(at.starts_with("[internal]") || lines.iter().any(|line| line == at), "{lines:?}");
            assert!(
                !dockerfile.contains("why")
                    || lines.iter().any(|line| line.contains("why") && !line.contains("echo")),
                "{lines:?}"
            );
        }
        write(root.path(), &[("Dockerfile", "NONSENSE\n")]);
        let error =
            scope.build(&a_build(root.path(), "loom-test/bad:1"), &Logins::none(), |_| ()).await.unwrap_err();
        assert!(error.to_string().contains("NONSENSE"), "{error}");
        let bad = [
            Build { dockerfile: Some("none".to_owned()), ..a_build(root.path(), "loom-test/bad:1") },
            Build { dockerfile: Some("../x".to_owned()), ..a_build(root.path(), "loom-test/bad:1") },
            Build { tags: Vec::new(), ..a_build(root.path(), "") },
            a_build(root.path(), "not a name"),
        ];
        for build in bad {
            let error = scope.build(&build, &Logins::none(), |_| ()).await.unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_build_ends_when_nobody_waits_for_it() {
    with_scope(async |scope| {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[("Dockerfile", &format!("{}RUN echo begun-4711; sleep 1000\n", from()))]);
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let mut begun = Some(begun);
        let build = a_build(root.path(), "loom-test/long:1");
        let logins = Logins::none();
        let building = scope.build(&build, &logins, |line| {
            if line == "begun-4711"
                && let Some(begun) = begun.take()
            {
                begun.send(()).unwrap();
            }
        });
        tokio::select! {
            built = building => panic!("{built:?}"),
            begun = has_begun => begun.unwrap(),
        }
        for _ in 0..300 {
            let (_, running) = testimage::request(testimage::SOCKET, "GET", "/containers/json", b"").unwrap();
            if !running.contains("begun-4711") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the step still runs");
    })
    .await;
}

#[tokio::test]
async fn one_input_builds_one_image_whatever_the_run() {
    with_scope(async |scope| {
        let root = tempfile::tempdir().unwrap();
        let other = crate::support::scope(scope.docker());
        write(root.path(), &[("Dockerfile", &format!("{}ENV TEXT=one\n", from()))]);
        let mut ids = Vec::new();
        for scope in [&other, &scope] {
            let build = a_build(root.path(), "loom-test/stable:1");
            ids.push(scope.build(&build, &Logins::none(), |_| ()).await.unwrap().id);
        }
        assert_eq!(ids[0], ids[1]);
        scope.docker().remove_image("loom-test/stable:1").await.unwrap();
    })
    .await;
}

const FILES: &[&str] = &[
    "Dockerfile",
    "README.md",
    "README-secret.md",
    "a.txt",
    "a/b.txt",
    "a/c/d.txt",
    "b/a.txt",
    "b/c.md",
    "x+y",
    "src/main.go",
    "src/lib/lib.go",
    "node_modules/m/i.js",
    "pkg/node_modules/n/i.js",
    ".git/config",
    ".env",
    "dir/keep/this",
    "dir/drop",
];

enum Expected {
    Sent(&'static [&'static str]),
    LeftOut(&'static [&'static str]),
}

/// What of `FILES` a build sends is what the command-line client of Docker 28.2.2 sends to a classic builder; the table
/// was taken from it. The `.dockerignore` itself is always sent.
#[test]
fn the_context_is_what_dockers_own_client_sends() {
    use Expected::{LeftOut, Sent};
    let cases = [
        ("", LeftOut(&[])),
        ("*", Sent(&["Dockerfile"])),
        ("*.md\n!README*.md\nREADME-secret.md\n", LeftOut(&["README-secret.md"])),
        ("a\n!a/c\n", LeftOut(&["a/b.txt"])),
        ("*\n!src\n!a.txt\n", Sent(&["Dockerfile", "a.txt", "src/lib/lib.go", "src/main.go"])),
        ("*\n!dir/keep\n", Sent(&["Dockerfile", "dir/keep/this"])),
        ("**/node_modules\n", LeftOut(&["node_modules/m/i.js", "pkg/node_modules/n/i.js"])),
        ("node_modules\n", LeftOut(&["node_modules/m/i.js"])),
        ("*/a.txt\n", LeftOut(&["b/a.txt"])),
        ("**/*.txt\n", LeftOut(&["a.txt", "a/b.txt", "a/c/d.txt", "b/a.txt"])),
        ("**\n!src/lib\n", Sent(&["Dockerfile", "src/lib/lib.go"])),
        ("x+y\n", LeftOut(&["x+y"])),
        (".git\n.env\n", LeftOut(&[".git/config", ".env"])),
        ("dir/**\n!dir/keep/**\n", LeftOut(&["dir/drop"])),
        ("a/**/d.txt\n", LeftOut(&["a/c/d.txt"])),
        ("/a\n", LeftOut(&["a/b.txt", "a/c/d.txt"])),
        ("./b/\n", LeftOut(&["b/a.txt", "b/c.md"])),
        ("Dockerfile\n.dockerignore\n", LeftOut(&[])),
        ("?.txt\n", LeftOut(&["a.txt"])),
        ("[a-b].txt\n", LeftOut(&["a.txt"])),
        ("# comment\n  a  \n", LeftOut(&["a/b.txt", "a/c/d.txt"])),
        ("src/*\n!src/main.go\n", LeftOut(&["src/lib/lib.go"])),
    ];
    for (ignore, expected) in cases {
        let root = tempfile::tempdir().unwrap();
        for file in FILES {
            write(root.path(), &[(file, "x")]);
        }
        write(root.path(), &[(".dockerignore", ignore)]);
        let sent = loom_docker::context_of(&a_build(root.path(), "x")).unwrap();
        let sent: BTreeSet<_> =
            sent.iter().filter_map(|path| path.to_str()).filter(|path| !path.ends_with('/')).collect();
        let mut expected: BTreeSet<_> = match expected {
            Sent(files) => files.iter().copied().collect(),
            LeftOut(files) => FILES.iter().copied().filter(|file| !files.contains(file)).collect(),
        };
        expected.insert(".dockerignore");
        assert_eq!(sent, expected, "{ignore:?}");
    }
}

/// BuildKit looks into folders for what `!**/x` keeps; the classic client does not, against its own documentation.
#[test]
fn what_is_kept_anywhere_is_found_in_ignored_folders() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("Dockerfile", ""), ("src/a/x.go", ""), ("src/a/x.c", ""), ("other/y", "")]);
    write(root.path(), &[(".dockerignore", "*\n!**/*.go")]);
    let mut sent = loom_docker::context_of(&a_build(root.path(), "x")).unwrap();
    sent.sort();
    assert_eq!(
        sent,
        [".dockerignore", "Dockerfile", "src/", "src/a/", "src/a/x.go"].map(std::path::PathBuf::from)
    );
    write(root.path(), &[("Dockerfile.dockerignore", "src\nother\n")]);
    let sent = loom_docker::context_of(&a_build(root.path(), "x")).unwrap();
    assert!(!sent.contains(&"src/a/x.go".into()) && sent.contains(&".dockerignore".into()), "{sent:?}");
}
