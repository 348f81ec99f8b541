//! The policies of `template.yaml`. The local stack refuses what they do not allow, so every other test shows that they
//! allow enough. These show that they allow no more, and that the refusal works.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::{join, join_all, join5};
use localstack::Options;
use serde_json::{Value, json};

use crate::identity::{about_to_expire, until_expired_by};
use crate::stack::{Directory, Local, with};
use crate::world::User;
use crate::world::deployment::free_ports;
use crate::world::device::unicast;
use crate::world::example::{Cast, endpoints, frames};
use crate::world::patience::within;
use crate::world::scene::{friends_at, group_of};

/// Why a user is told of a message by its name.
const NOT_TAKEN: &str = "an open connection did not take a message";

/// Why a message is written again.
const CUT_OFF: &str = "a first attempt to send did not finish";

/// Why items are deleted in passing.
const CUT_SHORT: &str = "a dissolution was cut short more than half a minute ago";

/// The permissions that only a failure leads to, and which.
const RARE: &[(&str, &str)] = &[
    ("fanout dynamodb:GetItem USER#", "another function changed the state of a user at the same time"),
    ("fanout dynamodb:UpdateItem USER#", NOT_TAKEN),
    ("message dynamodb:ConditionCheckItem USER#", CUT_OFF),
    ("send_as dynamodb:ConditionCheckItem USER#", CUT_OFF),
    ("fanout execute-api:ManageConnections DELETE", "connections were closed half a minute ago"),
    ("fanout dynamodb:GetItem GROUP#", "a group of more than 1,000 members is being made"),
    ("send_message dynamodb:ConditionCheckItem USER#", CUT_OFF),
    ("notification dynamodb:UpdateItem USER#", "a connection has died unnoticed"),
    ("pull_messages dynamodb:BatchGetItem GROUP#", NOT_TAKEN),
    ("pull_messages dynamodb:BatchGetItem USER#", NOT_TAKEN),
    ("pull_messages dynamodb:DeleteItem GROUP#", CUT_SHORT),
    ("pull_messages dynamodb:DeleteItem USER#", CUT_SHORT),
];

/// How long a job may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_policy_allows_no_more_than_its_function_calls() {
    // Groups of more than two go through the queue and get a second shard, and a third connection closes the oldest.
    let limits =
        [("FANOUT_MEMBERS", "2"), ("ROSTER_SHARD", "2"), ("MAX_CONNECTIONS", "2"), ("JWT_LEEWAY_SECONDS", "0")];
    let Some(local) = Local::start(with(&limits)).await else { return };
    let allowed = local.unused_permissions();
    let rare: BTreeSet<String> = RARE.iter().map(|(permission, _)| (*permission).to_owned()).collect();
    assert!(rare.is_subset(&allowed), "no policy allows {:?}", rare.difference(&allowed));
    join5(documented(&local), messages(&local), groups(&local), back_end(&local), business(&local)).await;
    let too_much = || local.unused_permissions().difference(&rare).cloned().collect::<Vec<_>>();
    // Jobs run after the call that queued them is answered.
    let jobs = async {
        while !too_much().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, jobs).await;
    assert_eq!(too_much(), [""; 0]);
    local.stop().await;
}

/// The template without one permission of one function.
fn template_without(function: &str, permission: &str) -> String {
    let template = include_str!("../../template.yaml");
    let (before, rest) = template.split_once(&format!("  {function}:\n")).expect("the function");
    let (policy, after) = rest.split_once(permission).expect("the permission");
    format!("{before}  {function}:\n{policy}{after}")
}

#[tokio::test]
async fn a_call_that_no_policy_allows_is_refused() {
    let directory = Directory::new();
    std::fs::create_dir_all(directory.path()).expect("a directory can be made");
    let template = directory.path().join("template.yaml");
    std::fs::write(&template, template_without("MessageFunction", "dynamodb:PutItem, ")).expect("it can be written");
    let options = Options { template: Some(template), ..free_ports() };
    let Some(local) = Local::start(options).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let mut online = alice.connect().await;
    online.send_text(&unicast(bob.id(), Some("1"), "1")).await;
    online.expect_error("unavailable", "").await;
    assert!(bob.pull().await.is_empty());
    local.stop().await;
}

/// Every call and every frame that the documents show: delivered, withheld, and with an expired token.
async fn documented(local: &Local) {
    let call = async |route| {
        let cast = Cast::at(local.deployment()).await;
        cast.call(route).await.ok();
        cast.call_with_more(route).await;
    };
    let send = async |frame: Value| {
        let cast = Cast::at(local.deployment()).await;
        let (mut sender, _receiver) = (cast.alice.connect_2().await, cast.bob.connect_2().await);
        let text = cast.play(frame.clone()).to_string();
        sender.send_text(&text).await;
        cast.bob.block(&cast.alice).await;
        sender.send_text(&text).await;
        let mut expiring = about_to_expire(&local.user("erin")).connect_2().await;
        let malformed = json!({ "type": frame["type"] }).to_string();
        within("the token to expire", until_expired_by(&mut expiring, &malformed)).await;
    };
    let calls = join_all(endpoints().into_iter().map(|(_, route)| call(route)));
    join(calls, join_all(frames().into_iter().map(|(.., frame)| send(frame)))).await;
}

