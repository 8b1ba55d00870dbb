//! Values that a job learns while it runs: masked from the moment at which it says so.

use loom_contract::event::Level;
use loom_tests::{RunOutput, TestEnv};

use super::{job, workflow};
use crate::docker::{busybox, in_image};
use crate::{LOOM, env};

const TOKEN: &str = "a-token-of-15-minutes/+\"x\"";
const KEY: &str = "-----BEGIN LEARNT KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END LEARNT KEY-----\n";

/// That the values are nowhere is the law that the harness checks after the run.
fn learning(jobs: &str) -> TestEnv {
    let env = env(&workflow(jobs));
    env.plant_variable("LEARNT", TOKEN);
    env.plant_variable("LEARNT_KEY", KEY);
    env
}

/// What the steps of the first job were warned of.
fn warned(run: &RunOutput, step: &str) -> Vec<String> {
    let events = run.run.events(&format!("jobs/job/user/execution/script/{step}/events.jsonl"));
    let warnings = events.into_iter().filter(|event| event.level == Some(Level::Warn));
    warnings.filter_map(|event| event.message).collect()
}

#[test]
fn a_value_is_masked_in_the_line_after_it_was_written() {
    // With and without secrets of its own.
    for secrets in [&[][..], &["OTHER: {ref: env://SOURCE}"]] {
        let first = [
            "echo \"$LEARNT\" >> \"$LOOM_MASK\"; echo \"now $LEARNT\"; echo \"$LEARNT\" | base64",
            "stat -c %a \"$LOOM_MASK\" \"${LOOM_MASK%/*}\"; echo \"then $LEARNT\"; echo \"$LOOM_MASK\" > where",
            // It takes no end of a line, where nothing is printed before the step ends.
            "printf %s \"$LEARNT_KEY\" | head -n 2 | tail -n 1 | tr -d '\\n' >> \"$LOOM_MASK\"",
            "printf %s \"$LEARNT_KEY\" | head -n 2 | tail -n 1; cat where",
        ];
        let second = "next:\n  stage: later\n  script: ['echo \"later $LEARNT\"; test -e \"$(cat where)\" || echo gone']\n";
        let env = learning(&(job("job", secrets, &first) + second));
        env.plant_variable("SOURCE", "a secret from the beginning");
        let run = env.run(&["--stream"]);
        assert_eq!(run.exit_code, 0, "{}", run.stderr);
        let m = "[REDACTED:MASKED]";
        assert_eq!(run.run.output("job", "01"), [format!("now {m}"), m.to_owned()]);
        assert_eq!(run.run.output("job", "02"), ["600".to_owned(), "700".to_owned(), format!("then {m}")]);
        assert_eq!(run.run.output("job", "04")[0], m);
        assert_eq!(run.run.output("next", "01"), [format!("later {m}"), "gone".to_owned()]);
        assert!(run.stderr.contains(&format!("job | now {m}\n")), "{}", run.stderr);
        assert_eq!(warned(&run, "01"), [""; 0]);
    }
}

#[test]
fn each_job_has_its_own_file() {
    let read = "read -r other < other-file; test \"$other\" != \"$LOOM_MASK\" && echo own";
    let jobs = job("job", &[], &["echo \"$LOOM_MASK\" > other-file"])
        + &format!("next:\n  stage: later\n  script: ['{read}']\n");
    let run = learning(&jobs).run(&[]);
    assert_eq!(run.run.output("next", "01"), ["own"]);
}

#[test]
fn the_command_masks_lines_and_a_whole_key() {
    let steps = [
        &format!("printf 'in pieces\\n%s\\n' \"$LEARNT\" | {LOOM} mask; echo \"$LEARNT; in pieces\""),
        &format!("printf %s \"$LEARNT_KEY\" | {LOOM} mask --whole; printf '<%s>' \"$LEARNT_KEY\"; echo"),
        "printf %s \"$LEARNT_KEY\" | base64 -w0; echo; printf %s \"$LEARNT_KEY\" | xxd -p || :",
    ];
    let run = learning(&job("job", &[], &steps)).run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let m = "[REDACTED:MASKED]";
    assert_eq!(run.run.output("job", "01"), [format!("{m}; {m}")]);
    assert_eq!(run.run.output("job", "02"), [format!("<{m}"), ">".to_owned()]);
    assert_eq!(run.run.output("job", "03")[0], m);
}

