//! Section 9: the back end sends messages, recalls them, and makes groups. Section 6: it imports relationships.

use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{Local, with};
use crate::world::device::{new_request_id, unicast};
use crate::world::scene::{friends, three_in_a_group};
use crate::world::{Answer, BackEnd, User};

async fn post(back_end: &BackEnd, path: &str, body: &Value) -> Answer {
    back_end.call(Method::POST, path).json(body).send().await
}

async fn call(back_end: &BackEnd, method: &str, path: &str) -> Answer {
    back_end.call(method.parse().expect("a method"), path).send().await
}

/// A message of the back end to a user.
fn to_user(from: &User, to: &User, content: &str) -> Value {
    json!({ "from": from.id(), "type": "unicast", "receiverId": to.id(), "content": content })
}

/// A message of the back end to a group.
fn to_group(from: &User, group: &str, content: &str) -> Value {
    json!({ "from": from.id(), "type": "multicast", "groupId": group, "content": content })
}

async fn new_group(back_end: &BackEnd, manager: &User, members: &[&User]) -> String {
    let users: Vec<&str> = members.iter().map(|user| user.id()).collect();
    post(back_end, "/group", &json!({ "name": "order", "managerId": manager.id(), "usersId": users })).await.json()
}

#[tokio::test]
async fn a_message_of_the_back_end_is_like_any_other() {
    let (shop, alice, back_end) = (User::new("shop"), User::new("alice"), BackEnd::new());
    let (mut phone, mut till) = (alice.connect().await, shop.connect_2().await);
    let accepted: Value = post(&back_end, "/message", &to_user(&shop, &alice, "paid")).await.json();
    let frame = phone.expect_private(&shop, "paid").await;
    assert_eq!(
        (json!(frame.id()), json!(frame.number("timestamp"))),
        (accepted["id"].clone(), accepted["timestamp"].clone())
    );
    till.expect_private_to(&alice, "paid").await;
    phone.leave().await;
    post(&back_end, "/message", &to_user(&shop, &alice, "sent")).await.ok();
    assert_eq!(alice.pull().await.contents_but(&["paid"]), ["sent"]);
    for (user, other) in [(&alice, &shop), (&shop, &alice)] {
        user.expect_history(("userId", other.id()), &[json!("paid"), json!("sent")]).await;
    }
}

#[tokio::test]
async fn a_message_of_the_back_end_reaches_a_group_that_the_sender_is_not_in() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let (shop, mut phone) = (User::new("shop"), bob.connect().await);
    bob.back_end();
    alice.block(&shop).await;
    let mut blocker = alice.connect().await;
    post(&bob.back_end(), "/message", &to_group(&shop, &group, "shipped")).await.ok();
    phone.expect_in_group(&group, &shop, "shipped").await;
    blocker.expect_nothing().await;
}

#[tokio::test]
async fn a_blocker_gets_no_message_and_the_answer_is_the_same() {
    let (shop, alice, back_end) = (User::new("shop"), User::new("alice"), BackEnd::new());
    alice.block(&shop).await;
    let mut phone = alice.connect().await;
    let answer: Value = post(&back_end, "/message", &to_user(&shop, &alice, "buy")).await.json();
    assert_eq!(answer.as_object().expect("an object").len(), 2);
    phone.expect_nothing().await;
    assert!(alice.pull().await.is_empty());
}

#[tokio::test]
async fn a_repeat_by_its_request_id_sends_once() {
    let (alice, bob) = friends().await;
    let (back_end, mut phone) = (BackEnd::new(), bob.connect().await);
    let request_id = new_request_id();
    let body = |content: &str| {
        let mut body = to_user(&alice, &bob, content);
        body["requestId"] = json!(request_id);
        body
    };
    // The sender's own request ids are others.
    let mut own = alice.connect().await;
    own.send_text(&unicast(bob.id(), Some(&request_id), "\"mine\"")).await;
    own.expect_ack(&request_id).await;
    phone.expect_private(&alice, "mine").await;
    let first: Value = post(&back_end, "/message", &body("theirs")).await.json();
    assert_eq!(post(&back_end, "/message", &body("theirs")).await.json::<Value>(), first);
    let reused = post(&back_end, "/message", &body("other")).await.refused(409, "requestId");
    assert_eq!(reused.code.as_deref(), Some("request_id_reused"));
    phone.expect_private(&alice, "theirs").await;
    phone.expect_nothing().await;
}

