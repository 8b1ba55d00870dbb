//! What runs beside a job in its network, on a real daemon.

use loom_contract::event::EventType;
use loom_contract::phase::PhaseCode;
use loom_contract::status::Status;
use loom_docker_testimage::Image;

use crate::docker::{busybox, clean, image, in_image, passed};

/// An image with a small server, which answers each connection with the variable `ANSWER`.
pub(crate) fn server(name: &str, changes: &[&str]) -> Option<String> {
    let serve = b"#!/bin/sh\necho serving \"$ANSWER\"\necho a word to stderr >&2\nwhile :; do nc -l -p \"${PORT:-80}\" -e sh -c 'echo \"$ANSWER\"'; done\n";
    let mut all = vec!["ENTRYPOINT [\"/bin/serve\"]"];
    all.extend(changes);
    image(Image { name, files: &[("bin/serve", serve)], changes: &all, ..Image::default() })
}

#[test]
fn services_run_beside_the_job_are_found_by_name_and_heard() {
    let (Some(image), Some(server)) = (busybox(), server("server", &[])) else { return };
    let env = in_image(
        &image,
        &format!(
            "job:
  stage: ci
  variables: {{WHO: world, PORT: '8080'}}
  secrets:
    TOKEN: {{ref: env://SOURCE, file: false}}
  services:
    - name: '{server}'
      alias: db
      variables: {{ANSWER: 'hello $WHO'}}
      ready: {{port: 8080}}
    - name: '{server}'
      alias: other
      variables: {{ANSWER: second}}
      entrypoint: [sh, -c]
      command: ['echo \"token $TOKEN\"; exec serve']
      ready: {{command: 'nc localhost 8080 < /dev/null | grep -q second', timeout: 20s}}
  script:
    - |
      ask() {{ until answer=$(nc $1 8080 < /dev/null 2> /dev/null) && [ -n \"$answer\" ]; do sleep 0.1; done; echo \"$answer\"; }}
      ask db; ask loom-test-server; ask other
"
        ),
    );
    env.plant_variable("SOURCE", "it's a token of services");
    let run = passed(env.run(&[]));
    let output = run.run.output("job", "01");
    assert_eq!((output[0].as_str(), output[2].as_str()), ("hello world", "second"));
    let mut said = run.run.events("jobs/job/system/services/events.jsonl");
    said.extend(run.run.events("jobs/job/system/services/output.jsonl"));
    let lines: Vec<&str> = said.iter().filter_map(|event| event.line.as_deref()).collect();
    for line in [
        "db | serving hello world",
        "db | a word to stderr",
        "other | serving second",
        "other | token [REDACTED:SECRET_TOKEN]",
    ] {
        assert!(lines.contains(&line), "`{line}` is not in {lines:?}");
    }
    assert!(said.iter().any(|event| {
        event.message.as_deref().is_some_and(|text| text.starts_with("service `db` is started"))
    }));
    let sections = run.run.job("job").system_sections;
    assert!(
        sections
            .iter()
            .any(|section| section.section.as_str() == "services" && section.status == Status::Success)
    );
}

#[test]
fn a_service_that_does_not_come_up_fails_the_job_with_what_it_said() {
    let (Some(image), Some(server), Some(sick)) = (
        busybox(),
        server("server", &[]),
        server("sick", &["HEALTHCHECK --interval=200ms --retries=2 CMD false"]),
    ) else {
        return;
    };
    let table = [
        (
            format!(
                "{{name: '{image}', alias: dies, command: [sh, -c, 'echo last words; exit 3'], ready: {{port: 9}}}}"
            ),
            "SERVICE_NOT_HEALTHY",
            "ended with exit code 3",
        ),
        (format!("{{name: '{sick}'}}"), "SERVICE_NOT_HEALTHY", "is unhealthy"),
        (
            format!("{{name: '{server}', alias: slow, ready: {{port: 9, timeout: 1s}}}}"),
            "SERVICE_NOT_READY",
            "nothing listened on port 9",
        ),
        ("{name: 'loom-test/does-not-exist:1'}".to_owned(), "DOCKER_", "loom-test/does-not-exist:1"),
    ];
    for (service, code, words) in table {
        let env =
            in_image(&image, &format!("job: {{stage: ci, services: [{service}], script: [echo never]}}\n"));
        let run = clean(env.run(&[]));
        assert_eq!(run.exit_code, 1, "{}", run.stderr);
        let error = run.run.job("job").error.unwrap();
        assert!(error.code.starts_with(code) && error.message.contains(words), "{error:?}");
        assert!(error.message.starts_with("service `"), "{error:?}");
        if code != "DOCKER_" {
            assert_eq!(run.run.job("job").failing_section.unwrap().as_str(), "services", "{service}");
        }
        if words == "ended with exit code 3" {
            assert!(error.message.contains("last words"), "{error:?}");
        }
    }
}

/// However early or late a service ends by itself: where it was not to be ready, that is a warning, told once; where it
/// was, the job fails.
#[test]
fn the_end_of_a_service_is_told_in_the_same_way_whenever_it_comes() {
    let Some(image) = busybox() else { return };
    let service = |words: &str| {
        format!("{{name: '{image}', alias: db, command: [sh, -c, '{words}; echo last words; exit 3']}}")
    };
    for words in ["true", "sleep 1"] {
        let env = in_image(
            &image,
            &format!("job: {{stage: ci, services: [{}], script: [sleep 3]}}\n", service(words)),
        );
        let run = passed(env.run(&[]));
        let warning =
            "warning: job | service `db` ended with exit code 3; its last output:\njob | last words\n";
        assert_eq!(run.stderr.matches(warning).count(), 1, "{}", run.stderr);
        let sections = run.run.job("job").system_sections;
        let section = sections.iter().find(|section| section.section.as_str() == "services").unwrap();
        assert_eq!(section.status, Status::Success);
        let after = run.run.events(section.output_path.as_ref().unwrap());
        let end = after.iter().find(|event| {
            event.message.as_deref().is_some_and(|text| text.starts_with("service `db` had ended"))
        });
        assert_eq!(end.unwrap().data.as_ref().unwrap()["exit_code"], 3);
        // Their phase is over before the steps begin.
        let phases: Vec<_> =
            run.run.events("jobs/job/events.jsonl").into_iter().map(|e| (e.kind, e.phase_code)).collect();
        let at = |wanted| phases.iter().position(|phase| *phase == wanted).unwrap();
        let prepared = at((EventType::PhaseFinish, Some(PhaseCode::JobProviderPrepare)));
        assert!(prepared < at((EventType::PhaseStart, Some(PhaseCode::JobExecution))));
        let told = run.run.events(&section.events_path);
        assert!(told.last().unwrap().ts <= run.run.events("jobs/job/events.jsonl")[1].ts);
    }

    let sick = server("sick-later", &["HEALTHCHECK --interval=100s CMD false"]).unwrap();
    for service in [
        format!(
            "{{name: '{image}', alias: db, command: [sh, -c, 'sleep 1; echo last words; exit 3'], ready: {{port: 9}}}}"
        ),
        format!(
            "{{name: '{sick}', alias: db, entrypoint: [sh, -c], command: ['sleep 1; echo last words; exit 3']}}"
        ),
    ] {
        let env =
            in_image(&image, &format!("job: {{stage: ci, services: [{service}], script: [echo never]}}\n"));
        let run = clean(env.run(&[]));
        assert_eq!(run.exit_code, 1, "{}", run.stderr);
        assert!(run.stderr.contains("ended with exit code 3 before it was ready"), "{}", run.stderr);
        assert!(run.stderr.contains("  | last words"), "{}", run.stderr);
        assert!(!run.stderr.contains("warning"), "{}", run.stderr);
        assert_eq!(run.run.job("job").failing_section.unwrap().as_str(), "services", "{service}");
    }
}

#[test]
fn a_service_that_is_never_ready_shows_what_it_printed() {
    let (Some(image), Some(server)) = (busybox(), server("server", &[])) else { return };
    let env = in_image(
        &image,
        &format!(
            "job: {{stage: ci, services: [{{name: '{server}', alias: slow, ready: {{port: 9, timeout: 1s}}}}], script: [echo never]}}\n"
        ),
    );
    let run = clean(env.run(&[]));
    assert_eq!(run.exit_code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("not ready within 1 s: nothing listened on port 9"), "{}", run.stderr);
    assert!(run.stderr.contains("  | a word to stderr"), "{}", run.stderr);
}
