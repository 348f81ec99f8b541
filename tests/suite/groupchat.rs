//! Section 2: group messages.

use crate::private::ODD_SPELLINGS;
use crate::world::device::{Device, multicast, new_request_id};
use crate::world::frame::is_ulid;
use crate::world::page::BEGINNING;
use crate::world::scene::{group_of, three_in_a_group};
use crate::world::{Frame, User, once};

#[tokio::test]
async fn a_group_message_reaches_the_other_members() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let (mut alice, mut bob, mut carol) = (alice.connect().await, bob.connect().await, carol.connect().await);
    bob.send_text(&multicast(&group, None, r#""hi all""#)).await;
    alice.expect_in_group(&group, &bob, "hi all").await;
    carol.expect_in_group(&group, &bob, "hi all").await;
}

#[tokio::test]
async fn an_acknowledgement_names_the_group_message_that_arrives() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    let accepted = alice.send_group(&group, 1).await;
    let frame = bob.expect_in_group(&group, &alice, 1).await;
    assert_eq!((frame.id(), frame.number("timestamp")), (accepted.id, accepted.timestamp));
}

#[tokio::test]
async fn a_sender_does_not_receive_their_own_message() {
    let (alice, _, _, group) = three_in_a_group().await;
    let (mut phone, mut laptop) = (alice.connect().await, alice.connect().await);
    phone.send_group(&group, "hi").await;
    phone.expect_nothing().await;
    laptop.expect_nothing().await;
    assert!(alice.pull().await.is_empty());
}

#[tokio::test]
async fn each_socket_of_a_member_gets_a_group_message() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let (mut phone, mut laptop) = (bob.connect().await, bob.connect().await);
    alice.connect().await.send_group(&group, 1).await;
    phone.expect_in_group(&group, &alice, 1).await;
    laptop.expect_in_group(&group, &alice, 1).await;
}

#[tokio::test]
async fn a_content_is_kept_byte_for_byte_in_a_group() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    for spelling in ODD_SPELLINGS {
        let request_id = new_request_id();
        alice.send_text(&multicast(&group, Some(&request_id), spelling)).await;
        alice.expect_ack(&request_id).await;
        assert_eq!(bob.next("the odd content").await.raw("content"), spelling);
    }
    let missed: Vec<_> = carol.pull().await.messages().map(|m| m.raw("content").to_owned()).collect();
    assert_eq!(missed, ODD_SPELLINGS);
}

#[tokio::test]
async fn a_member_who_is_away_misses_a_group_message() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    alice.send_group(&group, "hi").await;
    let live = bob.expect_in_group(&group, &alice, "hi").await;
    let page = carol.pull().await;
    assert_eq!(page.messages().collect::<Vec<&Frame>>(), [&live]);
    assert!(carol.pull().await.is_empty());
}

#[tokio::test]
async fn a_group_message_that_a_member_received_is_not_missed() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    once("nothing missed", async |number| {
        alice.send_group(&group, number).await;
        bob.expect_in_group(&group, &alice, number).await;
        bob.pull().await.is_empty()
    })
    .await;
}

/// A deployment with a low limit for large groups, such as the one behind the emulator, sends this message through its
/// queue.
#[tokio::test]
async fn a_message_reaches_each_of_a_dozen_members() {
    let (alice, others) = (User::new("alice"), [(); 11].map(|()| User::new("member")));
    let group = group_of(&alice, &others.each_ref()).await;
    let [blocker, online, away @ ..] = &others;
    blocker.block(&alice).await;
    let (mut sender, mut unmoved) = (alice.connect().await, blocker.connect().await);
    let mut devices = [online.connect().await, online.connect().await, away[0].connect().await];
    let accepted = sender.send_group(&group, "hi all").await;
    for device in &mut devices {
        assert_eq!(device.expect_in_group(&group, &alice, "hi all").await.id(), accepted.id);
    }
    for user in &away[1..] {
        assert_eq!(user.pull().await.ids(), std::slice::from_ref(&accepted.id), "{}", user.id());
    }
    unmoved.expect_nothing().await;
    for user in [&alice, blocker] {
        assert!(user.pull().await.is_empty(), "{}", user.id());
    }
}