#[tokio::test]
async fn each_wrong_field_of_a_message_is_named() {
    let (shop, alice, back_end) = (User::new("shop"), User::new("alice"), BackEnd::new());
    let good = to_user(&shop, &alice, "x");
    for (field, value, named) in [
        ("from", json!(null), "from"),
        ("from", json!("a b"), "from"),
        ("from", json!(alice.id()), "receiverId must be another user"),
        ("type", json!("broadcast"), "type"),
        ("receiverId", json!(7), "receiverId"),
        ("content", json!(null), "content"),
        ("requestId", json!(""), "requestId"),
        ("content", json!("x".repeat(32 * 1024)), "content"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        post(&back_end, "/message", &body).await.refused(400, named);
    }
    post(&back_end, "/message", &json!({})).await.refused(400, "from is missing");
    post(&back_end, "/message", &json!([])).await.refused(400, "object");
    post(&back_end, "/message", &to_group(&shop, "nobody", "x")).await.refused(404, "no such group");
    let refusal = back_end.invoke("send_as", &json!({ "from": shop.id() })).await.expect_err("a refusal");
    assert_eq!((refusal.error_type.as_str(), refusal.error_message.as_str()), ("BadRequest", "type is missing"));
    let sent = back_end.invoke("send_as", &good).await.expect("it is sent");
    assert!(sent["id"].is_string() && sent["timestamp"].is_number(), "{sent}");
}

#[tokio::test]
async fn the_back_end_recalls_any_message() {
    let Some(local) = Local::start(with(&[("RECALL_MINUTES", "0")])).await else { return };
    let (alice, bob) = (local.user("alice"), local.user("bob"));
    alice.befriend(&bob).await;
    let (mut sender, mut phone, back_end) = (alice.connect().await, bob.connect_2().await, alice.back_end());
    let sent = sender.send(&bob, "rude").await;
    phone.expect_private(&alice, "rude").await;
    alice.recall(&sent.id, ("receiverId", bob.id())).await.refused(403, "too old");
    let path = format!("/message/{}?receiverId={}&from={}", sent.id, bob.id(), alice.id());
    call(&back_end, "DELETE", &path).await.empty();
    let recalled = phone.next("a RECALLED").await;
    assert!(recalled.says("type", "RECALLED") && recalled.id() == sent.id, "{recalled:?}");
    let history = bob.expect_history(("userId", alice.id()), &[]).await;
    assert_eq!(history.ids(), std::slice::from_ref(&sent.id));
    call(&back_end, "DELETE", &path).await.empty();
    let other = format!("/message/{}?receiverId={}&from={}", sent.id, bob.id(), bob.id());
    call(&back_end, "DELETE", &other).await.refused(404, "no such message of this sender");
    for (path, named) in [
        (format!("/message/{}?from=a", sent.id), "receiverId or groupId"),
        (format!("/message/{}?receiverId=a", sent.id), "from is missing"),
        (format!("/message/{}?receiverId=a&groupId=b&from=c", sent.id), "groupId"),
        ("/message/x?receiverId=a&from=c".to_owned(), "id"),
    ] {
        call(&back_end, "DELETE", &path).await.refused(400, named);
    }
    let payload = json!({ "id": sent.id, "receiverId": bob.id(), "from": alice.id() });
    back_end.invoke("moderate_message", &payload).await.expect("recalling again succeeds");
    local.stop().await;
}

#[tokio::test]
async fn a_receiver_who_is_no_friend_is_told_of_a_recall() {
    let (shop, alice, back_end) = (User::new("shop"), User::new("alice"), BackEnd::new());
    let mut phone = alice.connect_2().await;
    let sent: Value = post(&back_end, "/message", &to_user(&shop, &alice, "wrong")).await.json();
    phone.expect_private(&shop, "wrong").await;
    let id = sent["id"].as_str().expect("an id");
    let path = format!("/message/{id}?receiverId={}&from={}", alice.id(), shop.id());
    call(&back_end, "DELETE", &path).await.empty();
    let recalled = phone.next("a RECALLED").await;
    assert!(recalled.says("type", "RECALLED") && recalled.id() == id, "{recalled:?}");
}

#[tokio::test]
async fn the_back_end_recalls_in_groups_for_members_only() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let (mut phone, back_end) = (alice.connect().await, alice.back_end());
    let sent = phone.send_group(&group, "rude").await;
    let path = |from: &User| format!("/message/{}?groupId={group}&from={}", sent.id, from.id());
    call(&back_end, "DELETE", &path(&bob)).await.refused(404, "no such message");
    call(&back_end, "DELETE", &path(&alice)).await.empty();
    bob.expect_history(("groupId", &group), &[]).await;
    assert!(bob.pull().await.is_empty());
}

