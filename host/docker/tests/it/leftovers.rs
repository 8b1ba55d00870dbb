//! What scopes that were never closed have left.

use loom_docker::{Outside, Status, sweep};
use loom_docker_testimage as testimage;

use crate::support::{Ledgers, labelled, running, with_scope};

#[tokio::test]
async fn a_dead_run_is_swept_and_a_living_one_is_left_alone() {
    with_scope(async |scope| {
        let ledgers = Ledgers::new();
        let dead = ledgers.scope(scope.docker());
        let living = ledgers.scope(scope.docker());
        let mut resources = vec![running(&dead).await.resource()];
        let network = dead.create_network("net", Outside::Reachable).await.unwrap();
        let survivor = running(&living).await;
        resources.extend([network.resource(), dead.create_volume("vol").await.unwrap().resource()]);
        // The run ends without a word; what it made stays.
        let run = dead.owner().clone();
        ledgers.dies(dead);
        let mut swept = sweep(scope.docker(), &ledgers.runs).await;
        swept.removed.sort();
        resources.sort();
        assert_eq!(swept.removed, resources);
        assert!(swept.residuals.is_empty());
        assert_eq!(labelled(&run.run_id), [""; 0]);
        assert_eq!(survivor.state().await.unwrap().status, Status::Running);
        // Its ledger is gone with it: there is nothing to do again.
        assert!(sweep(scope.docker(), &ledgers.runs).await.removed.is_empty());
        assert_eq!(living.remove_all().await.len(), 0);
    })
    .await;
}

/// What anybody can make: labels and names like those of Loom.
#[tokio::test]
async fn what_only_looks_like_a_dead_runs_stays() {
    with_scope(async |scope| {
        let ledgers = Ledgers::new();
        let dead = ledgers.scope(scope.docker());
        let volume = dead.create_volume("vol").await.unwrap();
        let real = running(&dead).await;
        let run_id = dead.owner().run_id.clone();
        ledgers.dies(dead);
        // The run's own container is gone, and somebody has made another one with its name and its labels.
        let api = |method: &str, path: &str, body: &str| {
            let (status, answer) =
                testimage::request(testimage::SOCKET, method, path, body.as_bytes()).unwrap();
            assert!(status < 300, "{method} {path}: {answer}");
        };
        api("DELETE", &format!("/containers/{}?force=1&v=1", real.id()), "");
        let labels =
            format!(r#""Labels":{{"loom.run_id":"{run_id}","loom.job_id":"job","loom.repo":"/repo"}}"#);
        let image = testimage::busybox().unwrap();
        let body =
            format!(r#"{{"Image":"{image}","Cmd":["sleep","60"],{labels},"Volumes":{{"/data":{{}}}}}}"#);
        let foreign = format!("foreign-{run_id}");
        api("POST", &format!("/containers/create?name={}", real.name()), &body);
        api("POST", &format!("/containers/create?name={foreign}"), &body);
        api("POST", "/volumes/create", &format!(r#"{{"Name":"{foreign}",{labels}}}"#));
        api("POST", "/networks/create", &format!(r#"{{"Name":"{foreign}",{labels}}}"#));
        let swept = sweep(scope.docker(), &ledgers.runs).await;
        assert_eq!(swept.removed, [volume.resource()]);
        assert!(swept.residuals.is_empty());
        for path in [
            format!("/containers/{}/json", real.name()),
            format!("/containers/{foreign}/json"),
            format!("/volumes/{foreign}"),
            format!("/networks/{foreign}"),
        ] {
            api("GET", &path, "");
        }
        api("DELETE", &format!("/containers/{}?force=1&v=1", real.name()), "");
        api("DELETE", &format!("/containers/{foreign}?force=1&v=1"), "");
        api("DELETE", &format!("/volumes/{foreign}"), "");
        api("DELETE", &format!("/networks/{foreign}"), "");
    })
    .await;
}

#[tokio::test]
async fn a_network_that_somebody_else_has_joined_is_removed_all_the_same() {
    with_scope(async |scope| {
        let other = crate::support::scope(scope.docker());
        let network = other.create_network("net", Outside::Reachable).await.unwrap();
        let stranger = loom_docker::ContainerSpec {
            networking: loom_docker::Networking::Default,
            ..crate::support::waiting()
        };
        let stranger = scope.create_container(&stranger).await.unwrap();
        stranger.start().await.unwrap();
        scope.join(&network, &stranger, &[]).await.unwrap();
        let left = other.remove_all().await;
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(labelled(&other.owner().run_id), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn removal_by_two_at_once_is_fine() {
    with_scope(async |scope| {
        for _ in 0..3 {
            running(&scope).await;
        }
        let (one, two) = tokio::join!(scope.remove_all(), scope.remove_all());
        assert!(one.is_empty(), "{one:?}");
        assert!(two.is_empty(), "{two:?}");
    })
    .await;
}
