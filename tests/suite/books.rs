//! The delivery state of a user, write by write. It stays correct if writes are late or repeated. The tests call the
//! table in this process, over the engine.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use shared::aws::{Clients, SharedHttpClient};
use shared::clock::Ms;
use shared::config::Config;
use shared::frame::Address;
use shared::id::{ConnectionId, GroupId, Ids, MessageId, UserId};
use shared::rules::dropped::{Shown, Tail};
use shared::rules::forget::Forgettable;
use shared::rules::gaps::Taken;
use shared::rules::must_be_recorded::Delivered;
use shared::rules::timing::{MARGIN_MS, MAX_CONNECTION_MS};
use shared::table::{
    Announced, DropPlan, Held, MAX_HELD, MAX_KNOWN, MessageKind, MissTarget, MissedRef, ShownPage, State, Table, Tails,
};

use crate::inside::SECRET;
use crate::simulation::config;
use crate::simulation::world::{Skewed, TABLE, Wire, World};
use crate::world::Deployment;

/// A user with one missed message by name.
struct Scene {
    world: Arc<World>,
    table: Table,
    user: UserId,
    connection: ConnectionId,
}

impl Scene {
    async fn new() -> Option<Self> {
        Self::with_names(1).await
    }

    async fn with_names(max_missed_names: usize) -> Option<Self> {
        if Deployment::is_elsewhere() {
            return None;
        }
        let world = World::new(1);
        let clock = Arc::new(Skewed { world: world.clone(), ahead_ms: 0 });
        let config = Config { max_missed_names, ..config(SECRET) };
        let client =
            Clients { config: &config, http: SharedHttpClient::new(Wire(world.clone())), metrics: &Arc::default() }
                .dynamodb();
        let table = Table::new(client, &config, clock, Arc::new(Ids::seeded(1)));
        let user = UserId::parse("bob").expect("an id");
        let scene = Self { world, table, user, connection: ConnectionId::new("phone") };
        let began = scene.world.now_ms() - 60_000;
        scene.table.announce(&scene.user, &scene.connection, 1, began).await.expect("it is announced");
        assert!(scene.stamp(began).await);
        scene.miss(began + 1).await;
        assert_eq!(scene.names().await, 1);
        Some(scene)
    }

    async fn stamp(&self, from: Ms) -> bool {
        self.table.stamp(&self.user, &self.connection, from).await.expect("it is stamped")
    }

    /// Records a message of that time that no connection received.
    async fn miss(&self, time: Ms) {
        let missed = MissedRef::new(&Address::User(self.user.clone()), MessageId::first_at(time));
        let state = self.state().await;
        self.table.record_missed(MissTarget::Of(&self.user), &missed, &state).await.expect("it is written down");
    }

    async fn state(&self) -> State {
        self.table.state(&self.user).await.expect("a state")
    }

    /// The state as it is stored.
    fn stored(&self) -> Value {
        let items = self.world.partition(&format!("USER#{}", self.user));
        items.into_iter().find(|item| item["sk"]["S"] == "STATE").expect("a state")
    }

    async fn names(&self) -> usize {
        self.state().await.missed.len()
    }