#[tokio::test]
async fn a_member_who_blocks_the_sender_does_not_receive_them() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    bob.block(&alice).await;
    let (mut alice, mut bob, mut carol) = (alice.connect().await, bob.connect().await, carol.connect().await);
    alice.send_group(&group, "hi").await;
    carol.expect_in_group(&group, &alice, "hi").await;
    bob.expect_nothing().await;
    carol.send_group(&group, "hello").await;
    bob.expect_in_group(&group, &carol, "hello").await;
    assert!(bob.pull().await.contents_but(&["hello"]).is_empty());
    assert_eq!(bob.since(BEGINNING).await.contents(), ["hello"]);
}

#[tokio::test]
async fn an_absent_member_who_blocks_the_sender_misses_nothing() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    bob.block(&alice).await;
    alice.connect().await.send_group(&group, "hi").await;
    assert!(bob.pull_with(&[("drop", "false")]).await.is_empty());
    bob.unblock(&alice).await;
    assert!(bob.pull().await.is_empty(), "a withheld message stays withheld");
    assert!(bob.since(BEGINNING).await.is_empty());
    assert_eq!(carol.pull().await.contents(), ["hi"]);
}

#[tokio::test]
async fn a_blocked_member_receives_the_blocker() {
    let (alice, bob, _, group) = three_in_a_group().await;
    bob.block(&alice).await;
    let mut alice = alice.connect().await;
    bob.connect().await.send_group(&group, "you will hear me").await;
    alice.expect_in_group(&group, &bob, "you will hear me").await;
}

/// Asserts that a message is accepted like any other, and that none of these members ever gets it.
async fn assert_withheld(sender: &mut Device, group: &str, members: &mut [&mut Device]) {
    let accepted = sender.send_group(group, "withheld").await;
    assert!(is_ulid(&accepted.id) && accepted.timestamp > 0, "{accepted:?}");
    sender.send_text(&multicast(group, None, r#""withheld too""#)).await;
    sender.expect_nothing().await;
    for member in members {
        member.expect_nothing().await;
        assert!(member.pull().await.is_empty());
        assert!(member.since(BEGINNING).await.is_empty());
    }
}

#[tokio::test]
async fn a_message_from_an_outsider_is_withheld() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    let mut mallory = User::new("mallory").connect().await;
    assert_withheld(&mut mallory, &group, &mut [&mut alice, &mut bob]).await;
}

#[tokio::test]
async fn an_invitee_is_an_outsider_until_acceptance() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let group = alice.create_group("walkers").await;
    alice.invite(&bob, &group).await.empty();
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    assert_withheld(&mut bob, &group, &mut [&mut alice]).await;
    assert_withheld(&mut alice, &group, &mut [&mut bob]).await;
}

#[tokio::test]
async fn a_message_to_no_group_is_acknowledged() {
    let mut alice = User::new("alice").connect().await;
    assert_withheld(&mut alice, "no-such-group", &mut []).await;
}

#[tokio::test]
async fn messages_of_a_member_who_left_are_withheld() {
    let (alice, bob, _, group) = three_in_a_group().await;
    bob.leave_group(&group).await.empty();
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    assert_withheld(&mut bob, &group, &mut [&mut alice]).await;
}

#[tokio::test]
async fn messages_of_a_removed_member_are_withheld() {
    let (alice, bob, _, group) = three_in_a_group().await;
    alice.remove(&bob, &group).await.empty();
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    assert_withheld(&mut bob, &group, &mut [&mut alice]).await;
}

#[tokio::test]
async fn messages_to_a_dissolved_group_are_withheld() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    alice.leave_group(&group).await.empty();
    let (mut alice, mut bob, mut carol) = (alice.connect().await, bob.connect().await, carol.connect().await);
    assert_withheld(&mut bob, &group, &mut [&mut alice, &mut carol]).await;
    assert_withheld(&mut alice, &group, &mut [&mut bob, &mut carol]).await;
}

