//! Inputs that any client can send: calls of the REST API, handshakes and frames, with the tokens of alice and bob, and
//! without a token. They must not reveal or change what belongs to carol, dave and erin.

use std::sync::LazyLock;

use functions::{Function, Route};
use serde_json::{Value, json};

use super::mutate::Mutator;
use super::parsers::frame;
use super::{Findings, INPUTS};
use crate::inside::{Inside, Rest, escaped, socket_event, token};
use crate::world::example::{endpoints, frames, parameters, query_of};

/// The query parameters of all calls, with likely values.
static PARAMETERS: LazyLock<Vec<(String, Vec<String>)>> = LazyLock::new(parameters);

/// The query of a call's example.
pub(crate) fn needed(route: Route) -> String {
    query_of(route).iter().map(|(name, value)| format!("&{name}={}", escaped(value))).collect()
}

/// The text of carol's and dave's messages, and the name of their group.
const PRIVATE: &str = "for carol and dave alone";

/// A valid call of a user.
fn call(method: &str, path: &str, user: &str, query: &str, body: Option<Value>) -> Rest {
    Rest {
        method: method.to_owned(),
        path: path.to_owned(),
        query: format!("access_token={}{query}", token(user)),
        body: body.map(|body| body.to_string()),
        ..Rest::default()
    }
}

/// What belongs to carol, dave and erin, as they see it.
async fn belongings(inside: &Inside) -> Vec<Value> {
    let mut others = Vec::new();
    for (user, function, path, query) in [
        ("carol", &functions::list_groups::FUNCTION, "/api/group", ""),
        ("dave", &functions::list_groups::FUNCTION, "/api/group", ""),
        ("carol", &functions::pull_messages::FUNCTION, "/api/message", "&drop=false"),
        ("dave", &functions::pull_messages::FUNCTION, "/api/message", "&drop=false"),
    ] {
        others.push(inside.rest(function, &call("GET", path, user, query, None)).await["body"].take());
    }
    // Others may invite erin too.
    let list = call("GET", "/api/request", "erin", "", None);
    let invitations = inside.rest(&functions::list_invites::FUNCTION, &list).await;
    let invitations: Vec<Value> =
        serde_json::from_str(invitations["body"].as_str().unwrap_or_default()).unwrap_or_default();
    others.extend(invitations.into_iter().filter(|invitation| invitation["invitedBy"] == "carol"));
    others
}

/// A group of alice with bob invited, one of alice and bob, and a group of carol with dave in it and erin invited. Carol and dave each have a
/// missed message.
///
/// Returns the group of alice and bob, and bob's invitation.
async fn arrange(inside: &Inside, mutator: &mut Mutator) -> (String, String) {
    let create = call("POST", "/api/group", "alice", "&name=walkers", None);
    let group = inside.rest(&functions::create_group::FUNCTION, &create).await;
    learn(mutator, &group);
    let invited: String = serde_json::from_str(group["body"].as_str().unwrap_or_default()).expect("an id");
    let group = inside.rest(&functions::create_group::FUNCTION, &create).await;
    let joined: String = serde_json::from_str(group["body"].as_str().unwrap_or_default()).expect("an id");
    let mut invitation = String::new();
    for group in [&joined, &invited] {
        let body = json!({ "groupId": group, "userId": "bob" });
        inside.rest(&functions::invite::FUNCTION, &call("POST", "/api/request", "alice", "", Some(body))).await;
        let list = inside.rest(&functions::list_invites::FUNCTION, &call("GET", "/api/request", "bob", "", None)).await;
        learn(mutator, &list);
        let list: Value = serde_json::from_str(list["body"].as_str().unwrap_or_default()).expect("a list");
        invitation = list[0]["id"].as_str().expect("an invitation").to_owned();
        if *group == joined {
            let mut accept = call("PUT", "/api/request/", "bob", "", None);
            accept.variables = vec![("requestId".to_owned(), invitation.clone())];
            inside.rest(&functions::accept_invite::FUNCTION, &accept).await;
        }
    }
    let query = format!("&name={}", escaped(PRIVATE));
    let group =
        inside.rest(&functions::create_group::FUNCTION, &call("POST", "/api/group", "carol", &query, None)).await;
    let group: String = serde_json::from_str(group["body"].as_str().unwrap_or_default()).expect("an id");
    for user in ["dave", "erin"] {
        let body = json!({ "groupId": group, "userId": user });
        inside.rest(&functions::invite::FUNCTION, &call("POST", "/api/request", "carol", "", Some(body))).await;
    }
    for user in ["dave", "erin"] {
        let list = inside.rest(&functions::list_invites::FUNCTION, &call("GET", "/api/request", user, "", None)).await;
        let list: Value = serde_json::from_str(list["body"].as_str().unwrap_or_default()).expect("a list");
        let id = list[0]["id"].as_str().expect("an invitation").to_owned();
        if user == "dave" {
            let mut accept = call("PUT", "/api/request/", user, "", None);
            accept.variables = vec![("requestId".to_owned(), id.clone())];
            inside.rest(&functions::accept_invite::FUNCTION, &accept).await;
        }
        mutator.learn(&id);
    }
    mutator.learn(&group);
    inside.tie("carol", "friendId", "dave").await;
    inside.tie("alice", "friendId", "bob").await;
    for (from, kind, name, to) in [("carol", "unicast", "receiverId", "dave"), ("dave", "multicast", "groupId", &group)]
    {
        let frame = json!({ "type": kind, name: to, "content": PRIVATE }).to_string();
        let event = socket_event(kind, from, "nowhere", Some(&frame)).to_string();
        inside.invoke(&functions::message::FUNCTION, &event).await.expect("it is accepted");
    }
    (joined, invitation)
}

