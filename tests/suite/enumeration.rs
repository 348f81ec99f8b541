//! What is foreign and what is absent look the same: in the answer, byte for byte, and in the calls that it takes.

use functions::Function;
use serde_json::{Value, json};

use crate::inside::{Inside, Rest, call, socket_event};
use crate::world::Deployment;

/// An id of each kind that nothing has.
const ABSENT: &str = "00000000-0000-4000-8000-000000000000";

/// Alice's group with bob in it and carol invited: the group and the invitation.
async fn settle(inside: &Inside) -> (String, String) {
    let group = inside.create_group("alice").await;
    inside.bring("alice", &group, "bob").await;
    let invitation = inside.invite("alice", &group, "carol").await;
    (group, invitation)
}

/// What a call is answered, and the calls that it took.
async fn seen(inside: &Inside, function: &Function, call: &Rest) -> (Value, Vec<String>) {
    inside.take_calls();
    let answer = inside.rest(function, call).await;
    (answer, inside.take_calls())
}

#[tokio::test(start_paused = true)]
async fn a_foreign_group_or_invitation_is_as_an_absent_one() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(1);
    let (group, invitation) = settle(&inside).await;
    let of_group =
        |method, query| move |id: &str| call(method, "mallory", "/api/group", Some(("groupId", id)), query, None);
    let of_invitation =
        |method| move |id: &str| call(method, "mallory", "/api/request", Some(("requestId", id)), "", None);
    let invite = |user| {
        move |id: &str| {
            let body = json!({ "groupId": id, "userId": user });
            call("POST", "mallory", "/api/request", None, "", Some(body))
        }
    };
    type Make = Box<dyn Fn(&str) -> Rest>;
    let calls: [(&Function, &str, Make); 12] = [
        (&functions::get_group::FUNCTION, &group, Box::new(of_group("GET", ""))),
        (&functions::rename_group::FUNCTION, &group, Box::new(of_group("PUT", "&name=mine"))),
        (&functions::leave_group::FUNCTION, &group, Box::new(of_group("DELETE", ""))),
        (&functions::leave_group::FUNCTION, &group, Box::new(of_group("DELETE", "&userId=alice"))),
        (&functions::leave_group::FUNCTION, &group, Box::new(of_group("DELETE", "&userId=bob"))),
        (&functions::leave_group::FUNCTION, &group, Box::new(of_group("DELETE", "&userId=mallory"))),
        (&functions::invite::FUNCTION, &group, Box::new(invite("mallory"))),
        (&functions::invite::FUNCTION, &group, Box::new(invite("bob"))),
        (&functions::invite::FUNCTION, &group, Box::new(invite("carol"))),
        (&functions::invite::FUNCTION, &group, Box::new(invite("nobody"))),
        (&functions::accept_invite::FUNCTION, &invitation, Box::new(of_invitation("PUT"))),
        (&functions::decline_invite::FUNCTION, &invitation, Box::new(of_invitation("DELETE"))),
    ];
    for (function, foreign, make) in calls {
        let foreign = seen(&inside, function, &make(foreign)).await;
        let absent = seen(&inside, function, &make(ABSENT)).await;
        assert_eq!(foreign, absent, "{}", function.name);
        assert_eq!(foreign.0["statusCode"], 403, "{}: {foreign:?}", function.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_who_manages_nothing_learns_nothing_of_who_is_in_it() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(2);
    let (group, _) = settle(&inside).await;
    // Bob may look; but removing by him fails the same way whoever is named.
    let remove =
        |user: &str| call("DELETE", "bob", "/api/group", Some(("groupId", &group)), &format!("&userId={user}"), None);
    let first = seen(&inside, &functions::leave_group::FUNCTION, &remove("alice")).await;
    for other in ["bob", "carol", "nobody"] {
        assert_eq!(seen(&inside, &functions::leave_group::FUNCTION, &remove(other)).await, first, "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn whom_a_message_is_withheld_from_takes_the_same_calls() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(3);
    let (group, _) = settle(&inside).await;
    inside.tie("mallory", "friendId", "dave").await;
    inside.tie("dave", "blockedId", "mallory").await;
    let connection = inside.connect("mallory").await;
    let mut seen = Vec::new();
    for (n, (kind, name, to)) in [
        ("unicast", "receiverId", "alice"),
        ("unicast", "receiverId", "nobody"),
        ("unicast", "receiverId", "dave"),
        ("multicast", "groupId", &group),
        ("multicast", "groupId", ABSENT),
    ]
    .into_iter()
    .enumerate()
    {
        let frame = json!({ "type": kind, name: to, "content": 1, "requestId": n.to_string() }).to_string();
        let event = socket_event(kind, "mallory", &connection, Some(&frame)).to_string();
        inside.take_calls();
        let answer = inside.invoke(&functions::message::FUNCTION, &event).await;
        let acknowledged = inside.frames(&connection).pop().expect("an acknowledgement");
        let fields: Vec<String> = acknowledged.as_object().expect("a frame").keys().cloned().collect();
        assert_eq!((&acknowledged["type"], &acknowledged["requestId"]), (&json!("ACK"), &json!(n.to_string())));
        seen.push((kind, answer, fields, inside.take_calls()));
    }
    let of_kind = |kind| seen.iter().filter(move |(of, ..)| *of == kind);
    for kind in ["unicast", "multicast"] {
        let first = of_kind(kind).next();
        assert!(of_kind(kind).all(|other| Some(other) == first), "{seen:?}");
    }
}
