//! Descriptions of the same work for others, which a repository may have already.

use std::path::Path;

/// Files, and whose they are.
const FILES: [(&str, &str); 8] = [
    (".gitlab-ci.yml", "GitLab CI"),
    (".circleci/config.yml", "CircleCI"),
    (".travis.yml", "Travis CI"),
    ("azure-pipelines.yml", "Azure Pipelines"),
    ("bitbucket-pipelines.yml", "Bitbucket Pipelines"),
    (".drone.yml", "Drone"),
    (".woodpecker.yml", "Woodpecker"),
    ("Jenkinsfile", "Jenkins"),
];
/// The folder of GitHub's.
const GITHUB: &str = ".github/workflows";

/// What there is below `root`, each in words.
pub(super) fn found(root: &Path) -> Vec<String> {
    let is_there = |path: &&(&str, &str)| root.join(path.0).is_file();
    let mut found: Vec<String> =
        FILES.iter().filter(is_there).map(|(path, whose)| format!("{path} ({whose})")).collect();
    let entries = std::fs::read_dir(root.join(GITHUB)).into_iter().flatten().flatten();
    let is_workflow = |path: &Path| path.extension().is_some_and(|end| end == "yml" || end == "yaml");
    let count = entries.filter(|entry| is_workflow(&entry.path())).count();
    match count {
        0 => {}
        1 => found.push(format!("the workflow in {GITHUB} (GitHub Actions)")),
        _ => found.push(format!("{GITHUB} ({count} workflows of GitHub Actions)")),
    }
    found
}