/// What the inputs may name.
struct Arranged {
    /// A group of alice and bob.
    group: String,
    /// An invitation of bob.
    invitation: String,
    /// A message of alice to bob.
    message: String,
    /// The tokens of the pages that show messages of alice and bob.
    pages: Vec<String>,
}

/// Lets alice and bob miss a message of each other.
async fn shown_pages(inside: &Inside, (group, invitation): (String, String)) -> Arranged {
    let (mut pages, mut message) = (Vec::new(), String::new());
    for (from, to) in [("alice", "bob"), ("bob", "alice")] {
        let frame = json!({ "type": "unicast", "receiverId": to, "content": 1 }).to_string();
        let event = socket_event("unicast", from, "nowhere", Some(&frame)).to_string();
        inside.invoke(&functions::message::FUNCTION, &event).await.expect("it is accepted");
        let pull = call("GET", "/api/message", to, "&drop=false", None);
        let page = inside.rest(&functions::pull_messages::FUNCTION, &pull).await;
        pages.push(page["headers"]["x-page"].as_str().expect("a token").to_owned());
        if from == "alice" {
            let page: Value = serde_json::from_str(page["body"].as_str().unwrap_or_default()).expect("a page");
            message = page[0]["messages"][0]["id"].as_str().expect("an id").to_owned();
        }
    }
    Arranged { group, invitation, message, pages }
}

pub(super) async fn fuzz(seed: u64) -> Findings {
    let (inside, mut mutator, mut findings) = (Inside::new(seed), Mutator::new(seed), Findings::default());
    let made = arrange(&inside, &mut mutator).await;
    let arranged = shown_pages(&inside, made).await;
    let before = belongings(&inside).await;
    assert!(before.len() == 5 && before[0].to_string().contains(PRIVATE), "{before:?}");
    let mut connections = Vec::new();
    for user in ["alice", "bob"] {
        connections.push((user, inside.connect(user).await));
    }
    for _ in 0..INPUTS {
        match mutator.below(10) {
            0..6 => rest(&inside, &mut mutator, &mut findings, &arranged).await,
            6 => handshake(&inside, &mut mutator, &mut findings).await,
            _ => {
                let (user, connection) = mutator.pick(&connections).clone();
                send(&inside, &mut mutator, &mut findings, user, &connection).await;
            }
        }
    }
    let after = belongings(&inside).await;
    if before != after {
        findings.fault("others", &format!("{before:?}"), &format!("became {after:?}"));
    }
    for user in ["alice", "bob"] {
        if json!(inside.taken_by(user)).to_string().contains(PRIVATE) {
            findings.fault("others", user, "received a private text");
        }
    }
    findings
}

