//! Groups whose members are spread over partitions. Here, one member fills a shard of the roster. The functions run in
//! this process, and the test runs the jobs of the queue.

use std::collections::BTreeSet;

use functions::{Function, fanout, get_group, list_groups};
use serde_json::{Value, json};

use crate::inside::{Inside, body, call};
use crate::jobs::{QUEUED, event};
use crate::world::Deployment;

const MEMBERS: [&str; 6] = ["bob", "carol", "dave", "erin", "frank", "grace"];

/// A group of alice and six other members.
struct Scene {
    inside: Inside,
    group: String,
}

impl Scene {
    async fn new(limits: &[(&str, &str)]) -> Option<Self> {
        if Deployment::is_elsewhere() {
            return None;
        }
        let inside = Inside::with(1, &[limits, &[("ROSTER_SHARD", "1")]].concat());
        let group = inside.create_group("alice").await;
        let scene = Self { inside, group };
        for user in MEMBERS {
            scene.bring(user).await;
        }
        Some(scene)
    }

    async fn bring(&self, user: &str) {
        self.inside.bring("alice", &self.group, user).await;
    }

    async fn leave(&self, user: &str) {
        self.inside.leave(user, &self.group).await;
    }

    async fn get(&self, function: &Function, user: &str) -> Value {
        let get = call("GET", user, "/api/group", Some(("groupId", self.group.as_str())), "&detailed=false", None);
        self.inside.rest(function, &get).await
    }

    async fn members(&self) -> Vec<String> {
        let group: Value = body(&self.get(&get_group::FUNCTION, "alice").await);
        serde_json::from_value(group["usersId"].clone()).expect("ids")
    }

    /// The members in each shard.
    fn shards(&self) -> Vec<BTreeSet<String>> {
        let shard = |number: u32| {
            let suffix = if number == 0 { String::new() } else { format!("#{number}") };
            let items = self.inside.world().partition(&format!("GROUP#{}{suffix}", self.group));
            items.iter().filter_map(|item| item["user"]["S"].as_str().map(str::to_owned)).collect()
        };
        (0..16).map(shard).collect()
    }

    fn has_membership(&self, user: &str) -> bool {
        let items = self.inside.world().partition(&format!("USER#{user}"));
        items.iter().any(|item| item["groupId"]["S"] == self.group.as_str() && item["joined"].is_object())
    }

