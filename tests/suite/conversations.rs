//! Section 7: the list of conversations, read marks and receipts.

use serde_json::json;

use crate::world::User;
use crate::world::page::BEGINNING;
use crate::world::scene::{friends, friends_online, three_in_a_group};

#[tokio::test]
async fn friends_and_groups_are_listed_in_the_order_of_their_ids() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    alice.befriend(&bob).await;
    alice.befriend(&carol).await;
    let listed = alice.conversations().await;
    let mut ids: Vec<&str> = listed.iter().map(|one| one.id()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let mut expected = vec![bob.id(), carol.id(), group.as_str()];
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    for one in &listed {
        assert_eq!(one.r#type, if one.group_id.is_some() { "multicast" } else { "unicast" });
        assert_eq!(one.name.as_deref(), one.group_id.as_ref().map(|_| "walkers"));
        assert_eq!((one.unread, one.unread_more, one.last.is_none()), (0, false, true));
        assert_eq!((&one.read_until, &one.peer_read_until), (&None, &None));
    }
}

#[tokio::test]
async fn a_conversation_has_its_last_message_and_the_number_of_unread_ones() {
    let (alice, bob) = friends().await;
    for n in 0..3_u64 {
        alice.send_by_rest(&bob, n).await;
    }
    let last = bob.send_by_rest(&alice, "mine").await;
    let of_bob = bob.conversation_that(alice.id(), |one| one.unread == 3).await;
    let frame = of_bob.last.expect("a last message");
    assert_eq!(frame.id(), last.id);
    frame.is_private(&bob, &alice, &json!("mine"));
    let of_alice = alice.conversation_that(bob.id(), |one| one.last.is_some() && one.unread == 1).await;
    assert_eq!(of_alice.last.expect("a last message").id(), last.id);
}

#[tokio::test]
async fn a_read_mark_moves_forward_only_and_on_all_devices() {
    let (alice, bob) = friends().await;
    let (mut phone, mut laptop) = (bob.connect_2().await, bob.connect_2().await);
    let mut ids = Vec::new();
    for n in 0..3_u64 {
        ids.push(alice.send_by_rest(&bob, n).await.id);
        phone.expect_private(&alice, n).await;
        laptop.expect_private(&alice, n).await;
    }
    bob.conversation_that(alice.id(), |one| one.unread == 3).await;
    let with = ("userId", alice.id());
    bob.mark_read(with, &ids[1]).await.empty();
    let fields = json!({ "readerId": bob.id(), "userId": alice.id(), "until": ids[1] });
    phone.expect_frame("READ", &fields).await;
    laptop.expect_frame("READ", &fields).await;
    let read = bob.conversation_that(alice.id(), |one| one.unread == 1).await;
    assert_eq!(read.read_until.as_ref(), Some(&ids[1]));
    bob.mark_read(with, &ids[0]).await.empty();
    bob.mark_read(with, &ids[1]).await.empty();
    phone.expect_nothing().await;
    assert_eq!(bob.conversation_that(alice.id(), |_| true).await.read_until.as_ref(), Some(&ids[1]));
    bob.mark_read(with, &ids[2]).await.empty();
    bob.conversation_that(alice.id(), |one| one.unread == 0).await;
}

#[tokio::test]
async fn a_friend_learns_what_was_read() {
    let (alice, bob) = friends().await;
    let mut sender = alice.connect_2().await;
    let message = alice.send_by_rest(&bob, "hi").await;
    sender.expect_private_to(&bob, "hi").await;
    bob.mark_read(("userId", alice.id()), &message.id).await.empty();
    let fields = json!({ "readerId": bob.id(), "userId": bob.id(), "until": message.id });
    sender.expect_frame("READ", &fields).await;
    let told = alice.conversation_that(bob.id(), |one| one.peer_read_until.is_some()).await;
    assert_eq!(told.peer_read_until, Some(message.id));
}

#[tokio::test]
async fn a_receipt_stops_while_either_blocks_the_other() {
    for blocks_sender in [true, false] {
        let (alice, bob) = friends().await;
        let first = alice.send_by_rest(&bob, 1).await;
        let second = alice.send_by_rest(&bob, 2).await;
        bob.mark_read(("userId", alice.id()), &first.id).await.empty();
        alice.conversation_that(bob.id(), |one| one.peer_read_until.as_ref() == Some(&first.id)).await;
        let mut sender = alice.connect_2().await;
        match blocks_sender {
            true => bob.block(&alice).await,
            false => alice.block(&bob).await,
        }
        bob.mark_read(("userId", alice.id()), &second.id).await.empty();
        match blocks_sender {
            true => bob.unblock(&alice).await,
            false => alice.unblock(&bob).await,
        }
        sender.expect_nothing().await;
        let after = alice.conversation_that(bob.id(), |_| true).await;
        assert_eq!(after.peer_read_until.as_ref(), Some(&first.id), "{blocks_sender}");
        let own = bob.conversation_that(alice.id(), |_| true).await;
        assert_eq!(own.read_until.as_ref(), Some(&second.id), "{blocks_sender}");
    }
}

#[tokio::test]
async fn a_group_tells_nobody_what_was_read_but_the_reader() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let (mut sender, mut reader) = (alice.connect_2().await, bob.connect_2().await);
    let id = sender.send_group(&group, "hi").await.id;
    reader.expect_in_group(&group, &alice, "hi").await;
    bob.conversation_that(&group, |one| one.unread == 1).await;
    bob.mark_read(("groupId", &group), &id).await.empty();
    reader.expect_frame("READ", &json!({ "readerId": bob.id(), "groupId": group, "until": id })).await;
    sender.expect_nothing().await;
    let read = bob.conversation_that(&group, |one| one.unread == 0).await;
    assert_eq!((read.read_until, read.peer_read_until), (Some(id), None));
}