#[tokio::test]
async fn a_group_is_made_with_its_members() {
    let [agent, alice, bob] = ["agent", "alice", "bob"].map(User::new);
    let (back_end, mut phone) = (BackEnd::new(), alice.connect_2().await);
    let group = new_group(&back_end, &agent, &[&alice, &bob, &agent, &alice]).await;
    let told = phone.next("a GROUP").await;
    assert!(
        told.says("event", "joined") && told.says("groupId", &group) && told.says("userId", alice.id()),
        "{told:?}"
    );
    let seen = alice.group(&group).await;
    assert_eq!((seen.name.as_str(), seen.manager_id.as_str()), ("order", agent.id()));
    let mut members = [agent.id(), alice.id(), bob.id()];
    members.sort_unstable();
    assert_eq!(seen.members(), members);
    let shown: Value = call(&back_end, "GET", &format!("/group/{group}")).await.json();
    assert_eq!(
        shown,
        json!({ "id": group, "name": "order", "managerId": agent.id(), "members": 3, "usersId": members })
    );
    let mut speaker = bob.connect().await;
    speaker.send_group(&group, "hello").await;
    phone.expect_in_group(&group, &bob, "hello").await;
    assert_eq!(agent.pull().await.contents(), ["hello"]);
}

#[tokio::test]
async fn a_repeat_by_its_request_id_makes_one_group() {
    let (agent, alice, back_end) = (User::new("agent"), User::new("alice"), BackEnd::new());
    let mut body =
        json!({ "name": "order", "managerId": agent.id(), "usersId": [alice.id()], "requestId": new_request_id() });
    let group: String = post(&back_end, "/group", &body).await.json();
    alice.leave_group(&group).await.empty();
    assert_eq!(post(&back_end, "/group", &body).await.json::<String>(), group);
    assert_eq!(agent.group(&group).await.members(), [agent.id()], "a repeat brings nobody back");
    assert_eq!(agent.groups().await.len(), 1);
    for (field, other) in [("name", json!("refund")), ("managerId", json!(alice.id())), ("usersId", json!([]))] {
        let same = std::mem::replace(&mut body[field], other);
        let reused = post(&back_end, "/group", &body).await.refused(409, "requestId");
        assert_eq!(reused.code.as_deref(), Some("request_id_reused"));
        body[field] = same;
    }
    assert_eq!(post(&back_end, "/group", &body).await.json::<String>(), group);
}

#[tokio::test]
async fn members_are_put_in_and_taken_out() {
    let [agent, alice, bob] = ["agent", "alice", "bob"].map(User::new);
    let back_end = BackEnd::new();
    let group = new_group(&back_end, &agent, &[&alice]).await;
    let member = |user: &User| format!("/group/{group}/members/{}", user.id());
    for _ in 0..2 {
        call(&back_end, "PUT", &member(&bob)).await.empty();
    }
    assert_eq!(bob.group(&group).await.users_id.len(), 3);
    let mut speaker = alice.connect().await;
    speaker.send_group(&group, "hello").await;
    assert_eq!(bob.pull().await.contents(), ["hello"]);
    for _ in 0..2 {
        call(&back_end, "DELETE", &member(&bob)).await.empty();
    }
    bob.see_group(&group).await.refused(403, "not a member");
    call(&back_end, "DELETE", &member(&agent)).await.refused(409, "manager");
    assert_eq!(agent.group(&group).await.users_id.len(), 2);
    call(&back_end, "PUT", "/group/nobody/members/x").await.refused(404, "no such group");
    call(&back_end, "DELETE", "/group/nobody/members/x").await.empty();
    call(&back_end, "PUT", &format!("/group/{group}/members/a%20b")).await.refused(400, "userId");
    call(&back_end, "PUT", &format!("{}?name=x", member(&bob))).await.refused(400, "name does not go with userId");
}