/// A query with a token or something like it, and whether it is valid.
fn access(mutator: &mut Mutator) -> (String, bool) {
    let user = *mutator.pick(&["alice", "bob"]);
    let good = token(user);
    match mutator.below(20) {
        0 => (String::new(), false),
        1 => {
            let spoilt = mutator.text(&good);
            (format!("access_token={}", escaped(&spoilt)), spoilt == good)
        }
        2 => (format!("access_token={good}&access_token={good}"), false),
        3 => (format!("access_token={}", crate::simulation::token("carol", "another secret of that length")), false),
        4 => (format!("access%5Ftoken={good}&access_token={good}"), false),
        _ => (format!("access_token={good}"), true),
    }
}

async fn rest(inside: &Inside, mutator: &mut Mutator, findings: &mut Findings, arranged: &Arranged) {
    let (function, route) = *mutator.pick(&endpoints());
    let (mut query, is_good) = access(mutator);
    if function.name == "drop_messages" && mutator.in_a_hundred(60) {
        query.push_str(&format!("&page={}", mutator.pick(&arranged.pages)));
    } else if mutator.in_a_hundred(60) {
        query.push_str(&needed(route));
    }
    let mut is_misspelt = false;
    for _ in 0..mutator.below(3) {
        // This endpoint refuses all other parameters.
        if function.name == "leave_group" && mutator.in_a_hundred(80) {
            break;
        }
        let (name, likely) = mutator.pick(&PARAMETERS);
        let misspelt = mutator.in_a_hundred(10).then(|| mutator.misspelling(name));
        is_misspelt |= misspelt.is_some() && function.parameters().contains(&name.as_str());
        let value = match name.as_str() {
            "groupId" if mutator.in_a_hundred(50) => arranged.group.clone(),
            _ if mutator.in_a_hundred(70) => mutator.pick(likely).clone(),
            _ => mutator.word(),
        };
        let value = if mutator.in_a_hundred(90) { escaped(&value) } else { value };
        query.push_str(&format!("&{}={value}", misspelt.as_deref().unwrap_or(name)));
    }
    if mutator.in_a_hundred(3) {
        query.push_str(&format!("&x={}", mutator.hard_to_read()));
    }
    // A group that is dissolved or without bob is of little use for what follows.
    let chance_of_own = if function.name == "leave_group" { 15 } else { 60 };
    let variable = |name: &str| match own_variable(name, arranged) {
        Some(own) if mutator.in_a_hundred(chance_of_own) => own.clone(),
        _ if mutator.in_a_hundred(80) => mutator.known(),
        _ => mutator.word(),
    };
    let mut call = Rest { query, ..Rest::of(route, variable) };
    if function.name == "send_message" {
        call.body = Some(frame(mutator));
    } else if route.path == "/api/request" || mutator.in_a_hundred(10) {
        let users = ["alice", "bob", "erin"];
        let user = if mutator.in_a_hundred(50) { (*mutator.pick(&users)).to_owned() } else { mutator.word() };
        let group = if mutator.in_a_hundred(50) { arranged.group.clone() } else { mutator.word() };
        let mut body = json!({ "groupId": group, "userId": user });
        if mutator.in_a_hundred(20) {
            mutator.json(&mut body);
        }
        let text = body.to_string();
        call.body = Some(match mutator.below(20) {
            0..4 => mutator.text(&text),
            4 => format!("\u{feff}{text}"),
            5 => format!("{{{}{}", mutator.hard_to_read(), text.trim_start_matches('{')),
            6 => format!("{}{text}", " ".repeat(20_000)),
            _ => text,
        });
    }
    let mut event = call.event();
    if mutator.in_a_hundred(3) {
        event["headers"]["content-encoding"] = json!(*mutator.pick(&["gzip", "identity", "br"]));
    }
    let spoilt = mutator.in_a_hundred(25);
    if spoilt {
        mutator.json(&mut event);
    }
    let mut text = event.to_string();
    let torn = mutator.in_a_hundred(5);
    if torn {
        text = mutator.text(&text);
    }
    let Some(result) = findings.invoke(inside, function, &text).await else { return };
    if !is_good && !spoilt && !torn && result["statusCode"] != 401 {
        findings.fault(function.name, &text, "it accepted an invalid token");
    }
    if is_misspelt && !spoilt && !torn && result["statusCode"] == 200 {
        findings.fault(function.name, &text, "it accepted a misspelt parameter");
    }
    if result.to_string().contains(PRIVATE) {
        findings.fault(function.name, &text, "it revealed a private text");
    }
    learn(mutator, &result);
}