    /// Runs jobs one by one. Returns whether each succeeded.
    async fn run(&self, jobs: &[String]) -> Vec<bool> {
        let mut done = Vec::new();
        for job in jobs {
            let event = event(std::slice::from_ref(job));
            let answer = self.inside.invoke(&fanout::FUNCTION, &event).await.expect("an answer");
            done.push(answer == r#"{"batchItemFailures":[]}"#);
        }
        done
    }
}

fn names(members: &[&str]) -> Vec<String> {
    members.iter().map(|user| (*user).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn members_in_several_shards_all_get_a_message() {
    let Some(scene) = Scene::new(&[]).await else { return };
    let shards = scene.shards();
    assert_eq!(shards[0], BTreeSet::from(["alice".to_owned()]));
    assert_eq!(shards[1], BTreeSet::from(["bob".to_owned()]));
    assert_eq!(count(&shards[2..4]), 2, "{shards:?}");
    assert_eq!(count(&shards[4..8]), 3, "{shards:?}");
    assert_eq!(scene.members().await, [names(&["alice"]), names(&MEMBERS)].concat());
    let mut sockets = Vec::new();
    for user in MEMBERS {
        sockets.push(scene.inside.connect(user).await);
    }
    let alice = scene.inside.connect("alice").await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let frame = json!({ "type": "multicast", "groupId": scene.group, "content": "hi" });
    scene.inside.send("alice", &alice, &frame).await;
    for socket in &sockets {
        let frames = scene.inside.frames(socket);
        assert_eq!(frames.iter().map(|frame| &frame["content"]).collect::<Vec<_>>(), ["hi"]);
    }
}

/// The number of members in these shards.
fn count(shards: &[BTreeSet<String>]) -> usize {
    shards.iter().map(BTreeSet::len).sum()
}

#[tokio::test(start_paused = true)]
async fn a_member_who_rejoins_is_a_member_once() {
    let Some(scene) = Scene::new(&[]).await else { return };
    for user in ["bob", "grace", "bob"] {
        scene.leave(user).await;
        assert!(!scene.members().await.contains(&user.to_owned()));
        assert!(!scene.has_membership(user) && scene.shards().iter().all(|shard| !shard.contains(user)));
        scene.bring(user).await;
    }
    assert_eq!(scene.members().await, [names(&["alice"]), names(&MEMBERS)].concat());
    assert_eq!(count(&scene.shards()), 7);
}

#[tokio::test(start_paused = true)]
async fn a_shrunken_group_is_read_to_its_last_shard() {
    let Some(scene) = Scene::new(&[]).await else { return };
    for user in &MEMBERS[..5] {
        scene.leave(user).await;
    }
    assert_eq!(scene.members().await, names(&["alice", "grace"]));
    scene.bring("bob").await;
    assert_eq!(scene.members().await, names(&["alice", "bob", "grace"]));
}

#[tokio::test(start_paused = true)]
async fn a_message_to_a_large_group_has_jobs_for_each_shard() {
    let Some(scene) = Scene::new(&QUEUED).await else { return };
    scene.inside.tie("dave", "blockedId", "alice").await;
    let mut sockets = Vec::new();
    for user in MEMBERS {
        sockets.push((user, scene.inside.connect(user).await));
    }
    let alice = scene.inside.connect("alice").await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let frame = json!({ "type": "multicast", "groupId": scene.group, "content": "hi" });
    scene.inside.send("alice", &alice, &frame).await;
    let jobs = scene.inside.world().take_jobs();
    assert!(jobs.len() >= 4, "{jobs:?}");
    assert!(scene.run(&jobs).await.iter().all(|done| *done));
    for (user, socket) in &sockets {
        assert_eq!(scene.inside.frames(socket).len(), usize::from(*user != "dave"), "{user}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_group_is_dissolved_at_once_and_deleted_by_jobs() {
    let Some(scene) = Scene::new(&QUEUED).await else { return };
    scene.leave("alice").await;
    for user in ["alice", "bob", "grace"] {
        assert_eq!(scene.get(&get_group::FUNCTION, user).await["statusCode"], 403);
        assert_eq!(body::<Vec<String>>(&scene.get(&list_groups::FUNCTION, user).await), [] as [&str; 0]);
    }
    let jobs = scene.inside.world().take_jobs();
    assert_eq!(jobs.len(), 8, "one job for each shard");
    assert!(scene.has_membership("bob"), "the jobs delete memberships");
    // The first job runs, and is delivered again with the others.
    for jobs in [&jobs[..1], &jobs] {
        assert!(scene.run(jobs).await.iter().all(|done| *done));
    }
    assert_eq!(count(&scene.shards()), 0);
    assert!(["alice"].iter().chain(&MEMBERS).all(|user| !scene.has_membership(user)));
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_a_large_group_is_deleted_in_the_call() {
    let Some(scene) = Scene::new(&[]).await else { return };
    scene.leave("alice").await;
    assert_eq!(count(&scene.shards()), 0);
    assert!(["alice"].iter().chain(&MEMBERS).all(|user| !scene.has_membership(user)));
}

#[tokio::test(start_paused = true)]
async fn jobs_finish_a_dissolution_whose_call_was_killed() {
    let Some(scene) = Scene::new(&QUEUED).await else { return };
    let job = |manager: &str, shards: u32, shard: u32| {
        json!({ "job": "dissolution", "group": scene.group, "manager": manager, "lastShard": shards, "shard": shard })
            .to_string()
    };
    // These jobs do not match the group: the wrong manager, and an old number of shards.
    assert_eq!(scene.run(&[job("bob", 7, 0), job("alice", 3, 0)]).await, [true, true]);
    assert_eq!(scene.members().await.len(), 7);
    let jobs: Vec<String> = (0..=7).rev().map(|shard| job("alice", 7, shard)).collect();
    assert!(scene.run(&jobs).await.iter().all(|done| *done));
    assert_eq!(scene.get(&get_group::FUNCTION, "bob").await["statusCode"], 403);
    assert_eq!(count(&scene.shards()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pull_deletes_the_membership_of_a_dissolved_group() {
    let Some(scene) = Scene::new(&QUEUED).await else { return };
    scene.leave("alice").await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let pull = call("GET", "grace", "/api/message", None, "", None);
    scene.inside.done(&functions::pull_messages::FUNCTION, &pull).await;
    assert!(!scene.has_membership("grace") && scene.shards().iter().all(|shard| !shard.contains("grace")));
    assert!(scene.has_membership("frank"));
}

#[tokio::test(start_paused = true)]
async fn too_many_members_for_one_answer_is_a_400() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::with(1, &[]);
    let group = inside.create_group("alice").await;
    let put_members = |count: std::ops::Range<usize>| {
        for number in count {
            let (pk, user) = (format!("GROUP#{group}"), format!("{number:0128}"));
            let item = json!({
                "pk": { "S": pk }, "sk": { "S": format!("ROSTER#{user}") },
                "user": { "S": user }, "joined": { "N": "1" },
            });
            inside.world().put(&item);
        }
    };
    let get = call("GET", "alice", "/api/group", Some(("groupId", &group)), "", None);
    let list = call("GET", "alice", "/api/group", None, "", None);
    put_members(0..41_000);
    assert_eq!(inside.rest(&get_group::FUNCTION, &get).await["statusCode"], 200);
    assert_eq!(inside.rest(&list_groups::FUNCTION, &list).await["statusCode"], 200);
    put_members(41_000..41_500);
    for (function, get, field) in [(&get_group::FUNCTION, &get, "groupId"), (&list_groups::FUNCTION, &list, "detailed")]
    {
        let answer = inside.rest(function, get).await;
        let problem: Value = body(&answer);
        assert_eq!(answer["statusCode"], 400, "{problem}");
        assert!(problem["detail"].as_str().expect("a text").starts_with(field), "{problem}");
    }
}