/// Private messages: taken, missed, repeated, withheld; and too many connections.
async fn messages(local: &Local) {
    let (alice, bob) = friends_at(local.deployment()).await;
    let mut sender = alice.connect().await;
    let mut receiver = bob.connect().await;
    sender.send(&bob, "taken").await;
    receiver.expect_private(&alice, "taken").await;
    sender.send_text(&unicast(bob.id(), Some("again"), "\"once\"")).await;
    let first = sender.expect_ack("again").await;
    sender.send_text(&unicast(bob.id(), Some("again"), "\"once\"")).await;
    assert_eq!(sender.expect_ack("again").await.id, first.id);
    bob.block(&alice).await;
    sender.send(&bob, "withheld").await;
    bob.unblock(&alice).await;
    for _ in 0..3 {
        bob.connect().await;
    }
    receiver.expect_private(&alice, "once").await;
    receiver.leave().await;
    sender.send(&bob, "missed").await;
    // The second drop replaces what the first one remembers.
    for _ in 0..2 {
        let page = bob.pull_with(&[("drop", "false")]).await;
        bob.delete("/api/message", &[("page", &page.token.expect("a missed message"))]).await.empty();
        sender.send(&bob, "missed again").await;
    }
    sender.send(&bob, "dropped").await;
    bob.pull().await;
    conversations(local).await;
}

/// Histories, read marks, recalls, typing, and messages by REST.
async fn conversations(local: &Local) {
    let (alice, bob) = friends_at(local.deployment()).await;
    let group = group_of(&alice, &[&bob]).await;
    let (mut sender, mut receiver) = (alice.connect_2().await, bob.connect_2().await);
    let (to_bob, in_group) = (("userId", bob.id()), ("groupId", group.as_str()));
    for blocked in [false, true] {
        if blocked {
            bob.block(&alice).await;
        }
        sender.send_text(&json!({ "type": "typing", "receiverId": bob.id() }).to_string()).await;
        let message = alice.send_by_rest(&bob, "hi").await;
        alice.mark_read(to_bob, &message.id).await.empty();
        alice.recall(&message.id, ("receiverId", bob.id())).await.empty();
        let frame = json!({ "type": "multicast", "groupId": group, "content": 1, "requestId": "r" });
        alice.post_json("/api/message", &frame).await.ok();
        alice.post_json("/api/message", &frame).await.ok();
    }
    let empty = group_of(&alice, &[]).await;
    alice.invite(&bob, &empty).await.empty();
    bob.unblock(&alice).await;
    let in_place = sender.send_group(&group, 1).await;
    alice.recall(&in_place.id, in_group).await.empty();
    alice.mark_read(in_group, &in_place.id).await.empty();
    alice.history(to_bob, &[]).await;
    alice.history(in_group, &[]).await;
    bob.conversations().await;
    let path = format!("/api/group/{group}");
    alice.put(&format!("{path}/mute"), &[("userId", bob.id()), ("minutes", "5")]).await.empty();
    let refused = json!({ "type": "multicast", "groupId": group, "content": 1, "requestId": "refused" });
    bob.post_json("/api/message", &refused).await.refused(403, "muted");
    receiver.send_text(&refused.to_string()).await;
    while !receiver.next("an answer").await.says("requestId", "refused") {}
    bob.leave_group(&group).await.empty();
    alice.bring(&bob, &group).await;
    alice.delete(&format!("{path}/mute"), &[("userId", bob.id())]).await.empty();
    alice.put(&path, &[("managerId", bob.id())]).await.empty();
    receiver.leave().await;
    let large = group_of(&alice, &[&bob, &local.user("carol"), &local.user("dave")]).await;
    let frame = json!({ "type": "multicast", "groupId": large, "content": 1 });
    let message: serde_json::Value = alice.post_json("/api/message", &frame).await.json();
    alice.recall(message["id"].as_str().expect("an id"), ("groupId", &large)).await.empty();
}

/// Groups from their founding to their end, in place and by the queue.
async fn groups(local: &Local) {
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| local.user(name));
    let group = group_of(&alice, &[&bob, &carol]).await;
    alice.invite(&dave, &group).await.empty();
    dave.decline(&dave.invitation().await.id).await.empty();
    alice.rename(&group, "renamed").await;
    alice.group(&group).await;
    alice.groups().await;
    alice.get("/api/group", &[("detailed", "false")]).await.ok();
    let mut sender = alice.connect().await;
    let mut online = bob.connect().await;
    sender.send_group(&group, "in place").await;
    online.expect_in_group(&group, &alice, "in place").await;
    alice.bring(&dave, &group).await;
    sender.send_group(&group, "by the queue").await;
    online.expect_in_group(&group, &alice, "by the queue").await;
    carol.pull().await;
    bob.leave_group(&group).await.empty();
    let eve = local.user("eve");
    alice.invite(&eve, &group).await.empty();
    alice.leave_group(&group).await.empty();
    eve.invitations().await;
}