#[tokio::test]
async fn a_group_is_renamed_handed_over_and_dissolved() {
    let [agent, alice, bob] = ["agent", "alice", "bob"].map(User::new);
    let back_end = BackEnd::new();
    let group = new_group(&back_end, &agent, &[&alice]).await;
    let path = |query: &str| format!("/group/{group}{query}");
    call(&back_end, "PUT", &path("?name=refund")).await.empty();
    call(&back_end, "PUT", &path(&format!("?managerId={}", alice.id()))).await.empty();
    let seen = agent.group(&group).await;
    assert_eq!((seen.name.as_str(), seen.manager_id.as_str()), ("refund", alice.id()));
    call(&back_end, "PUT", &path(&format!("?managerId={}", bob.id()))).await.refused(400, "managerId");
    call(&back_end, "PUT", &path("")).await.refused(400, "name or managerId");
    call(&back_end, "PUT", &path(&format!("?name=x&managerId={}", agent.id()))).await.refused(400, "managerId");
    call(&back_end, "PUT", &path("?name=%20")).await.refused(400, "name");
    call(&back_end, "PUT", "/group/nobody?name=x").await.refused(404, "no such group");
    // Whoever means one member must not dissolve the group.
    call(&back_end, "DELETE", &path(&format!("?userId={}", bob.id()))).await.refused(400, "no parameters");
    let with_body = back_end.call(Method::DELETE, &path("")).json(&json!({ "userId": bob.id() }));
    with_body.send().await.refused(400, "a member is part of the path");
    let member = json!({ "method": "DELETE", "groupId": group, "user": bob.id() });
    let refusal = back_end.invoke("manage_group", &member).await.expect_err("a refusal");
    assert!(refusal.error_message.contains("only method and groupId"), "{refusal:?}");
    assert_eq!(agent.group(&group).await.users_id.len(), 2);
    for _ in 0..2 {
        call(&back_end, "DELETE", &path("")).await.empty();
    }
    alice.see_group(&group).await.refused(403, "not a member");
    call(&back_end, "GET", &path("")).await.refused(404, "no such group");
}

