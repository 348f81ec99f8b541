//! Section 9: kick, ban, erasure and export. Section 2: the limit of what a user may send in a minute.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{Local, with};
use crate::world::device::{multicast, unicast};
use crate::world::scene::{friends, friends_at, three_in_a_group};
use crate::world::{Answer, BackEnd, Handshake, User, within};

async fn call(back_end: &BackEnd, method: &str, path: &str) -> Answer {
    back_end.call(method.parse().expect("a method"), path).send().await
}

async fn ban(user: &User, until: &str) {
    call(&user.back_end(), "PUT", &format!("/user/{}/ban?until={until}", user.id())).await.empty();
}

async fn unban(user: &User) {
    call(&user.back_end(), "DELETE", &format!("/user/{}/ban", user.id())).await.empty();
}

async fn shown(user: &User) -> Value {
    call(&user.back_end(), "GET", &format!("/user/{}", user.id())).await.json()
}

const FAR: &str = "2100-01-01T00:00:00Z";
const FAR_MS: u64 = 4_102_444_800_000;

#[tokio::test]
async fn a_kick_closes_every_connection_and_the_user_may_come_back() {
    let (alice, bob) = friends().await;
    let (phone, laptop, mut other) = (alice.connect().await, alice.connect_2().await, bob.connect().await);
    assert_eq!(shown(&alice).await["connections"], 2);
    call(&alice.back_end(), "DELETE", &format!("/user/{}/connections", alice.id())).await.empty();
    phone.expect_close().await;
    laptop.expect_close().await;
    assert_eq!(shown(&alice).await["connections"], 0);
    other.send(&alice, "while away").await;
    let mut again = alice.connect().await;
    assert_eq!(alice.pull().await.contents(), ["while away"]);
    other.send(&alice, "back").await;
    again.expect_private(&bob, "back").await;
    call(&alice.back_end(), "DELETE", "/user/nobody/connections").await.empty();
}

#[tokio::test]
async fn a_banned_user_is_told_closed_and_refused_everywhere() {
    let (alice, bob, _, group) = three_in_a_group().await;
    alice.befriend(&bob).await;
    let mut phone = alice.connect().await;
    ban(&alice, FAR).await;
    let farewell = phone.next("an ERROR").await;
    assert!(farewell.says("code", "banned") && farewell.number("until") == FAR_MS, "{farewell:?}");
    phone.expect_close().await;
    assert_eq!(Handshake::of(&alice).refused().await, 403);
    for function in functions::ALL {
        let functions::Trigger::Rest(route) = function.trigger else { continue };
        let path = crate::world::call::filled(route.path);
        let method: Method = route.method.parse().expect("a method");
        // With parameters and a body with which each call would go as far as it can.
        let params = [("userId", bob.id()), ("until", "01ARZ3NDEKTSV4RRFFQ69G5FAV"), ("name", "x"), ("minutes", "5")];
        let wanted = |name: &&(&str, &str)| function.parameters().contains(&name.0);
        let params: Vec<_> = params.iter().filter(wanted).copied().collect();
        let call = alice.call(method, &path).params(&params);
        let call = match function.name {
            "send_message" => call.json(&json!({ "type": "unicast", "receiverId": bob.id(), "content": 1 })),
            "invite" => call.json(&json!({ "groupId": group, "userId": "x" })),
            "recall_message" => {
                alice.call(Method::DELETE, "/api/message/01ARZ3NDEKTSV4RRFFQ69G5FAV").param("receiverId", bob.id())
            }
            "drop_messages" => call.param("page", "x"),
            _ => call,
        };
        let problem = call.send().await.refused(403, "banned");
        assert_eq!((problem.code.as_deref(), problem.until), (Some("banned"), Some(FAR_MS)), "{}", function.name);
    }
    assert_eq!(shown(&alice).await["bannedUntil"], FAR_MS);
    unban(&alice).await;
    assert!(shown(&alice).await.get("bannedUntil").is_none());
    let mut back = alice.connect().await;
    back.send(&bob, "back").await;
    assert_eq!(bob.pull().await.contents(), ["back"]);
}

