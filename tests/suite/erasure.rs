//! The erasure of a user, job by job. The functions run in this process, the test runs the jobs of the queue, kills them at
//! any call, and reads the whole table afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use functions::fanout;
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;

use crate::fragile::Fragile;
use crate::inside::{Inside, body, call};
use crate::jobs::{QUEUED, event};
use crate::simulation::world::{Wire, World};
use crate::world::Deployment;

/// The user who is erased. No other id or content has this word in it.
const ERASED: &str = "zoe";

/// A user with friends, groups, blocks and messages, who is then erased.
struct Scene {
    inside: Inside,
    /// The same functions, which can be killed.
    fragile: Fragile,
    managed: String,
    joined: String,
}

impl Scene {
    async fn new() -> Option<Self> {
        let variables = [&QUEUED[..], &[("MAX_GROUP_MEMBERS", "100000")]].concat();
        if Deployment::is_elsewhere() {
            return None;
        }
        let world = World::new(1);
        let fragile = Fragile::over(&world, &variables);
        let inside = Inside::over(world.clone(), SharedHttpClient::new(Wire(world)), &variables);
        for friend in ["bob", "carol", "dan"] {
            inside.tie(ERASED, "friendId", friend).await;
        }
        let managed = inside.create_group(ERASED).await;
        pass(1).await;
        for member in ["bob", "eve"] {
            inside.bring(ERASED, &managed, member).await;
            pass(1).await;
        }
        let joined = inside.create_group("bob").await;
        inside.bring("bob", &joined, ERASED).await;
        let lonely = inside.create_group(ERASED).await;
        inside.invite(ERASED, &lonely, "carol").await;
        inside.invite(ERASED, &lonely, "fay").await;
        inside.tie(ERASED, "blockedId", "eve").await;
        inside.tie("gil", "blockedId", ERASED).await;
        let scene = Self { inside, fragile, managed, joined };
        scene.talk().await;
        Some(scene)
    }

    async fn talk(&self) {
        let phone = self.inside.connect(ERASED).await;
        for friend in ["bob", "carol", "eve"] {
            self.inside.connect_as(friend, "2").await;
        }
        let say = async |to: Value, content: &str| {
            let mut frame = json!({ "type": "unicast", "content": content, "requestId": content });
            frame.as_object_mut().expect("an object").extend(to.as_object().expect("an object").clone());
            self.inside.send(ERASED, &phone, &frame).await;
        };
        for n in 0..3 {
            say(json!({ "receiverId": "bob" }), &format!("secret to bob {n}")).await;
            let group = json!({ "type": "multicast", "groupId": self.managed });
            say(group, &format!("secret in a group {n}")).await;
        }
        say(json!({ "type": "multicast", "groupId": self.joined }), "secret in another group").await;
        say(json!({ "receiverId": "carol" }), "secret to carol").await;
        say(json!({ "receiverId": "dan" }), "kept: a message to a former friend").await;
        // A withheld message, in a friend's partition.
        self.inside.tie("carol", "blockedId", ERASED).await;
        say(json!({ "receiverId": "carol" }), "secret that carol never got").await;
        let bobs = self.inside.connect("bob").await;
        self.inside
            .send("bob", &bobs, &json!({ "type": "unicast", "receiverId": ERASED, "content": "to be erased" }))
            .await;
        for (reader, with) in [("bob", ERASED), ("dan", ERASED), (ERASED, "bob")] {
            let until = "&until=01ARZ3NDEKTSV4RRFFQ69G5FAV";
            let read = call("PUT", reader, "/api/read", None, &format!("&userId={with}{until}"), None);
            self.inside.done(&functions::mark_read::FUNCTION, &read).await;
        }
        self.inside.relate("DELETE", ERASED, "friendId", "dan").await;
        let pull = call("GET", ERASED, "/api/message", None, "&drop=false", None);
        self.inside.done(&functions::pull_messages::FUNCTION, &pull).await;
        pass(30).await;
        self.inside.world().take_jobs();
    }

    /// Calls a function of the back end.
    async fn invoke(&self, function: &functions::Function, payload: Value) -> Value {
        let answer = self.inside.invoke(function, &payload.to_string()).await.expect("the call succeeds");
        serde_json::from_str(&answer).expect("JSON")
    }

