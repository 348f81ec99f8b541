//! Section 7: histories, which are the same on every device.

use serde_json::{Value, json};

use crate::world::User;
use crate::world::device::{new_request_id, unicast};
use crate::world::page::BEGINNING;
use crate::world::scene::{friends, friends_online, group_of, three_in_a_group};

/// An id that no message has so far.
const LAST: &str = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ";

fn numbers(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(Value::from).collect()
}

#[tokio::test]
async fn both_users_have_the_same_history_with_their_own_messages() {
    let (mut alice, mut bob) = friends_online().await;
    alice.send(&bob, "hi").await;
    bob.send(&alice, "hello").await;
    let of_alice = alice.expect_history(("userId", bob.id()), &[json!("hi"), json!("hello")]).await;
    let of_bob = bob.expect_history(("userId", alice.id()), &[json!("hi"), json!("hello")]).await;
    assert_eq!(of_alice.messages, of_bob.messages);
    of_alice.messages[0].is_private(&alice, &bob, &json!("hi"));
    of_alice.messages[1].is_private(&bob, &alice, &json!("hello"));
}

#[tokio::test]
async fn a_history_survives_pulls_and_drops() {
    let (alice, bob) = friends().await;
    alice.send_by_rest(&bob, "hi").await;
    bob.pull().await;
    assert!(bob.pull().await.is_empty());
    bob.expect_history(("userId", alice.id()), &[json!("hi")]).await;
}

#[tokio::test]
async fn pages_of_any_size_make_up_the_history_in_both_directions() {
    let (mut alice, bob) = friends_online().await;
    let with = ("userId", alice.id().to_owned());
    let mut ids = Vec::new();
    for n in 0..7_u64 {
        ids.push(alice.send(&bob, n).await.id);
    }
    let with = (with.0, with.1.as_str());
    bob.expect_history(with, &numbers(0..7)).await;
    for size in ["1", "2", "3", "7", "100"] {
        let (mut back, mut before) = (Vec::new(), None::<String>);
        loop {
            let mut more = vec![("limit", size)];
            more.extend(before.as_deref().map(|id| ("before", id)));
            let page = bob.history(with, &more).await;
            back.splice(0..0, page.ids());
            before = page.next;
            if !page.has_more {
                break;
            }
        }
        assert_eq!(back, ids, "backwards by {size}");
        let (mut forward, mut after) = (Vec::new(), BEGINNING.to_owned());
        loop {
            let page = bob.history(with, &[("limit", size), ("after", &after)]).await;
            forward.extend(page.ids());
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(forward, ids, "forwards by {size}");
    }
    assert_eq!(bob.history(with, &[("before", &ids[3]), ("limit", "2")]).await.ids(), ids[1..3]);
    assert_eq!(bob.history(with, &[("after", &ids[3]), ("limit", "2")]).await.ids(), ids[4..6]);
    assert!(bob.history(with, &[("before", BEGINNING)]).await.ids().is_empty());
    assert!(bob.history(with, &[("after", LAST)]).await.ids().is_empty());
}

#[tokio::test]
async fn a_withheld_message_is_in_its_senders_history_only() {
    let (mut alice, bob) = friends_online().await;
    let (bob_with, alice_with) = (("userId", alice.id().to_owned()), ("userId", bob.id().to_owned()));
    let (bob_with, alice_with) = ((bob_with.0, bob_with.1.as_str()), (alice_with.0, alice_with.1.as_str()));
    alice.send(&bob, "before").await;
    bob.block(&alice).await;
    alice.send(&bob, "blocked").await;
    alice.expect_history(alice_with, &[json!("before"), json!("blocked")]).await;
    bob.expect_history(bob_with, &[json!("before")]).await;
    bob.unblock(&alice).await;
    alice.send(&bob, "after").await;
    alice.expect_history(alice_with, &[json!("before"), json!("blocked"), json!("after")]).await;
    bob.expect_history(bob_with, &[json!("before"), json!("after")]).await;
}

#[tokio::test]
async fn messages_to_strangers_and_to_nobody_are_in_the_senders_history() {
    let (mut alice, stranger) = (User::new("alice").connect().await, User::new("stranger"));
    alice.send(&stranger, "hi").await;
    alice.expect_history(("userId", stranger.id()), &[json!("hi")]).await;
    assert!(stranger.history(("userId", alice.id()), &[]).await.ids().is_empty());
    let nobody = format!("nobody-{}", new_request_id());
    alice.send_text(&unicast(&nobody, Some("r"), "1")).await;
    alice.expect_ack("r").await;
    alice.expect_history(("userId", &nobody), &[json!(1)]).await;
}

#[tokio::test]
async fn a_history_stays_when_a_friendship_ends() {
    let (alice, bob) = friends().await;
    alice.send_by_rest(&bob, "hi").await;
    alice.unfriend(&bob).await;
    bob.expect_history(("userId", alice.id()), &[json!("hi")]).await;
    alice.expect_history(("userId", bob.id()), &[json!("hi")]).await;
}

#[tokio::test]
async fn users_who_never_talked_have_an_empty_history() {
    let (alice, bob) = friends().await;
    let history = alice.history(("userId", bob.id()), &[]).await;
    assert!(history.ids().is_empty() && !history.has_more);
}

#[tokio::test]
async fn a_group_history_has_the_messages_of_all_from_joining_on() {
    let (alice, bob, carol) = (User::new("alice"), User::new("bob"), User::new("carol"));
    let group = group_of(&alice, &[&bob]).await;
    let (mut a, mut b) = (alice.connect().await, bob.connect().await);
    a.send_group(&group, "one").await;
    b.send_group(&group, "two").await;
    alice.bring(&carol, &group).await;
    carol.connect().await.send_group(&group, "three").await;
    let all = [json!("one"), json!("two"), json!("three")];
    let of_alice = alice.expect_history(("groupId", &group), &all).await;
    let of_bob = bob.expect_history(("groupId", &group), &all).await;
    assert_eq!(of_alice.messages, of_bob.messages);
    of_alice.messages[1].is_in_group(&group, &bob, &json!("two"));
    carol.expect_history(("groupId", &group), &all[2..]).await;
}

#[tokio::test]
async fn a_group_history_is_for_members_only() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    alice.connect().await.send_group(&group, "hi").await;
    let denied = "you are not a member of this group";
    carol.leave_group(&group).await.empty();
    carol.get("/api/history", &[("groupId", &group)]).await.refused(403, denied);
    carol.get("/api/history", &[("groupId", "nothing")]).await.refused(403, denied);
    bob.expect_history(("groupId", &group), &[json!("hi")]).await;
    alice.leave_group(&group).await.empty();
    bob.get("/api/history", &[("groupId", &group)]).await.refused(403, denied);
}

