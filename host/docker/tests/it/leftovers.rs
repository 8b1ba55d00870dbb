//! What scopes that were never closed have left.

use loom_docker::{Outside, Scope, Status, sweep};

use crate::support::{labelled, owner, running, with_scope};

#[tokio::test]
async fn a_dead_run_is_swept_and_a_living_one_is_left_alone() {
    with_scope(async |scope| {
        let dead = Scope::new(scope.docker(), owner());
        let mut things = vec![running(&dead).await.thing()];
        let network = dead.create_network("net", Outside::Reachable).await.unwrap();
        let outsider = running(&scope).await;
        things.extend([network.thing(), dead.create_volume("vol").await.unwrap().thing()]);
        scope.create_volume("mine").await.unwrap();
        // The run ends without a word; what it made stays.
        let run = dead.owner().clone();
        drop(dead);
        let (mut asked, is_dead) = (Vec::new(), |id: &str| id == run.run_id);
        let swept = sweep(scope.docker(), |owner| {
            asked.push(owner.clone());
            !is_dead(&owner.run_id)
        });
        let swept = swept.await.unwrap();
        assert!(asked.contains(&run) && asked.contains(scope.owner()), "{asked:?}");
        let mut removed: Vec<_> =
            swept.removed.into_iter().map(|(owner, thing)| (owner == run, thing)).collect();
        removed.sort();
        things.sort();
        assert_eq!(removed, things.into_iter().map(|thing| (true, thing)).collect::<Vec<_>>());
        assert!(swept.left.is_empty());
        assert_eq!(labelled(&run.run_id), [""; 0]);
        assert_eq!(outsider.state().await.unwrap().status, Status::Running);
        assert_eq!(labelled(&scope.owner().run_id).len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_network_that_somebody_else_has_joined_is_removed_all_the_same() {
    with_scope(async |scope| {
        let other = Scope::new(scope.docker(), owner());
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
async fn removal_by_two_at_once_is_fine_and_what_cannot_go_is_told() {
    with_scope(async |scope| {
        for _ in 0..3 {
            running(&scope).await;
        }
        let (one, two) =
            tokio::join!(scope.remove_all(), sweep(scope.docker(), |owner| owner != scope.owner()));
        assert!(one.is_empty(), "{one:?}");
        assert!(two.unwrap().left.is_empty());
    })
    .await;
}
