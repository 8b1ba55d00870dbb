//! Tools whose projects all look alike, as a table: by which files a project is known, and what is run there.

use super::{Cache, Check, Kind, Offer, Repo};

/// A tool, and what it can be asked to do.
struct Stack {
    /// Its name, and that of its program.
    tool: &'static str,
    /// Files of which one is there where it is used; the first of them says more.
    known_by: &'static [&'static str],
    /// A program of the repository that is to be used instead: its name in the project's folder.
    wrapper: Option<&'static str>,
    /// Of these files, those that are there make the key of its cache.
    key: &'static [&'static str],
    /// What its cache keeps.
    kept: &'static [&'static str],
    jobs: &'static [Row],
}

struct Row {
    kind: Kind,
    name: Option<&'static str>,
    /// Words of which one stands in the file that the stack is known by; none for any file.
    says: &'static [&'static str],
    /// `{}` stands for the program.
    script: &'static [&'static str],
    /// `{}` stands for the file that it is known by.
    because: &'static str,
    /// Whether it has the stack's cache.
    is_cached: bool,
}

const GRADLE_FILES: &[&str] = &["settings.gradle.kts", "settings.gradle", "build.gradle.kts", "build.gradle"];

const STACKS: [Stack; 6] = [
    Stack {
        tool: "mvn",
        known_by: &["pom.xml"],
        wrapper: Some("mvnw"),
        key: &["pom.xml"],
        kept: &["target", "*/target"],
        jobs: &[Row {
            kind: Kind::Test,
            name: None,
            says: &[],
            script: &["{} --batch-mode --no-transfer-progress verify"],
            because: "What {} builds and tests.",
            is_cached: true,
        }],
    },
    Stack {
        tool: "gradle",
        known_by: GRADLE_FILES,
        wrapper: Some("gradlew"),
        key: &[
            "gradle.lockfile",
            "gradle/libs.versions.toml",
            "gradle/wrapper/gradle-wrapper.properties",
            "settings.gradle.kts",
            "settings.gradle",
            "build.gradle.kts",
            "build.gradle",
        ],
        kept: &[".gradle", "build", "*/build"],
        jobs: &[Row {
            kind: Kind::Test,
            name: None,
            says: &[],
            // A daemon would not outlive the job.
            script: &["{} --no-daemon build"],
            because: "What {} builds and tests.",
            is_cached: true,
        }],
    },
    Stack {
        tool: "cmake",
        known_by: &["CMakeLists.txt"],
        wrapper: None,
        key: &["CMakeLists.txt"],
        kept: &["build"],
        jobs: &[
            Row {
                kind: Kind::Build,
                name: None,
                says: &[],
                script: &["{} -S . -B build", "{} --build build --parallel $(nproc)"],
                because: "What {} builds, in the folder `build`.",
                is_cached: true,
            },
            Row {
                kind: Kind::Test,
                name: None,
                says: &["enable_testing", "include(CTest", "include (CTest"],
                script: &["ctest --test-dir build --output-on-failure"],
                because: "The tests that {} registers.",
                is_cached: false,
            },
        ],
    },
    Stack {
        tool: "meson",
        known_by: &["meson.build"],
        wrapper: None,
        key: &["meson.build"],
        kept: &["build"],
        jobs: &[
            Row {
                kind: Kind::Build,
                name: None,
                says: &[],
                script: &["{} setup build", "{} compile -C build"],
                because: "What {} builds, in the folder `build`.",
                is_cached: true,
            },
            Row {
                kind: Kind::Test,
                name: None,
                says: &["test("],
                script: &["{} test -C build"],
                because: "The tests that {} registers.",
                is_cached: false,
            },
        ],
    },
    Stack {
        tool: "bazel",
        known_by: &["MODULE.bazel", "WORKSPACE.bazel", "WORKSPACE"],
        wrapper: None,
        key: &[],
        kept: &[],
        jobs: &[Row {
            kind: Kind::Test,
            name: None,
            says: &[],
            // A server would not outlive the job.
            script: &["{} --batch build //...", "{} --batch test //... || test $? = 4"],
            because: "What {} is the root of. Exit code 4 of the second step says that there are no tests.",
            is_cached: false,
        }],
    },
    Stack {
        tool: "pre-commit",
        known_by: &[".pre-commit-config.yaml"],
        wrapper: None,
        key: &[],
        kept: &[],
        jobs: &[Row {
            kind: Kind::Check,
            name: Some("pre-commit"),
            says: &[],
            script: &["{} run --all-files --show-diff-on-failure"],
            because: "The hooks of {}.",
            is_cached: false,
        }],
    },
];

/// What the tools of the table offer in `repo`.
pub(super) fn look(repo: &Repo) -> impl Iterator<Item = Offer> {
    STACKS.iter().filter_map(|stack| {
        let file = repo.first_name(stack.known_by)?;
        let text = repo.text(file).unwrap_or_default();
        let program = match stack.wrapper {
            Some(wrapper) if repo.has(wrapper) => format!("./{wrapper}"),
            _ => stack.tool.to_owned(),
        };
        let rows = stack
            .jobs
            .iter()
            .filter(|row| row.says.is_empty() || row.says.iter().any(|words| text.contains(words)));
        let check = |row: &Row| {
            let script: Vec<String> = row.script.iter().map(|step| step.replace("{}", &program)).collect();
            let mut check = Check::new(row.kind, &script, row.because.replace("{}", file));
            check.name = row.name;
            let cache = Cache::new(stack.tool, &repo.those(stack.key), stack.kept).or_older();
            check.cache = row.is_cached.then_some(cache);
            check
        };
        super::offer(stack.tool, rows.map(check).collect())
    })
}