    async fn erase(&self) {
        self.invoke(&functions::erase_user::FUNCTION, json!({ "userId": ERASED })).await;
    }

    async fn is_erasing(&self) -> bool {
        let seen = self.invoke(&functions::manage_user::FUNCTION, json!({ "method": "GET", "userId": ERASED })).await;
        seen["erasing"] == true
    }

    /// Runs a job whose function is killed at its call number `calls`. Returns whether it was.
    async fn run_until(&self, job: &String, calls: usize) -> bool {
        let event = event(std::slice::from_ref(job));
        self.fragile.invoke_until(calls, &fanout::FUNCTION, &event).await.is_none()
    }

    async fn run(&self, job: &String) {
        let answer = self.inside.invoke(&fanout::FUNCTION, &event(std::slice::from_ref(job))).await;
        assert_eq!(answer.expect("an answer"), r#"{"batchItemFailures":[]}"#, "{job}");
    }

    /// Runs all jobs, those of the second pass after their delay. Each is killed once before, at that call. Returns whether
    /// one was.
    async fn finish(&self, calls: usize) -> bool {
        let (mut was_killed, mut is_over) = (false, false);
        for _ in 0..100 {
            let jobs = self.inside.world().take_jobs();
            if jobs.is_empty() {
                return was_killed;
            }
            for job in jobs {
                if job.contains("\"isLast\":true") {
                    // A job that was killed after it queued the next one queues it again.
                    assert!(self.is_erasing().await || is_over, "until the second pass is done");
                    is_over = true;
                    pass(660).await;
                }
                was_killed |= calls > 0 && self.run_until(&job, calls).await;
                self.run(&job).await;
            }
        }
        panic!("the jobs do not end");
    }

    /// The ids of the messages of whose recall a user was told.
    fn recalls_told_to(&self, user: &str) -> BTreeSet<String> {
        let frames = self.inside.taken_by(user);
        let recalls = frames.iter().filter(|frame| frame["type"] == "RECALLED");
        recalls.map(|frame| frame["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// Asserts that the table has the user and their contents where it is documented, and nowhere else.
    fn assert_nothing_left(&self, when: &str) {
        for item in self.inside.world().all_items() {
            let text = item.to_string();
            let (pk, sk) = (item["pk"]["S"].as_str().expect("a key"), item["sk"]["S"].as_str().expect("a key"));
            assert!(!text.contains("secret") && !text.contains("to be erased"), "{when}: {text}");
            if !text.contains(ERASED) {
                continue;
            }
            let is_recalled = item.get("recalledAt").is_some() || item.get("recalls").is_some();
            let is_documented = match (pk, sk) {
                ("USER#zoe", "STATE") => item.as_object().expect("an item").len() == 5,
                ("USER#zoe", "BAN" | "ERASED") => true,
                ("USER#dan", _) => sk.starts_with("LOG#") || sk == "READ#u#zoe",
                ("USER#fay", _) => sk.starts_with("INVITE#"),
                // An abandoned draft, which expires within days.
                (_, "DRAFT") => item.get("abandoned").is_some(),
                // What was withheld during the block stays withheld for as long as it is there.
                ("USER#carol" | "USER#gil", "VIEW#BLOCK#zoe") => {
                    item.get("since").is_none() && item.get("expiresAt").is_some()
                }
                _ => is_recalled && item.get("content").is_none(),
            };
            assert!(is_documented, "{when}: {text}");
        }
        let items = self.inside.world().all_items();
        assert!(
            items.iter().any(|item| item.to_string().contains("kept: ")),
            "{when}: former friends keep what they got"
        );
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn an_erasure_leaves_the_id_only_where_documented() {
    let Some(scene) = Scene::new().await else { return };
    scene.erase().await;
    scene.finish(0).await;
    assert!(!scene.is_erasing().await);
    scene.assert_nothing_left("undisturbed");
    let shown =
        scene.invoke(&functions::manage_group::FUNCTION, json!({ "method": "GET", "groupId": scene.managed })).await;
    assert_eq!(
        (&shown["managerId"], &shown["usersId"]),
        (&json!("bob"), &json!(["bob", "eve"])),
        "bob joined before eve"
    );
    assert_eq!(shown["members"], 2);
    let shown =
        scene.invoke(&functions::manage_group::FUNCTION, json!({ "method": "GET", "groupId": scene.joined })).await;
    assert_eq!((&shown["members"], &shown["usersId"]), (&json!(1), &json!(["bob"])));
}

#[tokio::test(start_paused = true)]
async fn an_erasure_that_is_killed_at_any_call_is_finished_by_its_repeat() {
    for calls in 1.. {
        let Some(scene) = Scene::new().await else { return };
        scene.erase().await;
        let was_killed = scene.finish(calls).await;
        assert!(!scene.is_erasing().await);
        scene.assert_nothing_left(&format!("killed at call {calls}"));
        if !was_killed {
            assert!(calls > 40, "{calls}: the kills reach every call");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_was_under_way_is_erased_by_the_second_pass() {
    let Some(scene) = Scene::new().await else { return };
    scene.erase().await;
    let first = scene.inside.world().take_jobs();
    for job in first {
        scene.run(&job).await;
    }
    // A function that was stalled writes only now what was accepted before the ban.
    let id = scene.inside.log(ERASED, "bob", scene.inside.world().now_ms() - 5_000, 7);
    let items = scene.inside.world().partition("USER#bob");
    let mut late = items.into_iter().find(|item| item["id"]["S"] == id.as_str()).expect("the late message");
    late["conversation"] = json!({ "S": "bob#zoe" });
    late["content"] = json!({ "S": "\"a late secret\"" });
    scene.inside.world().put(&late);
    scene.finish(0).await;
    scene.assert_nothing_left("after a late write");
}

#[tokio::test(start_paused = true)]
async fn those_who_see_the_messages_are_told_of_their_recall() {
    let Some(scene) = Scene::new().await else { return };
    scene.erase().await;
    scene.finish(0).await;
    // Three private messages, three in the managed group, one in the other.
    assert_eq!(scene.recalls_told_to("bob").len(), 7);
    // The erased user blocks eve. She gets their messages all the same.
    assert_eq!(scene.recalls_told_to("eve").len(), 3);
    assert!(scene.recalls_told_to("carol").is_empty(), "carol blocks the erased user");
}

#[tokio::test(start_paused = true)]
async fn who_blocked_an_erased_user_sees_nothing_that_was_withheld() {
    let Some(scene) = Scene::new().await else { return };
    scene.erase().await;
    scene.finish(0).await;
    let history = call("GET", "carol", "/api/history", None, "&userId=zoe", None);
    let shown: Value = body(&scene.inside.done(&functions::get_history::FUNCTION, &history).await);
    let shown = shown.as_array().expect("entries");
    assert_eq!(shown.len(), 1, "what came before the block: {shown:?}");
    assert!(shown[0].get("recalledAt").is_some(), "{shown:?}");
    // As long as messages are kept, and no longer.
    pass(31 * 24 * 60 * 60).await;
    let ties = scene.invoke(&functions::relationship::FUNCTION, json!({ "method": "GET", "userId": "carol" })).await;
    assert_eq!(ties["blocks"], json!([]), "{ties}");
    scene.inside.tie("carol", "blockedId", ERASED).await;
    let ties = scene.invoke(&functions::relationship::FUNCTION, json!({ "method": "GET", "userId": "carol" })).await;
    assert_eq!(ties["blocks"], json!([ERASED]), "a new block does not expire");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_comes_late_does_nothing_to_a_user_who_came_back() {
    let Some(scene) = Scene::new().await else { return };
    scene.erase().await;
    let first = scene.inside.world().take_jobs();
    for job in &first {
        scene.run(job).await;
    }
    scene.finish(0).await;
    pass(31 * 24 * 60 * 60).await;
    let (phone, group) = (scene.inside.connect(ERASED).await, scene.inside.create_group(ERASED).await);
    scene.inside.tie(ERASED, "friendId", "bob").await;
    scene.inside.send(ERASED, &phone, &json!({ "type": "multicast", "groupId": group, "content": "I am back" })).await;
    let before = scene.inside.world().all_items();
    for job in &first {
        scene.run(job).await;
    }
    assert_eq!(scene.inside.world().all_items(), before);
    assert!(scene.inside.world().take_jobs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_large_group_that_is_being_made_is_erased_too() {
    let Some(scene) = Scene::new().await else { return };
    let users: Vec<String> = (0..1_200).map(|n| format!("user-{n:05}")).collect();
    let ask = async |manager: &str, more: &str| {
        let users: Vec<&str> = users.iter().map(String::as_str).chain([more]).collect();
        let made =
            json!({ "method": "POST", "name": "large", "managerId": manager, "usersId": users, "requestId": manager });
        scene.invoke(&functions::manage_group::FUNCTION, made).await;
        scene.inside.world().take_jobs()
    };
    // One that the user would manage, and one that the user would be a member of.
    let (own, other) = (ask(ERASED, "hal").await, ask("hal", ERASED).await);
    for job in [&own[..1], &other[..]].concat() {
        scene.run(&job).await;
    }
    let makes = scene.inside.world().take_jobs();
    scene.erase().await;
    let erases = scene.inside.world().take_jobs();
    for job in erases.iter().chain(&own[1..]) {
        scene.run(job).await;
    }
    let later = scene.inside.world().take_jobs();
    pass(20).await;
    for job in &makes {
        scene.run(job).await;
    }
    pass(660).await;
    for job in &later {
        scene.run(job).await;
    }
    scene.finish(0).await;
    assert!(!scene.is_erasing().await);
    scene.assert_nothing_left("two groups were being made");
    let list = call("GET", "hal", "/api/group", None, "&detailed=false", None);
    let groups: Vec<String> = body(&scene.inside.done(&functions::list_groups::FUNCTION, &list).await);
    assert_eq!(groups.len(), 1, "the group of the erased manager is abandoned");
    let shown =
        scene.invoke(&functions::manage_group::FUNCTION, json!({ "method": "GET", "groupId": groups[0] })).await;
    assert_eq!(shown["members"], 1_201);
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_call_was_killed_does_not_hold_up_an_erasure() {
    for calls in 1.. {
        let Some(scene) = Scene::new().await else { return };
        let make =
            json!({ "method": "POST", "name": "few", "managerId": "hal", "usersId": [ERASED], "requestId": "r" });
        let made = scene.fragile.invoke_until(calls, &functions::manage_group::FUNCTION, &make.to_string()).await;
        scene.erase().await;
        scene.finish(0).await;
        assert!(!scene.is_erasing().await);
        scene.assert_nothing_left(&format!("killed at call {calls}"));
        if made.is_some() {
            assert!(calls > 5, "{calls}: the kills reach every call");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_erased_id_is_refused_until_messages_have_expired() {
    let Some(scene) = Scene::new().await else { return };
    scene.erase().await;
    scene.finish(0).await;
    let list = call("GET", ERASED, "/api/group", None, "", None);
    let refused = scene.inside.rest(&functions::list_groups::FUNCTION, &list).await;
    assert_eq!((&refused["statusCode"], &body::<Value>(&refused)["code"]), (&json!(403), &json!("banned")));
    pass(29 * 24 * 60 * 60).await;
    assert_eq!(scene.inside.rest(&functions::list_groups::FUNCTION, &list).await["statusCode"], 403);
    pass(2 * 24 * 60 * 60).await;
    scene.inside.done(&functions::list_groups::FUNCTION, &list).await;
    // The id begins anew, and nothing that expires is left in its state.
    scene.inside.connect(ERASED).await;
    let state = scene.inside.world().partition("USER#zoe").into_iter().find(|item| item["sk"]["S"] == "STATE");
    assert!(state.expect("a state").get("expiresAt").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_longer_ban_outlasts_an_erasure() {
    let Some(scene) = Scene::new().await else { return };
    scene.erase().await;
    let ban = json!({ "method": "BAN", "userId": ERASED, "until": "2100-01-01T00:00:00Z" });
    scene.invoke(&functions::manage_user::FUNCTION, ban).await;
    scene.finish(0).await;
    let shown = scene.invoke(&functions::manage_user::FUNCTION, json!({ "method": "GET", "userId": ERASED })).await;
    assert_eq!(shown["bannedUntil"], 4_102_444_800_000_u64);
    // A ban that would end before the erased id may come back lasts until then.
    let ban = json!({ "method": "BAN", "userId": ERASED, "until": "2027-01-16T00:00:00Z" });
    scene.invoke(&functions::manage_user::FUNCTION, ban).await;
    let shown = scene.invoke(&functions::manage_user::FUNCTION, json!({ "method": "GET", "userId": ERASED })).await;
    assert!(shown["bannedUntil"].as_u64() > Some(1_801_000_000_000), "{shown}");
}
