//! Section 3: messages missed while away.

use std::time::Duration;

use functions::pull_messages;
use futures::future::{join, join_all};
use serde_json::json;

use crate::inside::{Inside, body, call};
use crate::world::page::{BEGINNING, Sender};
use crate::world::scene::{friends, group_of};
use crate::world::{Deployment, Device, Frame, Page, User, once, within};

/// Bob, away, with messages from two friends: 1 and 4 from bea, 2 and 3 from abe.
async fn bob_who_missed_four() -> (User, User, User) {
    let (bob, bea, abe) = (User::new("bob"), User::new("b"), User::new("a"));
    bob.befriend(&bea).await;
    bob.befriend(&abe).await;
    let (mut bea_online, mut abe_online) = (bea.connect().await, abe.connect().await);
    bea_online.send(&bob, 1).await;
    abe_online.send(&bob, 2).await;
    abe_online.send(&bob, 3).await;
    bea_online.send(&bob, 4).await;
    (bob, bea, abe)
}

/// Bob, away, who missed a private message from alice and a group message.
async fn bob_who_missed_both_kinds() -> (Device, User, String) {
    let (alice, bob) = friends().await;
    let group = group_of(&alice, &[&bob]).await;
    let mut alice = alice.connect().await;
    alice.send(&bob, "private").await;
    alice.send_group(&group, "to all").await;
    (alice, bob, group)
}

#[tokio::test]
async fn nothing_missed_is_an_empty_array() {
    let answer = User::new("alice").get("/api/message", &[]).await.ok();
    assert_eq!(answer.body, "[]");
    assert!(!Page::read(answer).has_more);
}

#[tokio::test]
async fn missed_messages_come_one_element_per_sender_oldest_first() {
    let (bob, bea, abe) = bob_who_missed_four().await;
    let page = bob.pull().await;
    assert_eq!(page.sender_ids(), [bea.id(), abe.id()]);
    assert_eq!(page.contents_by(&bea), [1, 4]);
    assert_eq!(page.contents_by(&abe), [2, 3]);
    assert!(!page.has_more);
}

#[tokio::test]
async fn sort_asc_is_the_default_spelled_out() {
    let (bob, bea, abe) = bob_who_missed_four().await;
    let page = bob.pull_with(&[("sort", "asc"), ("type", "all"), ("drop", "true")]).await;
    assert_eq!(page.sender_ids(), [bea.id(), abe.id()]);
    assert_eq!(page.contents(), [1, 4, 2, 3]);
    assert!(bob.pull().await.is_empty());
}

#[tokio::test]
async fn sort_desc_is_newest_first() {
    let (bob, bea, abe) = bob_who_missed_four().await;
    let page = bob.pull_with(&[("sort", "desc")]).await;
    assert_eq!(page.sender_ids(), [bea.id(), abe.id()]);
    assert_eq!(page.contents_by(&bea), [4, 1]);
    assert_eq!(page.contents_by(&abe), [3, 2]);
}

#[tokio::test]
async fn a_missed_message_is_exactly_the_frame_of_the_socket() {
    let (alice, bob) = friends().await;
    let group = group_of(&alice, &[&bob]).await;
    let mut alice = alice.connect().await;
    let mut online = bob.connect().await;
    alice.send(&bob, "private").await;
    let private = online.expect_private(&alice, "private").await;
    alice.send_group(&group, "to all").await;
    let to_all = online.expect_in_group(&group, &alice, "to all").await;
    let page = bob.since(BEGINNING).await;
    assert_eq!(page.messages().collect::<Vec<&Frame>>(), [&private, &to_all]);
    online.leave().await;
    alice.send(&bob, "missed").await;
    alice.send_group(&group, "missed by all").await;
    let page = bob.pull().await;
    // The last seconds of the socket may be pulled again, as the same frames.
    let (again, missed): (Vec<&Frame>, Vec<&Frame>) =
        page.messages().partition(|message| [&private, &to_all].map(Frame::id).contains(&message.id()));
    assert!(again.iter().all(|frame| [&private, &to_all].contains(frame)), "{again:?}");
    let [private, to_all] = missed[..] else { panic!("expected two: {page:?}") };
    private.is_private(&alice, &bob, &"missed".into());
    to_all.is_in_group(&group, &alice, &"missed by all".into());
}