#[tokio::test]
async fn a_ban_ends_by_itself() {
    let (alice, _) = friends().await;
    let soon = crate::world::clock::now_ms() / 1_000 + 2;
    let until = time(soon);
    ban(&alice, &until).await;
    alice.get("/api/group", &[]).await.refused(403, "banned");
    let waiting = async {
        while alice.get("/api/group", &[]).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the end of the ban", waiting).await;
    alice.connect().await;
}

/// A time in RFC 3339, of seconds since the epoch.
fn time(seconds: u64) -> String {
    use aws_smithy_types::DateTime;
    use aws_smithy_types::date_time::Format;
    let time = DateTime::from_secs(i64::try_from(seconds).expect("a time of today"));
    time.fmt(Format::DateTime).expect("a time of today")
}

#[tokio::test]
async fn each_wrong_field_of_a_ban_is_named() {
    let (alice, back_end) = (User::new("alice"), BackEnd::new());
    let path = |query: &str| format!("/user/{}/ban{query}", alice.id());
    for query in
        ["", "?until=", "?until=tomorrow", "?until=2001-01-01T00:00:00Z", "?until=9999-01-01T00:00:00Z", "?Until=x"]
    {
        call(&back_end, "PUT", &path(query)).await.refused(400, "until");
    }
    call(&back_end, "GET", "/user/a%20b").await.refused(400, "userId");
    let invoke = async |payload: Value| back_end.invoke("manage_user", &payload).await;
    invoke(json!({ "method": "BAN", "userId": alice.id(), "until": "2100-01-01T01:00:00+01:00" }))
        .await
        .expect("a ban");
    assert_eq!(shown(&alice).await["bannedUntil"], FAR_MS);
    invoke(json!({ "method": "UNBAN", "userId": alice.id() })).await.expect("an end");
    invoke(json!({ "method": "DISCONNECT", "userId": alice.id() })).await.expect("a kick");
    let seen = invoke(json!({ "method": "GET", "userId": alice.id() })).await.expect("a user");
    assert_eq!(seen, json!({ "connections": 0, "groups": [] }));
    let refusal = invoke(json!({ "method": "PUT", "userId": alice.id() })).await.expect_err("a refusal");
    assert!(refusal.error_message.contains("method"), "{refusal:?}");
}

#[tokio::test]
async fn an_erased_user_leaves_nothing_with_friends_and_in_groups() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    alice.befriend(&bob).await;
    carol.block(&alice).await;
    alice.block(&carol).await;
    let (mut phone, mut other) = (alice.connect().await, bob.connect().await);
    phone.send(&bob, "a private secret").await;
    phone.send_group(&group, "a secret of the group").await;
    other.send(&alice, "to alice").await;
    call(&alice.back_end(), "DELETE", &format!("/user/{}", alice.id())).await.status_is(202);
    phone.expect_private(&bob, "to alice").await;
    assert!(phone.next("an ERROR").await.says("code", "banned"));
    phone.expect_close().await;
    // The manager's group goes to its oldest member.
    let waiting = async {
        while bob.group(&group).await.manager_id == alice.id() || bob.group(&group).await.users_id.len() > 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the end of the first pass", waiting).await;
    assert_eq!(bob.group(&group).await.manager_id, bob.id());
    let settled = |history: &crate::world::conversations::History| history.contents().is_empty();
    bob.history_that(("userId", alice.id()), settled).await;
    bob.history_that(("groupId", &group), settled).await;
    let ended = async {
        while !alice.back_end().ties(bob.id()).await.friends.is_empty()
            || !alice.back_end().ties(carol.id()).await.blocks.is_empty()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the end of the relations", ended).await;
    alice.get("/api/message", &[]).await.refused(403, "banned");
    let seen = shown(&alice).await;
    assert_eq!((&seen["erasing"], &seen["groups"]), (&json!(true), &json!([])));
    call(&alice.back_end(), "DELETE", &format!("/user/{}/ban", alice.id())).await.refused(409, "erased");
    call(&alice.back_end(), "DELETE", &format!("/user/{}", alice.id())).await.status_is(202);
}

#[tokio::test]
async fn an_export_has_what_is_stored_of_a_user() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    alice.befriend(&bob).await;
    alice.block(&carol).await;
    carol.block(&alice).await;
    let (mut phone, mut other, mut third) = (alice.connect().await, bob.connect().await, carol.connect().await);
    let first = phone.send(&bob, "one").await;
    other.send(&alice, "two").await;
    phone.send_group(&group, "three").await;
    third.send(&alice, "withheld").await;
    alice.mark_read(("userId", bob.id()), &first.id).await.empty();
    let path = |after: Option<&str>| {
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        format!("/user/{}/export{after}", alice.id())
    };
    let mut entries: Vec<Value> = Vec::new();
    let exporting = async {
        // Histories may lack the newest messages for a moment.
        loop {
            entries.clear();
            let mut after: Option<String> = None;
            loop {
                let page: Value = call(&alice.back_end(), "GET", &path(after.as_deref())).await.json();
                entries.extend(page["entries"].as_array().expect("entries").iter().cloned());
                match page["next"].as_str() {
                    Some(next) => after = Some(next.to_owned()),
                    None => break,
                }
            }
            if entries.iter().filter(|entry| entry["kind"] == "message").count() == 3 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the export", exporting).await;
    let of = |kind: &str| entries.iter().filter(|entry| entry["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(of("user")[0]["connections"], 1);
    assert_eq!(of("friend"), [&json!({ "kind": "friend", "userId": bob.id() })]);
    assert_eq!((of("block").len(), &of("block")[0]["userId"]), (1, &json!(carol.id())));
    assert_eq!((of("group").len(), &of("group")[0]["groupId"]), (1, &json!(group)));
    assert_eq!((of("read").len(), &of("read")[0]["until"]), (1, &json!(first.id)));
    let mut contents: Vec<&str> =
        of("message").iter().map(|entry| entry["content"].as_str().expect("a text")).collect();
    contents.sort_unstable();
    assert_eq!(contents, ["one", "three", "two"]);
    call(&alice.back_end(), "GET", &path(Some("x"))).await.refused(400, "after");
    let page = alice.back_end().invoke("export_user", &json!({ "userId": alice.id() })).await.expect("an export");
    assert_eq!(page["entries"][0]["kind"], "user");
}

#[tokio::test]
async fn an_export_of_the_largest_contents_comes_in_pages() {
    let alice = User::new("alice");
    let friends: Vec<User> = (0..4).map(|n| User::new(&format!("friend-{n}"))).collect();
    let mut phone = alice.connect().await;
    // Quotes double as they are escaped.
    let largest = "\"".repeat(15_000);
    for friend in &friends {
        alice.befriend(friend).await;
        for _ in 0..28 {
            phone.send(friend, largest.as_str()).await;
        }
    }
    let (mut after, mut messages) = (String::new(), 0);
    within("the export", async {
        loop {
            let path = format!("/user/{}/export{after}", alice.id());
            let answer = call(&alice.back_end(), "GET", &path).await;
            // A function answers with at most 6 MB, and the body is escaped in it.
            let bytes = json!(answer.body).to_string().len();
            assert!(bytes < 6_000_000, "{bytes}");
            let page: Value = answer.json();
            let entries = page["entries"].as_array().expect("entries");
            messages += entries.iter().filter(|entry| entry["kind"] == "message").count();
            match page["next"].as_str() {
                Some(next) => after = format!("?after={next}"),
                None => break,
            }
        }
    })
    .await;
    assert_eq!(messages, 4 * 28);
}

#[tokio::test]
async fn a_user_who_sends_too_much_must_wait() {
    let Some(local) = Local::start(with(&[("MESSAGES_PER_MINUTE", "5")])).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let (mut phone, mut other) = (alice.connect_2().await, bob.connect_2().await);
    // A minute may end in between, so the messages are counted until the refusal.
    let mut sent = 0;
    let refusal = loop {
        let request_id = format!("r{sent}");
        phone.send_text(&unicast(bob.id(), Some(&request_id), &sent.to_string())).await;
        let answer = phone.next("an answer").await;
        assert!(answer.says("requestId", &request_id), "{answer:?}");
        if !answer.says("type", "ACK") {
            break answer;
        }
        sent += 1;
        assert!(sent <= 10, "two minutes, at most");
    };
    assert!(sent >= 5 && refusal.says("code", "rate_limited"), "{sent}: {refusal:?}");
    assert!((1..=60_000).contains(&refusal.number("retryAfterMs")), "{refusal:?}");
    for content in 0..sent {
        other.expect_private(&alice, content).await;
    }
    let frame = json!({ "type": "unicast", "receiverId": bob.id(), "content": "x" });
    let limited = alice.post_json("/api/message", &frame).await;
    if limited.status == 429 {
        assert!(limited.header("retry-after").is_some_and(|seconds| (1..=60).contains(&seconds.parse().unwrap_or(0))));
        let problem = limited.refused(429, "too much");
        assert_eq!(problem.code.as_deref(), Some("rate_limited"));
        assert!(problem.retry_after_ms.is_some_and(|ms| ms <= 60_000));
        let recall = alice.recall("01ARZ3NDEKTSV4RRFFQ69G5FAV", ("receiverId", bob.id())).await;
        recall.refused(429, "too much");
        let read = alice.mark_read(("userId", bob.id()), "01ARZ3NDEKTSV4RRFFQ69G5FAV").await;
        read.refused(429, "too much");
        phone.send_text(&json!({ "type": "typing", "receiverId": bob.id() }).to_string()).await;
        // The malformed frame is refused first, and a withheld one like any other.
        phone.send_text("{").await;
        phone.expect_error("bad_request", "JSON").await;
        phone.send_text(&unicast("nobody", Some("n"), "1")).await;
        assert!(phone.next("an ERROR").await.says("code", "rate_limited"));
        phone.send_text(&multicast("nothing", Some("g"), "1")).await;
        assert!(phone.next("an ERROR").await.says("code", "rate_limited"));
    }
    // Others are not limited, and reading is not.
    other.send(&alice, "hello").await;
    phone.expect_private(&bob, "hello").await;
    alice.history(("userId", bob.id()), &[]).await;
    local.stop().await;
}
