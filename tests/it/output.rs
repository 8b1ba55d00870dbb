//! More output than may be recorded.

use fs_err as fs;
use loom_contract::event::{EventLine, EventType};
use loom_contract::summary::StepSummary;
use loom_tests::{RunOutput, TestEnv};

use crate::{docker, env, env_of_steps};

fn limited(env: TestEnv, most: u64) -> TestEnv {
    env.write(".loom/config.yml", &format!("runtime:\n  outputMaxBytes: {most}\n"));
    env
}

/// What the step `step` of the job `job` counts: lines and bytes.
fn counts(run: &RunOutput, step: &str) -> (u64, u64) {
    let summary: StepSummary =
        run.run.document(&format!("jobs/job/user/execution/script/{step}/summary.json"));
    (summary.output_lines, summary.output_bytes)
}

/// What its record says that is left out: bytes and lines.
fn left_out(run: &RunOutput, step: &str) -> Option<(u64, u64)> {
    let events = run.run.events(&format!("jobs/job/user/execution/script/{step}/events.jsonl"));
    let said: Vec<&EventLine> = events.iter().filter(|event| event.kind == EventType::Message).collect();
    assert!(said.len() <= 1, "{said:?}");
    let data = said.first()?.data.as_ref()?;
    data["left_out_bytes"].as_u64().zip(data["left_out_lines"].as_u64())
}

#[test]
fn at_the_limit_everything_is_recorded_and_one_line_beyond_it_not() {
    let steps = ["yes | head -c 1000", "yes | head -c 1002", "yes | head -c 1003"];
    let run = limited(env_of_steps(&steps), 1000).run(&[]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), ["y"; 500]);
    assert_eq!((counts(&run, "01"), left_out(&run, "01")), ((500, 1000), None));
    assert_eq!(run.run.output("job", "02"), ["y"; 500]);
    assert_eq!((counts(&run, "02"), left_out(&run, "02")), ((501, 1002), Some((2, 1))));
    // The last line has no end.
    assert_eq!((counts(&run, "03"), left_out(&run, "03")), ((502, 1003), Some((4, 2))));
    let told: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(told.len(), 2, "{}", run.stderr);
    assert!(
        told[0].starts_with("warning: job | 2 bytes of output (1 line) are left out of the record"),
        "{told:?}"
    );
    assert!(told[1].contains("4 bytes of output (2 lines)") && told[1].contains("runtime.outputMaxBytes"));
}

#[test]
fn beginning_and_end_are_recorded_and_everything_is_shown() {
    let env = limited(env_of_steps(&["seq 1 100000; seq 1 100000; echo end"]), 20_000);
    let run = env.run(&["--stream"]);
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let recorded = run.run.output("job", "01");
    let is_there = |line: &str| recorded.iter().any(|recorded| recorded == line);
    assert!(recorded[0] == "1" && is_there("end") && is_there("100000") && !is_there("50000"));
    let numbers: u64 = (1..=100_000u64).map(|number| number.to_string().len() as u64 + 1).sum();
    assert_eq!(counts(&run, "01"), (200_001, 2 * numbers + 4));
    let bytes: u64 = recorded.iter().map(|line| line.len() as u64 + 1).sum();
    let (left_bytes, left_lines) = left_out(&run, "01").unwrap();
    assert_eq!((bytes + left_bytes, recorded.len() as u64 + left_lines), (2 * numbers + 4, 200_001));
    assert!((19_990..=20_000).contains(&bytes), "{bytes}");
    let shown = run.stderr.lines().filter(|line| line.starts_with("job | ")).count();
    assert_eq!(shown, 200_001, "each line once");

    let run = limited(env_of_steps(&["seq 1 100000"]), 0).run(&[]);
    assert_eq!((run.run.output("job", "01").len(), left_out(&run, "01")), (100_000, None));
}

#[test]
fn a_secret_at_the_cut_is_masked() {
    // Before it, at it and behind it; in lines and in one line that is recorded in pieces.
    for (most, lead, end) in [(1000, 700, "\n"), (1000, 745, "\n"), (1000, 749, ""), (400_000, 299_990, "")] {
        let env = env(
            "version: v1\nstages: [s]\njob:\n  stage: s\n  target: linux\n  secrets:\n    KEY: {ref: env://KEY, file: false}\n  script:\n    \
             - 'head -c $LEAD /dev/zero | tr \"\\0\" x; printf \"%s$END\" \"$KEY\" \"$KEY\" \"$KEY\"; head -c $LEAD /dev/zero | tr \"\\0\" y; \
             printf \"%s$END\" \"$KEY\"; seq 1 3000; echo \"$KEY\"; seq 1 30; echo \"$KEY\"'\n",
        );
        let workflow = fs::read_to_string(env.repo().join(".loom/workflow.yml")).unwrap();
        env.write(
            ".loom/workflow.yml",
            &workflow.replace("$LEAD", &lead.to_string()).replace("$END", &end.replace('\n', "\\n")),
        );
        let env = limited(env, most);
        let run = env.loom(&["run", "--local", "--stream"]).env("KEY", "A-secret-of-a-good-length-77").run();
        assert_eq!(run.exit_code, 0, "{}", run.stderr);
        assert!(left_out(&run, "01").is_some());
        assert_eq!(run.run.output("job", "01").last().unwrap(), "[REDACTED:SECRET_KEY]");
    }
}

#[test]
fn output_without_end_ends_with_the_timeout_and_stays_small() {
    let env = env("version: v1\nstages: [s]\njob: {stage: s, target: linux, timeout: 3s, script: [yes]}\n");
    let run = limited(env, 1 << 16).run(&[]);
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("of output ("), "{}", run.stderr);
    let (lines, bytes) = counts(&run, "01");
    let (left_bytes, _) = left_out(&run, "01").unwrap();
    assert!(lines > 1 << 16 && bytes - left_bytes <= 1 << 16 && bytes - left_bytes > (1 << 16) - 4);
}

#[test]
fn the_output_of_a_section_has_the_same_limit() {
    let Some(image) = docker::busybox() else { return };
    let build = "{name: loom-test/much, build: {context: ctx, dockerfile: ctx/Dockerfile}}";
    let env = docker::in_image(&image, &format!("job: {{stage: ci, image: {build}, script: ['true']}}\n"));
    // New each time, so that it does not come from the daemon's cache.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    env.write("ctx/Dockerfile", &format!("FROM {image}\nRUN echo {now}; seq 1 20000\n"));
    let run = docker::passed(limited(env, 5000).run(&[]));
    let events = run.run.events("jobs/job/system/image_build/events.jsonl");
    let lines: Vec<&str> = events.iter().filter_map(|event| event.line.as_deref()).collect();
    assert!(lines.contains(&"20000") && !lines.contains(&"10000"), "{lines:?}");
    assert!(lines.iter().map(|line| line.len() + 1).sum::<usize>() <= 5000);
    let left_out = |event: &EventLine| event.data.as_ref()?.get("left_out_lines")?.as_u64();
    assert!(events.iter().filter_map(left_out).sum::<u64>() > 10_000);
    assert!(run.stderr.contains("left out of the record"), "{}", run.stderr);
}