#[tokio::test]
async fn a_pulled_message_is_not_pulled_again() {
    let (bob, ..) = bob_who_missed_four().await;
    assert_eq!(bob.pull().await.contents().len(), 4);
    assert!(bob.pull().await.is_empty());
    assert!(bob.pull_with(&[("drop", "false")]).await.is_empty());
}

#[tokio::test]
async fn drop_false_leaves_everything() {
    let (bob, ..) = bob_who_missed_four().await;
    let first = bob.pull_with(&[("drop", "false")]).await;
    let second = bob.pull_with(&[("drop", "false"), ("sort", "asc")]).await;
    assert_eq!(first.senders, second.senders);
    assert_eq!(bob.pull().await.senders, first.senders);
}

#[tokio::test]
async fn later_messages_come_with_the_next_pull() {
    let (alice, bob) = friends().await;
    let mut alice = alice.connect().await;
    for n in 0..5 {
        alice.send(&bob, n).await;
        assert_eq!(bob.pull().await.contents(), [n]);
    }
    assert!(bob.pull().await.is_empty());
}

#[tokio::test]
async fn type_chooses_private_or_group_messages() {
    let (_, bob, _) = bob_who_missed_both_kinds().await;
    let seen = async |kind| bob.pull_with(&[("drop", "false"), ("type", kind)]).await.contents();
    assert_eq!(seen("unicast").await, ["private"]);
    assert_eq!(seen("multicast").await, ["to all"]);
    assert_eq!(seen("all").await, ["private", "to all"]);
}

#[tokio::test]
async fn a_pull_of_one_type_drops_nothing_of_the_other() {
    let (_, bob, _) = bob_who_missed_both_kinds().await;
    assert_eq!(bob.pull_with(&[("type", "unicast")]).await.contents(), ["private"]);
    assert!(bob.pull_with(&[("type", "unicast")]).await.is_empty());
    assert_eq!(bob.pull_with(&[("type", "multicast")]).await.contents(), ["to all"]);
    assert!(bob.pull().await.is_empty());
}

#[tokio::test]
async fn both_kinds_by_one_sender_are_one_element() {
    let (alice, bob, _) = bob_who_missed_both_kinds().await;
    let page = bob.pull().await;
    assert_eq!(page.sender_ids(), [alice.id()]);
    assert_eq!(page.contents(), ["private", "to all"]);
}

#[tokio::test]
async fn a_wrong_parameter_is_refused_and_drops_nothing() {
    let (bob, ..) = bob_who_missed_four().await;
    for (name, value) in [
        ("sort", "up"),
        ("sort", ""),
        ("sort", "ASC"),
        ("drop", "maybe"),
        ("drop", ""),
        ("drop", "1"),
        ("type", "broadcast"),
        ("type", ""),
        ("type", "Unicast"),
    ] {
        bob.get("/api/message", &[(name, value)]).await.refused(400, name);
    }
    assert_eq!(bob.pull().await.contents().len(), 4);
}

#[tokio::test]
async fn after_and_since_need_an_id_and_drop_false() {
    let (bob, ..) = bob_who_missed_four().await;
    for name in ["after", "since"] {
        for ill_formed in
            ["", "x", "0000000000000000000000000", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "000000000000000000000000-0"]
        {
            bob.get("/api/message", &[("drop", "false"), (name, ill_formed)]).await.refused(400, name);
        }
        bob.get("/api/message", &[(name, BEGINNING)]).await.refused(400, name);
        bob.get("/api/message", &[("drop", "true"), (name, BEGINNING)]).await.refused(400, name);
    }
    let both = [("drop", "false"), ("after", BEGINNING), ("since", BEGINNING)];
    bob.get("/api/message", &both).await.refused(400, "");
    assert_eq!(bob.pull().await.contents().len(), 4);
}