#[tokio::test]
async fn a_repeated_request_id_is_one_group_message() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    let text = multicast(&group, Some("once"), "1");
    alice.send_text(&text).await;
    let first = alice.expect_ack("once").await;
    alice.send_text(&text).await;
    assert_eq!(alice.expect_ack("once").await, first);
    bob.expect_in_group(&group, &alice, 1).await;
    bob.expect_nothing().await;
    assert_eq!(carol.pull().await.ids(), [first.id]);
}

#[tokio::test]
async fn members_need_not_be_friends_and_friends_need_not_be_members() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let friend = User::new("friend");
    alice.befriend(&friend).await;
    let (mut alice, mut bob, mut friend) = (alice.connect().await, bob.connect().await, friend.connect().await);
    alice.send_group(&group, 1).await;
    bob.expect_in_group(&group, &alice, 1).await;
    friend.expect_nothing().await;
    bob.send(&alice, "we are not friends").await;
    alice.expect_nothing().await;
}

#[tokio::test]
async fn a_group_message_reaches_only_its_group() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let one = group_of(&alice, &[&bob]).await;
    let other = group_of(&alice, &[]).await;
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    alice.send_group(&other, "among ourselves").await;
    alice.send_group(&one, "to bob").await;
    bob.expect_in_group(&one, &alice, "to bob").await;
}

#[tokio::test]
async fn a_new_member_gets_only_later_messages() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let dave = User::new("dave");
    let (mut alice, mut online) = (alice.connect().await, dave.connect().await);
    alice.send_group(&group, "before").await;
    bob.bring(&dave, &group).await;
    alice.send_group(&group, "after").await;
    online.expect_in_group(&group, &alice, "after").await;
    assert!(dave.pull().await.contents_but(&["after"]).is_empty());
    assert_eq!(dave.since(BEGINNING).await.contents(), ["after"]);
}

#[tokio::test]
async fn an_absent_new_member_misses_only_later_messages() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let dave = User::new("dave");
    let mut alice = alice.connect().await;
    alice.send_group(&group, "before").await;
    bob.bring(&dave, &group).await;
    alice.send_group(&group, "after").await;
    assert_eq!(dave.pull().await.contents(), ["after"]);
}

/// Asserts that a user outside a group gets neither its missed messages nor its next message.
async fn assert_gets_nothing(outsider: &User, mut insider: Device, group: &str) {
    let mut online = outsider.connect().await;
    insider.send_group(group, "without you").await;
    online.expect_nothing().await;
    assert!(outsider.pull().await.is_empty());
    assert!(outsider.since(BEGINNING).await.is_empty());
}

#[tokio::test]
async fn a_member_who_left_gets_no_messages_at_all() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let mut alice = alice.connect().await;
    alice.send_group(&group, "missed").await;
    bob.leave_group(&group).await.empty();
    assert_gets_nothing(&bob, alice, &group).await;
    assert_eq!(carol.pull().await.contents(), ["missed", "without you"]);
}

#[tokio::test]
async fn a_removed_member_gets_no_messages_at_all() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let mut carol_online = carol.connect().await;
    carol_online.send_group(&group, "missed").await;
    alice.remove(&bob, &group).await.empty();
    assert_gets_nothing(&bob, carol_online, &group).await;
    assert_eq!(alice.pull().await.contents(), ["missed", "without you"]);
}

#[tokio::test]
async fn members_of_a_dissolved_group_get_no_messages_at_all() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let mut carol = carol.connect().await;
    carol.send_group(&group, "missed").await;
    alice.leave_group(&group).await.empty();
    assert_gets_nothing(&bob, carol, &group).await;
    assert!(alice.pull().await.is_empty());
}

#[tokio::test]
async fn a_member_who_rejoins_gets_nothing_from_the_time_between() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let mut alice = alice.connect().await;
    alice.send_group(&group, "first time").await;
    bob.leave_group(&group).await.empty();
    alice.send_group(&group, "between").await;
    alice.bring(&bob, &group).await;
    alice.send_group(&group, "second time").await;
    assert_eq!(bob.pull().await.contents(), ["second time"]);
    assert_eq!(bob.since(BEGINNING).await.contents(), ["second time"]);
}