/// What alice or bob may name.
fn own_variable<'a>(name: &str, arranged: &'a Arranged) -> Option<&'a String> {
    match name {
        "groupId" => Some(&arranged.group),
        "id" => Some(&arranged.message),
        "requestId" => Some(&arranged.invitation),
        _ => None,
    }
}

/// Learns the ids in an answer.
fn learn(mutator: &mut Mutator, result: &Value) {
    let body: Value = serde_json::from_str(result["body"].as_str().unwrap_or_default()).unwrap_or_default();
    match &body {
        Value::String(id) => mutator.learn(id),
        Value::Array(items) => {
            let of_items = items.iter().filter_map(|item| item["id"].as_str());
            let of_messages = items.iter().filter_map(|item| item["messages"][0]["id"].as_str());
            of_items.chain(of_messages).take(3).for_each(|id| mutator.learn(id));
        }
        _ => {}
    }
}

/// A handshake. Only a valid token authorizes it.
async fn handshake(inside: &Inside, mutator: &mut Mutator, findings: &mut Findings) {
    let mut event: Value =
        serde_json::from_str(include_str!("../../events/websocket-authorize.json")).expect("a genuine event is JSON");
    let good = token("alice");
    let offered = if mutator.in_a_hundred(60) { good.clone() } else { mutator.text(&good) };
    let tokens = if mutator.in_a_hundred(80) { json!([offered]) } else { json!([offered, mutator.word()]) };
    event["multiValueQueryStringParameters"] = json!({ "access_token": tokens });
    let known = *mutator.pick(&["chat", "chat.2"]);
    let protocol = if mutator.in_a_hundred(80) { known.to_owned() } else { mutator.word() };
    // As the gateway does: all lines in one map, and the last line in the other.
    let lines = if mutator.in_a_hundred(80) { json!([protocol]) } else { json!([mutator.word(), protocol]) };
    event["headers"]["Sec-WebSocket-Protocol"] = json!(protocol);
    event["multiValueHeaders"]["Sec-WebSocket-Protocol"] = lines;
    if mutator.in_a_hundred(40) {
        mutator.json(&mut event);
    }
    let text = event.to_string();
    let text = if mutator.in_a_hundred(5) { mutator.text(&text) } else { text };
    let Some(result) = findings.invoke(inside, &functions::authorize::FUNCTION, &text).await else { return };
    let allows = result["policyDocument"]["Statement"][0]["Effect"] == "Allow";
    if allows && (result["context"]["userId"] != "alice" || !text.contains(&good)) {
        findings.fault("authorize", &text, &format!("it allowed {result}"));
    }
}

/// A frame as docs/asyncapi.yaml shows it, to or about somebody, sometimes mutated.
fn documented_frame(mutator: &mut Mutator) -> (&'static Function, String) {
    let (function, _, mut frame) = mutator.pick(&frames()).clone();
    for (_, value) in frame.as_object_mut().into_iter().flatten().filter(|(name, _)| *name != "type") {
        if mutator.in_a_hundred(60) {
            *value = json!(mutator.word());
        }
    }
    let text = frame.to_string();
    (function, if mutator.in_a_hundred(70) { text } else { mutator.text(&text) })
}

/// A frame on an open connection. At most one answer comes back: an acknowledgement or an error that blames the client.
async fn send(inside: &Inside, mutator: &mut Mutator, findings: &mut Findings, user: &str, connection: &str) {
    let (function, frame) = match mutator.in_a_hundred(30) {
        true => documented_frame(mutator),
        false => (&functions::message::FUNCTION, frame(mutator)),
    };
    let mut event = socket_event("$default", user, connection, Some(&frame));
    event["requestContext"]["authorizer"]["version"] = json!(*mutator.pick(&["1", "2", "2"]));
    let before = inside.frames(connection).len();
    findings.invoke(inside, function, &event.to_string()).await;
    let frames = inside.frames(connection);
    let answers: Vec<&Value> =
        frames[before..].iter().filter(|frame| frame["type"] == "ACK" || frame["type"] == "ERROR").collect();
    if answers.len() > 1 || answers.iter().any(|answer| answer["code"] == "unavailable") {
        findings.fault(function.name, &frame, &format!("{answers:?}"));
    }
    if frames[before..].iter().any(|frame| frame.get("senderId").is_some_and(|sender| sender != user)) {
        findings.fault(function.name, &frame, "it names another sender");
    }
}