#[test]
fn the_command_outside_of_a_job_says_where_it_belongs() {
    let env = learning(&job("job", &[], &["true"]));
    let output = env.loom(&["mask"]).command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(
        said,
        "loom mask: LOOM_MASK is not set, so this is no step of a job\n\
         hint: use it in a `script` that `loom run` runs, as in `get-token | loom mask`\n"
    );
}

#[test]
fn what_cannot_be_masked_is_warned_of() {
    let steps = [
        "printf 'abc\\nxyz\\n' >> \"$LOOM_MASK\"; echo abc",
        "head -c 1100000 /dev/zero >> \"$LOOM_MASK\"; echo done",
    ];
    let run = learning(&job("job", &[], &steps)).run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), ["abc"]);
    assert_eq!(warned(&run, "01"), ["a value in the file of LOOM_MASK is too short to be masked in output"]);
    assert_eq!(
        warned(&run, "02"),
        [
            "more than 1 MiB was written to the file of LOOM_MASK; what came after that is not masked in output"
        ]
    );
}

#[test]
fn a_job_that_replaces_the_file_harms_nobody() {
    for replacement in [
        "mkfifo \"$LOOM_MASK\"",
        "ln -s /dev/zero \"$LOOM_MASK\"",
        "ln -s \"$PWD/tracked\" \"$LOOM_MASK\"",
        "mkdir \"$LOOM_MASK\"",
        "rmdir \"${LOOM_MASK%/*}\"",
    ] {
        let step =
            format!("echo \"$LEARNT\" >> \"$LOOM_MASK\"; rm \"$LOOM_MASK\"; {replacement}; echo \"$LEARNT\"");
        let env = learning(&(job("job", &[], &[&step, "echo next", "ls"])));
        env.write("tracked", "in the repository\n");
        let run = env.run(&[]);
        assert_eq!(run.exit_code, 0, "{replacement}: {}", run.stderr);
        assert_eq!(run.run.output("job", "01"), ["[REDACTED:MASKED]"], "{replacement}");
        assert!(run.run.output("job", "03").contains(&"tracked".to_owned()));
        assert_eq!(std::fs::read_to_string(env.repo().join("tracked")).unwrap(), "in the repository\n");
    }
}

#[test]
fn in_a_container_it_is_the_users_to_write() {
    let Some(image) = busybox() else { return };
    for (user, mount) in [("", ""), ("1000:1000", ""), ("1000:1000", "bind_mount"), ("", "bind_mount")] {
        let image =
            if user.is_empty() { image.clone() } else { format!("{{name: '{image}', user: '{user}'}}") };
        let image = image.trim_matches('\'');
        let step = "echo \"$LOOM_MASK\"; echo $PART-$PART-token >> \"$LOOM_MASK\"; echo $PART-$PART-token";
        let jobs = format!(
            "variables: {{PART: learnt}}\njob: {{stage: ci, script: ['{step}', 'rm -f \"$LOOM_MASK\" || echo kept']}}\n\
             next: {{stage: later, script: ['echo $PART-$PART-token']}}\n"
        );
        let env = if user.is_empty() {
            in_image(image, &jobs)
        } else {
            env(&format!(
                "version: v1\nstages: [ci, later]\ndefault: {{target: linux, image: {image}}}\n{jobs}"
            ))
        };
        let args: &[&str] = if mount.is_empty() { &[] } else { &["--docker-workspace-mount", mount] };
        let run = env.run(args);
        assert_eq!(run.exit_code, 0, "{user} {mount}: {}", run.stderr);
        assert_eq!(run.run.output("job", "01"), ["/run/loom/mask", "[REDACTED:MASKED]"], "{user} {mount}");
        assert!(run.run.output("job", "02").contains(&"kept".to_owned()));
        assert_eq!(run.run.output("next", "01"), ["[REDACTED:MASKED]"]);
    }
}