#[tokio::test]
async fn a_user_whom_the_caller_blocks_is_not_listed() {
    let (alice, bob) = friends().await;
    alice.block(&bob).await;
    assert!(alice.conversations().await.is_empty());
    assert_eq!(bob.conversations().await.len(), 1, "the blocked user sees no change");
    alice.unblock(&bob).await;
    assert_eq!(alice.conversations().await.len(), 1);
}

#[tokio::test]
async fn a_withheld_message_is_the_last_one_for_its_sender_only() {
    let (alice, bob) = friends().await;
    let seen = alice.send_by_rest(&bob, "seen").await;
    bob.block(&alice).await;
    let withheld = alice.send_by_rest(&bob, "withheld").await;
    let is = |id: &str| {
        let id = id.to_owned();
        move |one: &crate::world::conversations::Conversation| one.last.as_ref().is_some_and(|last| last.id() == id)
    };
    alice.conversation_that(bob.id(), is(&withheld.id)).await;
    bob.unblock(&alice).await;
    let of_bob = bob.conversation_that(alice.id(), is(&seen.id)).await;
    assert_eq!(of_bob.unread, 1);
}

#[tokio::test]
async fn more_than_100_unread_messages_are_100_and_more() {
    let (mut alice, bob) = friends_online().await;
    for n in 0..101_u64 {
        alice.send(&bob, n).await;
    }
    let many = bob.conversation_that(alice.id(), |one| one.unread == 100).await;
    assert!(many.unread_more);
}

#[tokio::test]
async fn many_recalls_hide_neither_the_last_message_nor_unread_ones() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let mut sender = alice.connect().await;
    let important = sender.send_group(&group, "important").await;
    let mut recalled = Vec::new();
    for n in 0..105_u64 {
        recalled.push(sender.send_group(&group, n).await.id);
    }
    for id in &recalled {
        alice.recall(id, ("groupId", &group)).await.empty();
    }
    let listed = bob.conversation_that(&group, |one| one.unread == 1).await;
    assert!(!listed.unread_more);
    let last = listed.last.expect("a last message");
    assert_eq!(Some(&last.id()), recalled.last(), "the last message, though it is recalled");
    assert!(important.id < last.id());
}

#[tokio::test]
async fn long_lists_have_pages() {
    let alice = User::new("alice");
    let mut expected = Vec::new();
    for n in 0..101 {
        let friend = User::new(&format!("friend{n:03}"));
        alice.befriend(&friend).await;
        expected.push(friend.id().to_owned());
    }
    expected.push(alice.create_group("walkers").await);
    expected.sort_unstable();
    let (mut listed, mut after) = (Vec::new(), None::<String>);
    loop {
        let params: Vec<_> = after.as_deref().map(|after| ("after", after)).into_iter().collect();
        let answer = alice.get("/api/conversation", &params).await;
        let next = answer.header("x-next").map(str::to_owned);
        assert_eq!(answer.header("x-has-more"), Some(if next.is_some() { "true" } else { "false" }));
        let page: Vec<crate::world::conversations::Conversation> = answer.json();
        assert!(page.len() <= 100);
        listed.extend(page.iter().map(|one| one.id().to_owned()));
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn wrong_parameters_are_refused() {
    let (alice, bob) = friends().await;
    for after in ["", "x", BEGINNING, "u-", "g-a b"] {
        alice.get("/api/conversation", &[("after", after)]).await.refused(400, "after");
    }
    let with = ("userId", bob.id());
    alice.put("/api/read", &[with]).await.refused(400, "until is missing");
    alice.mark_read(with, "x").await.refused(400, "until");
    alice.mark_read(with, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ").await.refused(400, "until must not lie in the future");
    alice.put("/api/read", &[("until", BEGINNING)]).await.refused(400, "userId or groupId is missing");
    alice.mark_read(("groupId", "nothing"), BEGINNING).await.refused(403, "you are not a member");
    alice.mark_read(("userId", "nobody"), BEGINNING).await.empty();
}