/// Messages, groups, bans and erasures of the back end.
async fn business(local: &Local) {
    let (alice, bob) = friends_at(local.deployment()).await;
    let [carol, dave, shop] = ["carol", "dave", "shop"].map(|name| local.user(name));
    let back_end = alice.back_end();
    let call = async |method: &str, path: &str, body: serde_json::Value| {
        let call = back_end.call(method.parse().expect("a method"), path).json(&body).send().await;
        assert!(call.status < 300, "{call:?}");
        serde_json::from_str::<serde_json::Value>(&call.body).unwrap_or_default()
    };
    let users: Vec<&str> = [&alice, &bob, &carol].map(User::id).to_vec();
    let group = call("POST", "/group", json!({ "name": "all", "managerId": alice.id(), "usersId": users })).await;
    let path = format!("/group/{}", group.as_str().expect("an id"));
    call("GET", &path, json!({})).await;
    call("PUT", &format!("{path}?name=new"), json!({})).await;
    call("PUT", &format!("{path}/members/{}", dave.id()), json!({})).await;
    let (_till, _online, _second) = (shop.connect_2().await, bob.connect_2().await, bob.connect().await);
    for blocked in [false, true] {
        if blocked {
            bob.block(&shop).await;
        }
        let private =
            json!({ "from": shop.id(), "type": "unicast", "receiverId": bob.id(), "content": 1, "requestId": "r" });
        let sent = call("POST", "/message", private).await;
        let id = sent["id"].as_str().expect("an id");
        call("DELETE", &format!("/message/{id}?receiverId={}&from={}", bob.id(), shop.id()), json!({})).await;
    }
    let pair = call("POST", "/group", json!({ "name": "two", "managerId": carol.id(), "usersId": [bob.id()] })).await;
    for group in [&group, &pair] {
        let to_group =
            json!({ "from": shop.id(), "type": "multicast", "groupId": group, "content": 1, "requestId": group });
        let id = call("POST", "/message", to_group).await["id"].as_str().expect("an id").to_owned();
        let group = group.as_str().expect("an id");
        call("DELETE", &format!("/message/{id}?groupId={group}&from={}", shop.id()), json!({})).await;
    }
    let to_nobody = json!({
        "from": shop.id(), "type": "multicast", "groupId": "nowhere", "content": 1, "requestId": "refused",
    });
    back_end.call("POST".parse().expect("a method"), "/message").json(&to_nobody).send().await.refused(404, "group");
    alice.send_by_rest(&bob, "to be erased").await;
    alice.send_by_rest(&dave, "to somebody who is away").await;
    let frame = json!({ "type": "multicast", "groupId": pair, "content": 1 });
    carol.post_json("/api/message", &frame).await.ok();
    call("PUT", &format!("{path}?managerId={}", bob.id()), json!({})).await;
    call("PUT", &format!("{path}?managerId={}", alice.id()), json!({})).await;
    call("DELETE", &format!("{path}/members/{}", dave.id()), json!({})).await;
    call("GET", &format!("/user/{}", bob.id()), json!({})).await;
    let _kicked = dave.connect().await;
    call("DELETE", &format!("/user/{}/connections", dave.id()), json!({})).await;
    let _banned = dave.connect().await;
    call("PUT", &format!("/user/{}/ban?until=2100-01-01T00:00:00Z", dave.id()), json!({})).await;
    call("DELETE", &format!("/user/{}/ban", dave.id()), json!({})).await;
    for user in [&alice, &carol] {
        call("GET", &format!("/user/{}/export", user.id()), json!({})).await;
    }
    let _erased = alice.connect().await;
    call("DELETE", &format!("/user/{}", alice.id()), json!({})).await;
    call("DELETE", &format!("/user/{}", carol.id()), json!({})).await;
    let third = call("POST", "/group", json!({ "name": "end", "managerId": shop.id(), "usersId": users })).await;
    call("DELETE", &format!("/group/{}", third.as_str().expect("an id")), json!({})).await;
}

/// What the back end asks for.
async fn back_end(local: &Local) {
    let (alice, bob) = friends_at(local.deployment()).await;
    let carol = local.user("carol");
    let group = group_of(&alice, &[&bob, &carol]).await;
    let mut online = alice.connect().await;
    let notice = json!({ "notificationType": "like", "content": 1 });
    let back_end = alice.back_end();
    back_end.notify(&[("to", alice.id())], &notice).await.empty();
    online.expect_notification(&notice).await;
    back_end.notify(&[("type", "broadcast"), ("from", bob.id())], &notice).await.empty();
    let pair = group_of(&alice, &[&bob]).await;
    for group in [&group, &pair] {
        back_end.notify(&[("type", "multicast"), ("to", group)], &notice).await.empty();
    }
    alice.leave_group(&pair).await.empty();
    alice.block(&bob).await;
    back_end.ties(alice.id()).await;
    alice.unblock(&bob).await;
    alice.unfriend(&bob).await;
}