#[tokio::test]
async fn a_group_history_leaves_out_whom_the_reader_blocked_then() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let mut a = alice.connect().await;
    a.send_group(&group, "before").await;
    bob.block(&alice).await;
    a.send_group(&group, "during").await;
    bob.unblock(&alice).await;
    a.send_group(&group, "after").await;
    bob.expect_history(("groupId", &group), &[json!("before"), json!("after")]).await;
    carol.expect_history(("groupId", &group), &[json!("before"), json!("during"), json!("after")]).await;
}

#[tokio::test]
async fn a_blocked_flood_ends_no_history() {
    let (alice, bob) = friends().await;
    alice.send_by_rest(&bob, "first").await;
    alice.block(&bob).await;
    let mut flooder = bob.connect().await;
    for n in 0..120_u64 {
        flooder.send_text(&unicast(alice.id(), None, &n.to_string())).await;
    }
    flooder.send(&alice, "last").await;
    alice.unblock(&bob).await;
    bob.send_by_rest(&alice, "second").await;
    alice.expect_history(("userId", bob.id()), &[json!("first"), json!("second")]).await;
    let (mut found, mut before) = (Vec::new(), None::<String>);
    loop {
        let mut more = vec![("limit", "1")];
        more.extend(before.as_deref().map(|id| ("before", id)));
        let page = alice.history(("userId", bob.id()), &more).await;
        found.splice(0..0, page.contents());
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(found, [json!("first"), json!("second")]);
}

#[tokio::test]
async fn the_longest_messages_fit_into_a_page() {
    let (mut alice, bob) = friends_online().await;
    // A line break takes two bytes in the answer of a function.
    let content = format!("[{}]", "\n".repeat(32_000));
    for n in 0..100 {
        let request = format!("r{n}");
        alice.send_text(&unicast(bob.id(), Some(&request), &content)).await;
        alice.expect_ack(&request).await;
    }
    let (mut count, mut before) = (0, None::<String>);
    loop {
        let mut more = vec![("limit", "100")];
        more.extend(before.as_deref().map(|id| ("before", id)));
        let page = bob.history(("userId", alice.id()), &more).await;
        assert!(!page.messages.is_empty());
        count += page.messages.len();
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!(count, 100);
}

#[tokio::test]
async fn each_wrong_parameter_is_refused_by_name() {
    let (alice, group) = (User::new("alice"), "g");
    for (params, named) in [
        (vec![], "userId or groupId is missing"),
        (vec![("userId", "a"), ("groupId", group)], "groupId does not go with userId"),
        (vec![("userId", "a b")], "userId"),
        (vec![("groupId", "")], "groupId"),
        (vec![("userId", "a"), ("userId", "b")], "userId is given more than once"),
        (vec![("userId", "a"), ("before", "x")], "before"),
        (vec![("userId", "a"), ("after", "7ZZZZZZZZZZZZZZZZZZZZZZZZl")], "after"),
        (vec![("userId", "a"), ("before", LAST), ("after", BEGINNING)], "after does not go with before"),
        (vec![("userId", "a"), ("limit", "0")], "limit must be a whole number from 1 to 100"),
        (vec![("userId", "a"), ("limit", "101")], "limit"),
        (vec![("userId", "a"), ("limit", "-1")], "limit"),
        (vec![("userId", "a"), ("limit", "1e1")], "limit"),
        (vec![("userId", "a"), ("Limit", "1")], "limit must be spelt"),
    ] {
        alice.get("/api/history", &params).await.refused(400, named);
    }
}