    /// Whether a connection covers that time.
    async fn covers(&self, time: Ms) -> bool {
        let state = self.state().await;
        Taken::of(state.connections.values(), 0, self.world.now_ms()).contains(time)
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_without_room_uncovers_its_time() {
    let Some(scene) = Scene::new().await else { return };
    let now = scene.world.now_ms();
    assert!(scene.covers(now).await);
    scene.miss(now).await;
    assert!(!scene.covers(now).await && scene.covers(now + 1).await);
    assert_eq!(scene.names().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_stamp_keeps_a_time_uncovered() {
    let Some(scene) = Scene::new().await else { return };
    let now = scene.world.now_ms();
    scene.miss(now).await;
    // The answer to the first stamp was lost, so the SDK repeats it.
    assert!(scene.stamp(now - 60_000).await, "it is stamped");
    assert!(!scene.covers(now).await);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_announcement_keeps_the_stamp() {
    let Some(scene) = Scene::new().await else { return };
    let now = scene.world.now_ms();
    scene.table.announce(&scene.user, &scene.connection, 1, now).await.expect("it is announced");
    assert!(scene.covers(now).await);
}

#[tokio::test(start_paused = true)]
async fn uncovering_a_time_restarts_a_pull_that_may_drop_it() {
    let Some(scene) = Scene::new().await else { return };
    // A pull that has already read the state drops what is older than half a minute when it writes.
    let time = scene.world.now_ms() - 16_000;
    let version = scene.state().await.version;
    scene.miss(time).await;
    let drop =
        DropPlan { version, mark: "pull".to_owned(), until: vec![(MessageKind::Unicast, time)], ..DropPlan::default() };
    assert!(!scene.table.drop_missed(&scene.user, &drop).await.expect("an answer"));
    assert_eq!(scene.names().await, 1);
    assert!(!scene.covers(time).await);
}

/// Otherwise somebody who sends all the time would make each drop fail.
#[tokio::test(start_paused = true)]
async fn of_many_young_times_that_are_uncovered_one_restarts_pulls() {
    let Some(scene) = Scene::new().await else { return };
    let now = scene.world.now_ms();
    scene.miss(now).await;
    let State { version, uncovers, .. } = scene.state().await;
    assert_eq!((version, uncovers), (1, 1), "what the connection covered for a minute is uncovered");
    for n in 1..50 {
        scene.miss(now + 100 * n).await;
    }
    assert!(!scene.covers(now + 4_900).await);
    let until = vec![(MessageKind::Unicast, now - MARGIN_MS)];
    let drop = DropPlan { version, mark: "pull".to_owned(), until, ..DropPlan::default() };
    assert!(scene.table.drop_missed(&scene.user, &drop).await.expect("an answer"));
    assert!(!scene.covers(now + 4_900).await);
    assert_eq!(scene.state().await.uncovers, uncovers, "so pages that were shown before can be dropped as a whole");
}

/// A late delivery sees what was uncovered, and does not record its message by name. A page or a pull from before does not
/// know that.
#[tokio::test(start_paused = true)]
async fn old_times_that_are_uncovered_with_a_young_one_are_not_dropped_unseen() {
    let Some(scene) = Scene::new().await else { return };
    let (now, before) = (scene.world.now_ms(), scene.state().await);
    let old = now - 40_000;
    let page = ShownPage {
        kinds: vec![(MessageKind::Unicast, Shown { floor: now - MARGIN_MS, ..Shown::default() })],
        uncovers: before.uncovers,
        ..ShownPage::default()
    };
    scene.miss(now).await;
    let state = scene.state().await;
    let late = Delivered::queued(old, old);
    assert!(!late.must_be_recorded(state.receiver(MessageKind::Unicast, now), &BTreeSet::new()));
    assert!(!state.with_pages(MessageKind::Unicast, &[page]).contains(MessageId::first_at(old)));
    let until = vec![(MessageKind::Unicast, now - MARGIN_MS)];
    let drop = DropPlan { version: before.version, mark: "pull".to_owned(), until, ..DropPlan::default() };
    assert!(!scene.table.drop_missed(&scene.user, &drop).await.expect("an answer"));
}

/// The same when a handshake forgets connections, since there are too many.
#[tokio::test(start_paused = true)]
async fn times_that_are_uncovered_by_forgetting_are_not_dropped_unseen() {
    let Some(scene) = Scene::new().await else { return };
    let (now, before) = (scene.world.now_ms(), scene.state().await);
    let forgotten = Forgettable {
        surplus: vec![ConnectionId::new("gone")],
        uncovered: vec![(scene.connection.clone(), now)],
        ..Forgettable::default()
    };
    scene.table.forget(&scene.user, &forgotten).await.expect("it is forgotten");
    let state = scene.state().await;
    assert!(state.uncovers > before.uncovers && state.version > before.version, "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_ends_even_if_its_begin_is_moved_all_the_time() {
    let Some(scene) = Scene::new().await else { return };
    let now = scene.world.now_ms();
    scene.miss(now).await;
    let connection = scene.state().await.connections[&scene.connection];
    assert_eq!(connection.from, Some(now + 1));
    assert!(connection.is_settled(now + 2));
    assert!(!connection.hides(now + MAX_CONNECTION_MS, now + MAX_CONNECTION_MS));
}

/// Both senders have read the state before either writes.
#[tokio::test(start_paused = true)]
async fn times_are_uncovered_in_any_order_and_none_becomes_covered_again() {
    let Some(scene) = Scene::new().await else { return };
    let (now, state) = (scene.world.now_ms(), scene.state().await);
    for time in [now + 1, now + 3, now, now + 2] {
        let missed = MissedRef::new(&Address::User(scene.user.clone()), MessageId::first_at(time));
        scene.table.record_missed(MissTarget::Of(&scene.user), &missed, &state).await.expect("it is written down");
    }
    assert!(!scene.covers(now + 3).await && scene.covers(now + 4).await);
}

/// The sender has read the state before the drop, and writes after it.
#[tokio::test(start_paused = true)]
async fn a_time_that_was_dropped_meanwhile_is_missed_again() {
    let Some(scene) = Scene::new().await else { return };
    let (time, state) = (scene.world.now_ms() - 40_000, scene.state().await);
    let until = vec![(MessageKind::Unicast, time + 100)];
    let drop = DropPlan { mark: "pull".to_owned(), until, ..DropPlan::default() };
    assert!(scene.table.drop_missed(&scene.user, &drop).await.expect("an answer"));
    let missed = MissedRef::new(&Address::User(scene.user.clone()), MessageId::first_at(time));
    scene.table.record_missed(MissTarget::Of(&scene.user), &missed, &state).await.expect("it is written down");
    assert_eq!(scene.state().await.unicast.until, time - 1);
    assert!(!scene.covers(time).await);
}

#[tokio::test(start_paused = true)]
async fn a_decoy_of_a_name_expires() {
    let Some(scene) = Scene::new().await else { return };
    let (now, sender) = (scene.world.now_ms(), UserId::parse("mallory").expect("an id"));
    let missed = MissedRef::new(&Address::User(scene.user.clone()), MessageId::first_at(now));
    let target = MissTarget::Withheld { receiver: &scene.user, sender: &sender };
    scene.table.record_missed(target, &missed, &State::default()).await.expect("it is written down");
    let items = scene.world.partition(&format!("USER#{}", scene.user));
    let decoy = items.into_iter().find(|item| item["sk"]["S"] == "HID#STATE#mallory").expect("a decoy");
    assert_eq!(decoy["expiresAt"]["N"], (now + 60_000).div_ceil(1000).to_string(), "{decoy}");
}

#[tokio::test(start_paused = true)]
async fn a_name_without_room_makes_a_dropped_time_missed_again() {
    let Some(scene) = Scene::new().await else { return };
    let time = scene.world.now_ms() - 50_000;
    let drop =
        DropPlan { mark: "pull".to_owned(), until: vec![(MessageKind::Unicast, time + 100)], ..DropPlan::default() };
    assert!(scene.table.drop_missed(&scene.user, &drop).await.expect("an answer"));
    scene.miss(time).await;
    assert_eq!(scene.names().await, 1);
    assert_eq!(scene.state().await.unicast.until, time - 1);
}

/// A burst of handshakes, or a `$connect` killed between its two writes, leaves connections that were never stamped.
#[tokio::test(start_paused = true)]
async fn connections_without_a_stamp_hide_no_messages() {
    let Some(scene) = Scene::new().await else { return };
    for n in 0..100 {
        let connection = ConnectionId::new(format!("burst-{n}"));
        scene.table.announce(&scene.user, &connection, 1, scene.world.now_ms()).await.expect("it is announced");
        scene.table.mark_gone(&scene.user, &connection, scene.world.now_ms()).await.expect("it is closed");
    }
    let now = scene.world.now_ms();
    let is_hidden = |state: &State| state.connections.values().filter(|c| c.hides(now, now)).count();
    assert_eq!(is_hidden(&scene.state().await), 1, "only by the open connection");
    for n in 0..20 {
        scene.miss(now + n).await;
    }
    assert_eq!(scene.names().await, 1);
    assert!(!scene.covers(now + 19).await);
}

#[tokio::test(start_paused = true)]
async fn a_time_is_uncovered_on_a_hundred_connections() {
    let Some(scene) = Scene::new().await else { return };
    let now = scene.world.now_ms();
    for n in 0..100 {
        let connection = ConnectionId::new(format!("tab-{n}"));
        scene.table.announce(&scene.user, &connection, 1, now - 10).await.expect("it is announced");
        // Half of the connections are still opening, and are later stamped with a time before the message.
        if n % 2 == 0 {
            scene.table.stamp(&scene.user, &connection, now - 5).await.expect("it is stamped");
        }
    }
    scene.miss(now).await;
    for n in 0..100 {
        scene.table.stamp(&scene.user, &ConnectionId::new(format!("tab-{n}")), now - 5).await.expect("an answer");
    }
    assert!(!scene.covers(now).await && scene.covers(now + 1).await);
    assert_eq!(scene.names().await, 1);
}

/// The size of an item as DynamoDB counts it, or a little more.
fn size(item: &Value) -> usize {
    item.to_string().len()
}

/// Each part of a state that others can make grow has a limit. All parts at their limits fit into the 400 KB of an
/// item.
#[tokio::test(start_paused = true)]
async fn a_state_at_every_limit_fits_into_an_item() {
    let Some(scene) = Scene::with_names(2_000).await else { return };
    let group = Address::Group(GroupId::parse(&"g".repeat(128)).expect("an id"));
    let now = scene.world.now_ms();
    let mut refused = 0;
    for n in 0..MAX_KNOWN + 20 {
        // 16 characters, as API Gateway's ids have.
        let connection = ConnectionId::new(format!("{n:016}"));
        match scene.table.announce(&scene.user, &connection, 1, now).await.expect("an answer") {
            Announced::Yes(_) => {
                scene.table.stamp(&scene.user, &connection, now).await.expect("it is stamped");
                scene.table.mark_ended(&scene.user, &connection, now + 1, true).await.expect("it is ended");
            }
            Announced::Refused(_) => refused += 1,
        }
    }
    assert_eq!(refused, 21, "all that do not fit beside the phone");
    let names: Vec<String> = (0..1_990).map(|n| format!("g/{}/{}", "g".repeat(128), MessageId::first_at(n))).collect();
    scene.world.update(&json!({
        "TableName": TABLE,
        "Key": { "pk": { "S": format!("USER#{}", scene.user) }, "sk": { "S": "STATE" } },
        "UpdateExpression": "SET missed = :names",
        "ExpressionAttributeValues": { ":names": { "SS": names } },
    }));
    // Senders that read the state before it was full.
    let empty = State::default();
    for n in 0..30 {
        let missed = MissedRef::new(&group, MessageId::first_at(now + n));
        scene.table.record_missed(MissTarget::Of(&scene.user), &missed, &empty).await.expect("it is written down");
    }
    assert_eq!(scene.names().await, 2_000);
    let item = scene.stored();
    assert!(size(&item) < 400 * 1024, "{} bytes", size(&item));
}

#[tokio::test(start_paused = true)]
async fn dropped_young_messages_are_limited_and_outside_the_state() {
    let Some(scene) = Scene::new().await else { return };
    let before = size(&scene.stored());
    let tails = |count: u64| Tails {
        mark: MessageId::first_at(count).to_string(),
        unicast: Tail { ids: (0..count).map(MessageId::first_at).collect(), next: Some(MessageId::last_at(count)) },
        ..Tails::default()
    };
    let drop = |version, count| DropPlan {
        version,
        mark: format!("pull-{count}"),
        until: vec![(MessageKind::Unicast, 1)],
        tails: Some(tails(count)),
        ..DropPlan::default()
    };
    assert!(scene.table.drop_missed(&scene.user, &drop(0, 10_000)).await.expect("an answer"));
    let after = size(&scene.stored());
    assert!(after < before + 200, "{before} bytes, then {after}");
    let view = scene.table.view(&scene.user).await.expect("a view");
    assert_eq!(view.tails, [tails(10_000)]);
    assert!(scene.table.drop_missed(&scene.user, &drop(1, 10_001)).await.is_err(), "more do not fit");
    assert_eq!(scene.state().await.version, 1, "and nothing is dropped");

    // What is full of one kind leaves room for a page of the other.
    let state = scene.table.state_with_tails(&scene.user).await.expect("a state");
    assert!(!state.has_room_in_tails(&[MessageKind::Unicast], 1));
    assert!(state.has_room_in_tails(&[MessageKind::Multicast], 1_000));
    assert!(!state.has_room_in_tails(&[MessageKind::Multicast], 1_001));
    let multicast = Tail { ids: (0..1_000).map(MessageId::first_at).collect(), next: Some(MessageId::first_at(1)) };
    let group = GroupId::parse(&"g".repeat(128)).expect("an id");
    let sender = UserId::parse(&"s".repeat(128)).expect("an id");
    let name = |n| MissedRef { id: MessageId::first_at(n), group: Some(group.clone()) };
    let held = (0..MAX_HELD as u64).map(|n| Held { name: name(n), sender: sender.clone() }).collect();
    let all = Tails { multicast, held, ..tails(10_000) };
    let full = DropPlan { tails: Some(all.clone()), old_tail: state.tail, ..drop(1, 10_000) };
    assert!(scene.table.drop_missed(&scene.user, &full).await.expect("an answer"));
    assert_eq!(scene.table.view(&scene.user).await.expect("a view").tails, [all]);
    let items = scene.world.partition(&format!("USER#{}", scene.user));
    let tails = items.iter().find(|item| !item["tailMark"].is_null()).expect("tails");
    assert!(size(tails) < 400 * 1024, "{} bytes", size(tails));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_drop_counts_as_done_even_if_others_came_between() {
    let Some(scene) = Scene::new().await else { return };
    let time = scene.world.now_ms() - 50_000;
    let drop = |number: u64, marks_before: Vec<String>| DropPlan {
        version: number,
        mark: format!("pull-{number}"),
        marks_before,
        until: vec![(MessageKind::Unicast, time + number)],
        ..DropPlan::default()
    };
    let mut plans = Vec::new();
    for number in 0..5 {
        let plan = drop(number, scene.state().await.marks);
        assert!(scene.table.drop_missed(&scene.user, &plan).await.expect("an answer"));
        plans.push(plan);
    }
    // The answers were lost, so the SDK repeats the drops.
    for plan in &plans[1..] {
        assert!(scene.table.drop_missed(&scene.user, plan).await.expect("an answer"), "{}", plan.mark);
    }
    assert_eq!(scene.state().await.version, 5);
    assert_eq!(scene.state().await.unicast.until, time + 4);
    // Only so many are remembered, so that nothing grows.
    assert!(!scene.table.drop_missed(&scene.user, &plans[0]).await.expect("an answer"));
    assert_eq!(scene.state().await.marks.len(), 4);
}
