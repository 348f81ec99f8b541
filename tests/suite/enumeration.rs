//! Foreign and absent things look the same: the answers are equal byte for byte, and so are the calls that the
//! functions make.

use functions::Function;
use serde_json::{Value, json};

use crate::inside::{Inside, Rest, call, socket_event};
use crate::world::Deployment;

/// An id that no group and no invitation has.
const ABSENT: &str = "00000000-0000-4000-8000-000000000000";

/// Alice's group with bob in it and carol invited. Returns the group and the invitation.
async fn arrange(inside: &Inside) -> (String, String) {
    let group = inside.create_group("alice").await;
    inside.bring("alice", &group, "bob").await;
    let invitation = inside.invite("alice", &group, "carol").await;
    (group, invitation)
}

/// The answer to a call, and the calls that the function made.
async fn seen(inside: &Inside, function: &Function, call: &Rest) -> (Value, Vec<String>) {
    inside.take_calls();
    let answer = inside.rest(function, call).await;
    (answer, inside.take_calls())
}

#[tokio::test(start_paused = true)]
async fn foreign_and_absent_groups_and_invitations_look_the_same() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(1);
    let (group, invitation) = arrange(&inside).await;
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
async fn removing_does_not_tell_who_is_a_member() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(2);
    let (group, _) = arrange(&inside).await;
    // Bob may read the group. But removing fails in the same way for every named user.
    let remove =
        |user: &str| call("DELETE", "bob", "/api/group", Some(("groupId", &group)), &format!("&userId={user}"), None);
    let first = seen(&inside, &functions::leave_group::FUNCTION, &remove("alice")).await;
    for other in ["bob", "carol", "nobody"] {
        assert_eq!(seen(&inside, &functions::leave_group::FUNCTION, &remove(other)).await, first, "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_withheld_message_makes_the_same_calls() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(3);
    let (group, _) = arrange(&inside).await;
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
