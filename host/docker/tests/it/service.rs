//! Services: networks, health, and what is told of those that do not come up.

use std::time::Duration;

use loom_docker::{ContainerSpec, Error, Expect, Healthcheck, Networking, Outside};

use crate::support::{run, sh, spec, stdout, waiting, with_scope, words};

/// A service that may fail its check `retries` times.
fn service(script: &str, check: &str, retries: u32) -> ContainerSpec {
    ContainerSpec {
        name: "service".to_owned(),
        command: Some(words(&["sh", "-c", script])),
        healthcheck: Some(Healthcheck {
            command: words(&["sh", "-c", check]),
            interval: Duration::from_millis(200),
            timeout: Duration::from_secs(100),
            retries,
            start_period: Duration::ZERO,
        }),
        ..spec()
    }
}

/// More than a machine that is busy lets a service fail before it is up.
const MANY: u32 = 10_000;
/// Longer than what is waited for takes on any machine.
const LONG: Duration = Duration::from_secs(300);

#[tokio::test]
async fn a_service_is_found_by_its_aliases_once_it_is_healthy() {
    with_scope(async |scope| {
        let network = scope.create_network("services", Outside::Closed).await.unwrap();
        let joined =
            |aliases: &[&str]| Networking::Joined { network: network.clone(), aliases: words(aliases) };
        let script = "sleep 0.5; mkdir /www; echo hello >/www/index.html; httpd -f -p 80 -h /www";
        let web = ContainerSpec {
            networking: joined(&["web", "web-too"]),
            ..service(script, "wget -q -O /dev/null http://127.0.0.1/", MANY)
        };
        let web = scope.create_container(&web).await.unwrap();
        web.start().await.unwrap();
        web.wait_healthy(LONG, Expect::Health).await.unwrap();
        let job =
            scope.create_container(&ContainerSpec { networking: joined(&[]), ..waiting() }).await.unwrap();
        job.start().await.unwrap();
        for alias in ["web", "web-too"] {
            assert_eq!(stdout(&job, &format!("wget -q -O - http://{alias}/")).await, "hello\n");
        }
        let outside = run(&job, &sh("wget -q -T 2 -O - http://1.1.1.1/")).await.unwrap();
        assert_ne!(outside.exit.code, 0);
        let other = scope.create_network("other", Outside::Reachable).await.unwrap();
        scope.join(&other, &web, &words(&["late"])).await.unwrap();
        scope.join(&other, &job, &[]).await.unwrap();
        assert_eq!(stdout(&job, "wget -q -O - http://late/").await, "hello\n");
    })
    .await;
}

#[tokio::test]
async fn a_service_that_does_not_come_up_is_told_with_its_last_words() {
    with_scope(async |scope| {
        let dies = service("echo line; echo no config >&2; exit 3", "false", MANY);
        let never = service("echo waiting; sleep 1000", "echo still not ready; exit 1", 2);
        let slow = service("echo slow; sleep 1000", "sleep 90", MANY);
        let cases = [
            (dies, LONG, "ended with exit code 3 before it was ready", "no config"),
            (never, LONG, "is unhealthy", "still not ready"),
            (slow, Duration::from_secs(3), "was not healthy within 3 s", "slow"),
        ];
        for (spec, within, why, log) in cases {
            let container = scope.create_container(&spec).await.unwrap();
            container.start().await.unwrap();
            let error = container.wait_healthy(within, Expect::Health).await.unwrap_err();
            let text = error.to_string();
            assert!(text.contains(why) && text.contains(log), "{text}");
            assert!(matches!(error, Error::NotHealthy { log, .. } if log.len() < 25));
        }
        let plain = scope.create_container(&waiting()).await.unwrap();
        plain.start().await.unwrap();
        plain.wait_healthy(LONG, Expect::Health).await.unwrap();
    })
    .await;
}
