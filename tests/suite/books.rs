//! The books that are kept of a user, write by write: what they say stays true whatever write comes again or late. The
//! table is used in this process, over the engine.

use std::sync::Arc;

use shared::aws::{self, SharedHttpClient};
use shared::clock::Ms;
use shared::config::Config;
use shared::coverage::is_covered;
use shared::frame::Address;
use shared::id::{ConnectionId, Ids, MessageId, UserId};
use shared::metrics::Metrics;
use shared::table::{Books, Missed, Table};

use crate::inside::SECRET;
use crate::simulation::config;
use crate::simulation::world::{Skewed, Wire, World};
use crate::world::Deployment;

/// A user who has missed by name as much as he can.
struct Scene {
    world: Arc<World>,
    table: Table,
    user: UserId,
    connection: ConnectionId,
}

impl Scene {
    async fn new() -> Option<Self> {
        if Deployment::is_elsewhere() {
            return None;
        }
        let world = World::new(1);
        let clock = Arc::new(Skewed { world: world.clone(), ahead_ms: 0 });
        let config = Config { max_missed_names: 1, ..config(SECRET) };
        let client = aws::dynamodb(&config, SharedHttpClient::new(Wire(world.clone())), &Arc::new(Metrics::default()));
        let table = Table::new(client, &config, clock, Arc::new(Ids::seeded(1)));
        let user = UserId::parse("bob").expect("an id");
        let scene = Self { world, table, user, connection: ConnectionId::new("phone") };
        let begun = scene.world.now_ms() - 60_000;
        scene.table.announce(&scene.user, &scene.connection, begun).await.expect("it is announced");
        assert!(scene.stamp(begun).await);
        scene.miss(begun + 1).await;
        assert_eq!(scene.names().await, 1);
        Some(scene)
    }

    async fn stamp(&self, from: Ms) -> bool {
        self.table.stamp(&self.user, &self.connection, from).await.expect("it is stamped")
    }

    /// No connection took a message of that time.
    async fn miss(&self, time: Ms) {
        let missed = Missed::new(&Address::User(self.user.clone()), MessageId::first_at(time));
        let state = self.table.state(&self.user).await.expect("a state");
        self.table.add_missed(Books::Of(&self.user), &missed, &state).await.expect("it is written down");
    }

    async fn names(&self) -> usize {
        self.table.state(&self.user).await.expect("a state").missed.len()
    }

    /// Whether a connection covers that time.
    async fn covers(&self, time: Ms) -> bool {
        is_covered(self.table.state(&self.user).await.expect("a state").connections.values(), time)
    }
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_room_for_a_name_its_time_is_uncovered() {
    let Some(scene) = Scene::new().await else { return };
    let now = scene.world.now_ms();
    assert!(scene.covers(now).await);
    scene.miss(now).await;
    assert!(!scene.covers(now).await && scene.covers(now + 1).await);
    assert_eq!(scene.names().await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_uncovered_stays_so_when_the_stamp_comes_again() {
    let Some(scene) = Scene::new().await else { return };
    let now = scene.world.now_ms();
    scene.miss(now).await;
    // Its first answer was lost, so the SDK sends it again.
    assert!(scene.stamp(now - 60_000).await, "it is stamped");
    assert!(!scene.covers(now).await);
}

#[tokio::test(start_paused = true)]
async fn what_was_stamped_stays_so_when_the_announcement_comes_again() {
    let Some(scene) = Scene::new().await else { return };
    let now = scene.world.now_ms();
    scene.table.announce(&scene.user, &scene.connection, now).await.expect("it is announced");
    assert!(scene.covers(now).await);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_a_pull_may_drop_with_its_time_is_named_however_many_there_are() {
    let Some(scene) = Scene::new().await else { return };
    // A pull that has read the books already drops what is older than half a minute by the time it writes.
    let time = scene.world.now_ms() - 16_000;
    scene.miss(time).await;
    assert_eq!(scene.names().await, 2);
}
