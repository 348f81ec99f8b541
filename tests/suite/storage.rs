//! Writes of the table that no test reaches from outside, with the real client over HTTP: at the engine `DYNAMODB_URL`, or at
//! the embedded one.

use std::sync::Arc;

use shared::aws::{Clients, http_client};
use shared::clock::{Clock, SystemClock};
use shared::config::Config;
use shared::id::{GroupId, Ids, UserId};
use shared::table::Table;

use crate::stack::{Local, with};
use crate::world::engine;

/// The table of a test, and the local stack that has it, if any.
struct Storage {
    table: Table,
    stack: Option<Local>,
}

impl Storage {
    /// An empty table, or nothing if the suite runs against a deployment.
    async fn empty() -> Option<Self> {
        let stack = Local::start(with(&[])).await?;
        let url = engine::address();
        let variables = match &url {
            Some(url) => engine::fresh(url).await,
            None => engine::variables(stack.dynamodb_url(), "local"),
        };
        let variable = |name: &str| match name {
            "TABLE_NAME" => Some(engine::TABLE.to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("local".to_owned()),
            // A group of three has three shards.
            "ROSTER_SHARD" => Some("1".to_owned()),
            _ => variables.iter().find(|(of, _)| of == name).map(|(_, value)| value.clone()),
        };
        let config = Config::read(variable).expect("the variables are right");
        let clients = Clients { config: &config, http: http_client(), metrics: &Arc::default() };
        let table = Table::new(clients.dynamodb(), &config, Arc::new(SystemClock), Arc::new(Ids::unpredictable()));
        Some(Self { table, stack: url.is_none().then_some(stack) })
    }

    async fn stop(self) {
        if let Some(stack) = self.stack {
            stack.stop().await;
        }
    }
}

fn user(id: &str) -> UserId {
    UserId::parse(id).expect("a user's id")
}

#[tokio::test]
async fn the_longer_ban_outlives_an_erasure() {
    let Some(storage) = Storage::empty().await else { return };
    let (alice, now) = (user("alice"), SystemClock.now_ms());
    for (until, lasts) in [(now + 60_000, now + 60_000), (now + 90_000, now + 90_000), (now + 30_000, now + 90_000)] {
        storage.table.bury(&alice, until).await.expect("it is written");
        let state = storage.table.state(&alice).await.expect("it is read");
        assert_eq!(state.ban(now), Some(lasts));
    }
    storage.stop().await;
}

#[tokio::test]
async fn only_the_membership_that_was_read_is_forgotten() {
    let Some(storage) = Storage::empty().await else { return };
    let (alice, group) = (user("alice"), GroupId::parse("g").expect("a group's id"));
    storage.table.create_group(&group, "Group", &alice).await.expect("it is created");
    let read = storage.table.joined_groups(&alice).await.expect("they are read");
    let mut other = read.clone();
    other[0].1.joined += 1;
    storage.table.forget_groups(&alice, &other).await.expect("nothing fails");
    assert_eq!(storage.table.joined_groups(&alice).await.expect("they are read"), read);
    storage.table.forget_groups(&alice, &read).await.expect("it is deleted");
    assert_eq!(storage.table.joined_groups(&alice).await.expect("they are read"), []);
    storage.stop().await;
}

#[tokio::test]
async fn a_group_whose_roster_has_grown_is_not_dissolved() {
    let Some(storage) = Storage::empty().await else { return };
    let (alice, group) = (user("alice"), GroupId::parse("g").expect("a group's id"));
    storage.table.create_group(&group, "Group", &alice).await.expect("it is created");
    let mut shards = vec![0];
    for id in ["bob", "carol"] {
        let added = storage.table.add_member(&group, &user(id), None, 10).await;
        added.expect("it is written");
        let meta = storage.table.membership(&group, &user(id)).await.expect("it is read").expect("they are a member");
        shards.push(meta.last_shard);
    }
    let (Some(&last), Some(&before)) = (shards.last(), shards.iter().rev().nth(1)) else { unreachable!() };
    assert!(last > before, "{shards:?}");
    for (shard, is_gone) in [(before, false), (0, false), (last, true), (last, true)] {
        assert_eq!(storage.table.dissolve(&group, &alice, shard).await.expect("it is answered"), is_gone, "{shard}");
    }
    assert_eq!(storage.table.existing_groups(&[group]).await.expect("they are read").len(), 0);
    storage.stop().await;
}