#[tokio::test]
async fn a_message_that_a_socket_received_is_not_missed() {
    let (alice, bob) = friends().await;
    let (mut alice, mut online) = (alice.connect().await, bob.connect().await);
    once("nothing missed", async |number| {
        alice.send(&bob, number).await;
        online.expect_private(&alice, number).await;
        bob.pull().await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn connecting_keeps_missed_messages() {
    let (alice, bob) = friends().await;
    let mut alice = alice.connect().await;
    alice.send(&bob, "missed").await;
    let mut online = bob.connect().await;
    online.expect_nothing().await;
    alice.send(&bob, "taken").await;
    online.expect_private(&alice, "taken").await;
    assert_eq!(bob.pull().await.contents_but(&["taken"]), ["missed"]);
}

#[tokio::test]
async fn messages_to_a_broken_connection_are_soon_missed() {
    let (alice, bob) = friends().await;
    let (mut alice, online) = (alice.connect().await, bob.connect().await);
    online.vanish();
    // The server may still push messages to the dead socket. They are pulled again with its last seconds. Once a push
    // fails, all later messages are missed.
    let first_missed = async {
        loop {
            let accepted = alice.send(&bob, "are you there?").await;
            if bob.pull_with(&[("drop", "false")]).await.ids().contains(&accepted.id) {
                return accepted.id;
            }
        }
    };
    let first = within("the dead socket to be noticed", first_missed).await;
    let second = alice.send(&bob, "still missed").await.id;
    let missed = bob.pull().await.sorted_ids();
    assert!(missed.ends_with(&[first.clone(), second.clone()]), "{first} and {second}: {missed:?}");
}

#[tokio::test]
async fn a_dead_connection_does_not_affect_an_open_one() {
    let (alice, bob) = friends().await;
    let (mut alice, dead, mut living) = (alice.connect().await, bob.connect().await, bob.connect().await);
    dead.vanish();
    // Until the server notices the dead connection, messages count as missed there.
    once("nothing missed", async |number| {
        alice.send(&bob, number).await;
        living.expect_private(&alice, number).await;
        bob.pull().await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn two_pulls_at_once_return_each_message_once() {
    let (alice, bob) = friends().await;
    let mut alice = alice.connect().await;
    let mut sent = Vec::new();
    for n in 0..20 {
        sent.push(alice.send(&bob, n).await.id);
    }
    let (one, other) = join(bob.pull(), bob.pull()).await;
    let mut got = [one.ids(), other.ids()].concat();
    got.sort_unstable();
    assert_eq!(got, sent);
    assert!(bob.pull().await.is_empty());
}

#[tokio::test]
async fn pulls_while_messages_arrive_return_each_once() {
    let (alice, bob) = friends().await;
    let mut alice = alice.connect().await;
    let sending = async {
        let mut sent = Vec::new();
        for n in 0..30 {
            sent.push(alice.send(&bob, n).await.id);
        }
        sent
    };
    let pulling = async {
        let mut got = Vec::new();
        for _ in 0..10 {
            got.extend(bob.pull().await.ids());
        }
        got
    };
    let (sent, mut got) = join(sending, pulling).await;
    got.extend(bob.pull().await.ids());
    got.sort_unstable();
    assert_eq!(got, sent);
}

#[tokio::test]
async fn a_user_who_reconnects_often_loses_nothing() {
    let (alice, bob) = friends().await;
    let group = group_of(&alice, &[&bob]).await;
    let mut alice = alice.connect().await;
    let sending = async {
        let mut sent = Vec::new();
        for n in 0..30 {
            sent.push(alice.send(&bob, n).await.id);
            sent.push(alice.send_group(&group, n).await.id);
        }
        sent
    };
    let (sent, mut got) = join(sending, come_and_go(&bob)).await;
    got.extend(bob.pull().await.ids());
    let lost: Vec<&String> = sent.iter().filter(|id| !got.contains(id)).collect();
    assert!(lost.is_empty(), "lost {lost:?} of {sent:?}");
    let strange: Vec<&String> = got.iter().filter(|id| !sent.contains(id)).collect();
    assert!(strange.is_empty(), "{strange:?} were never sent");
}

/// Bob connects eight times. Each time, a message arrives long before the end of the connection, and the next one is
/// missed.
#[tokio::test(start_paused = true)]
async fn only_messages_between_two_connections_are_missed() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::with(1, &[("MAX_PAGE_MESSAGES", "1000")]);
    inside.tie("alice", "friendId", "bob").await;
    let alice = inside.connect("alice").await;
    let send = async |content: String| {
        inside.send("alice", &alice, &json!({ "type": "unicast", "receiverId": "bob", "content": content })).await;
    };
    let minute = || tokio::time::advance(Duration::from_secs(60));
    for round in 0..8 {
        let online = inside.connect("bob").await;
        minute().await;
        send(format!("taken {round}")).await;
        assert_eq!(inside.frames(&online)[0]["content"], format!("taken {round}"));
        minute().await;
        inside.disconnect("bob", &online).await;
        minute().await;
        send(format!("missed {round}")).await;
    }
    let missed: Vec<String> = (0..8).map(|round| format!("missed {round}")).collect();
    let pulled = async |query| {
        let pull = call("GET", "bob", "/api/message", None, query, None);
        let senders: Vec<Sender> = body(&inside.done(&pull_messages::FUNCTION, &pull).await);
        senders.iter().flat_map(|sender| &sender.messages).map(Frame::content).collect::<Vec<_>>()
    };
    assert_eq!(pulled("&drop=false").await, missed);
    assert_eq!(pulled("").await, missed);
    assert!(pulled("").await.is_empty());
}

/// Pulls and drops one page. Returns its ids, and whether there is more.
async fn page_of_bob(inside: &Inside) -> (Vec<String>, bool) {
    let answer = inside.done(&pull_messages::FUNCTION, &call("GET", "bob", "/api/message", None, "", None)).await;
    let senders: Vec<Sender> = body(&answer);
    let ids = senders.iter().flat_map(|sender| &sender.messages).map(Frame::id).collect();
    (ids, answer["headers"]["x-has-more"] == "true")
}

/// A message that was on its way to its log while later ones were pulled and dropped.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_late_for_its_page_is_on_the_last_one() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::with(1, &[("MAX_PAGE_MESSAGES", "3")]);
    let began = inside.world().now_ms();
    tokio::time::advance(Duration::from_secs(10)).await;
    for number in 0..10 {
        inside.log("alice", "bob", began + 10_000, number);
    }
    assert_eq!(page_of_bob(&inside).await.0.len(), 3);
    // Accepted before all others.
    let late = inside.log("alice", "bob", began, 0);
    tokio::time::advance(Duration::from_secs(21)).await;
    // Nothing new can appear in its millisecond any more. But no page has looked there since.
    let second = page_of_bob(&inside).await.0;
    assert_eq!((second.len(), second.contains(&late)), (3, false), "the second page goes on after the first");
    let mut rest = Vec::new();
    loop {
        let (ids, has_more) = page_of_bob(&inside).await;
        rest.extend(ids);
        if !has_more {
            break;
        }
    }
    assert_eq!((rest.len(), rest.contains(&late)), (5, true), "{rest:?}");
}

/// Goes online and offline repeatedly. Returns the ids that arrived live or by a pull.
async fn come_and_go(user: &User) -> Vec<String> {
    let mut got = Vec::new();
    for round in 0..8 {
        let mut online = user.connect().await;
        let mut frames = online.frames_until_sentinel().await;
        frames.extend(online.leave().await);
        got.extend(frames.iter().map(Frame::id));
        if round % 3 == 0 {
            got.extend(user.pull().await.ids());
        }
    }
    got
}

#[tokio::test]
async fn each_of_many_members_away_misses_a_group_message_once() {
    let alice = User::new("alice");
    let members: Vec<User> = (0..10).map(|n| User::new(&format!("member-{n}"))).collect();
    let group = group_of(&alice, &members.iter().collect::<Vec<&User>>()).await;
    let accepted = alice.connect().await.send_group(&group, "hi").await;
    for page in join_all(members.iter().map(User::pull)).await {
        assert_eq!(page.ids(), [accepted.id.as_str()]);
    }
    for page in join_all(members.iter().map(User::pull)).await {
        assert!(page.is_empty());
    }
}

#[tokio::test]
async fn since_returns_everything_after_an_id_missed_or_not() {
    let (alice, bob) = friends().await;
    let group = group_of(&alice, &[&bob]).await;
    let mut alice = alice.connect().await;
    let first = alice.send(&bob, "missed").await;
    let mut online = bob.connect().await;
    alice.send(&bob, "taken").await;
    online.expect_private(&alice, "taken").await;
    alice.send_group(&group, "taken by all").await;
    online.expect_in_group(&group, &alice, "taken by all").await;
    assert_eq!(bob.since(BEGINNING).await.contents(), ["missed", "taken", "taken by all"]);
    assert_eq!(bob.since(&first.id).await.contents(), ["taken", "taken by all"]);
    assert_eq!(bob.pull().await.contents_but(&["taken", "taken by all"]), ["missed"]);
    assert_eq!(bob.since(BEGINNING).await.contents(), ["missed", "taken", "taken by all"]);
}

#[tokio::test]
async fn since_takes_type_and_sort() {
    let (alice, bob, _) = bob_who_missed_both_kinds().await;
    let with = |name, value| [("drop", "false"), ("since", BEGINNING), (name, value)];
    assert_eq!(bob.pull_with(&with("type", "unicast")).await.contents(), ["private"]);
    assert_eq!(bob.pull_with(&with("type", "multicast")).await.contents(), ["to all"]);
    assert_eq!(bob.pull_with(&with("sort", "desc")).await.contents_by(&alice), ["to all", "private"]);
}

#[tokio::test]
async fn since_returns_no_own_messages() {
    let (alice, bob, group) = bob_who_missed_both_kinds().await;
    assert!(alice.since(BEGINNING).await.is_empty());
    bob.connect().await.send_group(&group, "by bob").await;
    assert_eq!(alice.since(BEGINNING).await.contents(), ["by bob"]);
    assert_eq!(bob.since(BEGINNING).await.contents(), ["private", "to all"]);
}

/// `DELETE /api/message`.
async fn drop_page(user: &User, page: &Page) {
    user.delete("/api/message", &[("page", page.token.as_deref().expect("a token"))]).await.empty();
}

#[tokio::test]
async fn a_page_that_was_shown_is_dropped_by_its_token() {
    let (bob, ..) = bob_who_missed_four().await;
    let page = bob.pull_with(&[("drop", "false")]).await;
    drop_page(&bob, &page).await;
    assert!(bob.pull().await.is_empty());
    drop_page(&bob, &page).await;
}

#[tokio::test]
async fn a_page_of_one_type_leaves_the_other() {
    let (_, bob, _) = bob_who_missed_both_kinds().await;
    let private = bob.pull_with(&[("drop", "false"), ("type", "unicast")]).await;
    drop_page(&bob, &private).await;
    let page = bob.pull_with(&[("drop", "false")]).await;
    assert_eq!(page.contents(), ["to all"]);
    drop_page(&bob, &page).await;
    assert!(bob.pull().await.is_empty());
}

#[tokio::test]
async fn what_came_after_a_page_stays() {
    let (alice, bob) = friends().await;
    let mut alice = alice.connect().await;
    alice.send(&bob, "first").await;
    let page = bob.pull_with(&[("drop", "false")]).await;
    let second = alice.send(&bob, "second").await;
    drop_page(&bob, &page).await;
    let page = bob.pull().await;
    assert_eq!(page.contents(), ["second"]);
    assert_eq!((page.ids()[0].as_str(), page.token), (second.id.as_str(), None));
}

#[tokio::test]
async fn only_a_page_that_stays_has_a_token() {
    let (bob, ..) = bob_who_missed_four().await;
    assert_eq!(bob.since(BEGINNING).await.token, None);
    assert!(bob.pull_with(&[("drop", "false")]).await.token.is_some());
    assert_eq!(bob.pull().await.token, None);
    assert_eq!(bob.pull_with(&[("drop", "false")]).await.token, None, "nothing is on it");
}

#[tokio::test]
async fn a_drop_wants_a_page() {
    let (bob, ..) = bob_who_missed_four().await;
    let token = bob.pull_with(&[("drop", "false")]).await.token.expect("a token");
    bob.delete("/api/message", &[]).await.refused(400, "page");
    bob.delete("/api/message", &[("until", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ")]).await.refused(400, "page");
    bob.delete("/api/message", &[("page", "x"), ("page", &token)]).await.refused(403, "page");
    bob.delete("/api/message", &vec![("page", token.as_str()); 21]).await.refused(400, "page");
    assert_eq!(bob.pull().await.contents().len(), 4);
}