#[tokio::test]
async fn each_wrong_field_of_a_group_is_named() {
    let (agent, back_end) = (User::new("agent"), BackEnd::new());
    let good = json!({ "name": "order", "managerId": agent.id(), "usersId": [] });
    for (field, value, named) in [
        ("name", json!(null), "name"),
        ("name", json!(" "), "name"),
        ("name", json!("x".repeat(101)), "name"),
        ("managerId", json!("a b"), "managerId"),
        ("usersId", json!("alice"), "usersId"),
        ("usersId", json!(["alice", 7]), "usersId"),
        ("usersId", json!(["alice", "a b"]), "usersId[1]"),
        ("requestId", json!("x".repeat(65)), "requestId"),
        ("requestId", json!(null), "requestId"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        post(&back_end, "/group", &body).await.refused(400, named);
    }
    post(&back_end, "/group", &json!({ "name": "x", "managerId": "m" })).await.refused(400, "usersId is missing");
    let many: Vec<String> = (0..1_000).map(|n| format!("u{n}")).collect();
    let mut body = good.clone();
    body["usersId"] = json!(many);
    post(&back_end, "/group", &body).await.refused(400, "usersId has too many members");
    assert!(agent.groups().await.is_empty());
}

#[tokio::test]
async fn the_limits_of_groups_hold_for_the_back_end() {
    let Some(local) = Local::start(with(&[("MAX_GROUPS", "1"), ("MAX_GROUP_MEMBERS", "2")])).await else { return };
    let [agent, alice, bob, carol] = ["agent", "alice", "bob", "carol"].map(|name| local.user(name));
    let back_end = agent.back_end();
    let group = new_group(&back_end, &agent, &[&alice]).await;
    let body = json!({ "name": "x", "managerId": bob.id(), "usersId": [alice.id()] });
    post(&back_end, "/group", &body).await.refused(409, alice.id());
    assert!(bob.groups().await.is_empty());
    call(&back_end, "PUT", &format!("/group/{group}/members/{}", bob.id())).await.refused(409, "the limit");
    let second = new_group(&back_end, &bob, &[]).await;
    call(&back_end, "PUT", &format!("/group/{second}/members/{}", alice.id())).await.refused(409, "limit of groups");
    call(&back_end, "PUT", &format!("/group/{second}/members/{}", carol.id())).await.empty();
    local.stop().await;
}

#[tokio::test]
async fn groups_are_managed_by_direct_invocation_too() {
    let (agent, alice, back_end) = (User::new("agent"), User::new("alice"), BackEnd::new());
    let invoke = async |payload: Value| back_end.invoke("manage_group", &payload).await;
    let made = json!({ "method": "POST", "name": "order", "managerId": agent.id(), "usersId": [] });
    let group = invoke(made).await.expect("it is made");
    let member = json!({ "method": "PUT", "groupId": group, "userId": alice.id() });
    invoke(member).await.expect("a member is put in");
    invoke(json!({ "method": "PUT", "groupId": group, "name": "new" })).await.expect("it is renamed");
    let shown = invoke(json!({ "method": "GET", "groupId": group })).await.expect("it is shown");
    assert_eq!((&shown["name"], &shown["members"]), (&json!("new"), &json!(2)));
    invoke(json!({ "method": "DELETE", "groupId": group, "userId": alice.id() })).await.expect("a member is taken out");
    invoke(json!({ "method": "DELETE", "groupId": group })).await.expect("it is dissolved");
    for (payload, kind, named) in [
        (json!({ "method": "GET", "groupId": group }), "NotFound", "no such group"),
        (json!({ "method": "PATCH", "groupId": group }), "BadRequest", "method"),
        (json!({ "groupId": group }), "BadRequest", "method is missing"),
        (json!({ "method": "GET" }), "BadRequest", "groupId is missing"),
        (
            json!({ "method": "PUT", "groupId": group, "userId": "x", "name": "y" }),
            "BadRequest",
            "name does not go with userId",
        ),
        (
            json!({ "method": "DELETE", "groupId": group, "userId": "x", "managerId": "y" }),
            "BadRequest",
            "managerId does not go",
        ),
    ] {
        let refusal = invoke(payload).await.expect_err("a refusal");
        assert_eq!(refusal.error_type, kind);
        assert!(refusal.error_message.contains(named), "{refusal:?}");
    }
}

#[tokio::test]
async fn relationships_are_imported_at_once() {
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(User::new);
    let back_end = BackEnd::new();
    let changes = json!([
        { "userId": alice.id(), "friend": bob.id() },
        { "userId": alice.id(), "friend": carol.id() },
        { "userId": alice.id(), "block": carol.id() },
        { "userId": carol.id(), "unfriend": alice.id() },
        { "userId": bob.id(), "block": alice.id() },
        { "userId": bob.id(), "unblock": alice.id() },
    ]);
    for _ in 0..2 {
        let done: Value = post(&back_end, "/relationship", &changes).await.json();
        assert_eq!(done, json!({ "done": 6 }));
        let ties = back_end.ties(alice.id()).await;
        assert_eq!((ties.friends, ties.blocks), (vec![bob.id().to_owned()], vec![carol.id().to_owned()]));
        assert!(back_end.ties(bob.id()).await.blocks.is_empty());
    }
    let done = back_end.invoke("relationship", &json!({ "method": "POST", "changes": changes })).await;
    assert_eq!(done.expect("they are made"), json!({ "done": 6 }));
}

#[tokio::test]
async fn the_first_wrong_change_is_named_and_nothing_is_done() {
    let (alice, bob, back_end) = (User::new("alice"), User::new("bob"), BackEnd::new());
    let good = json!({ "userId": alice.id(), "friend": bob.id() });
    for (wrong, named) in [
        (json!({ "userId": alice.id() }), "[1] must have exactly one of"),
        (json!({ "userId": alice.id(), "friend": bob.id(), "block": bob.id() }), "[1] must have exactly one of"),
        (json!({ "userId": alice.id(), "friend": "a b" }), "[1].friend"),
        (json!({ "userId": 7, "friend": bob.id() }), "[1].userId"),
        (json!({ "friend": bob.id() }), "[1] userId is missing"),
        (json!({ "userId": alice.id(), "friend": alice.id() }), "[1].friend must be another user"),
        (json!("friend"), "[1]"),
    ] {
        post(&back_end, "/relationship", &json!([good, wrong])).await.refused(400, named);
    }
    post(&back_end, "/relationship", &good).await.refused(400, "array");
    post(&back_end, "/relationship", &json!(vec![good.clone(); 1_001])).await.refused(400, "1001");
    assert!(back_end.ties(alice.id()).await.friends.is_empty());
    let none: Value = post(&back_end, "/relationship", &json!([])).await.json();
    assert_eq!(none, json!({ "done": 0 }));
}
