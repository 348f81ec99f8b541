//! Inputs that only the back end and the gateway can send: the calls of the internal API, by HTTP and directly, and mutated
//! genuine events of every kind.

use functions::{Function, Route, Trigger};
use serde_json::{Value, json};

use super::mutate::Mutator;
use super::{Findings, INPUTS};
use crate::inside::{Inside, Rest, escaped, socket_event};

/// Genuine events.
const EVENTS: [&str; 10] = [
    include_str!("../../events/http-pull.json"),
    include_str!("../../events/http-rename.json"),
    include_str!("../../events/http-invite.json"),
    include_str!("../../events/http-invite-base64.json"),
    include_str!("../../events/http-notification.json"),
    include_str!("../../events/http-relationship.json"),
    include_str!("../../events/websocket-authorize.json"),
    include_str!("../../events/websocket-connect.json"),
    include_str!("../../events/websocket-binary.json"),
    include_str!("../../events/sqs-fanout.json"),
];

pub(super) async fn fuzz(seed: u64) -> Findings {
    let queue = [("FANOUT_QUEUE_URL", "http://sqs.simulated/1/FanoutQueue")];
    let (inside, mut mutator, mut findings) = (Inside::with(seed, &queue), Mutator::new(seed), Findings::default());
    let arranged = arrange(&inside, &mut mutator).await;
    inside.tie("alice", "friendId", "bob").await;
    let connection = inside.connect("bob").await;
    for _ in 0..INPUTS {
        match mutator.below(17) {
            11..16 => call(&inside, &mut mutator, &mut findings, &arranged).await,
            16 => queued(&inside, &mut mutator, &mut findings).await,
            0 | 1 => notify(&inside, &mut mutator, &mut findings).await,
            2 | 3 => relate(&inside, &mut mutator, &mut findings).await,
            4 | 5 => invoke_directly(&inside, &mut mutator, &mut findings).await,
            6 | 7 => socket(&inside, &mut mutator, &mut findings, &connection).await,
            8 => job(&inside, &mut mutator, &mut findings).await,
            _ => anything(&inside, &mut mutator, &mut findings).await,
        }
    }
    findings
}

/// What the calls of the back end may name.
struct Arranged {
    group: String,
    message: String,
}

/// A group of the back end, and a message of alice to bob.
async fn arrange(inside: &Inside, mutator: &mut Mutator) -> Arranged {
    let new = json!({ "method": "POST", "name": "walkers", "managerId": "alice", "usersId": ["bob"] });
    let group = inside.invoke(&functions::manage_group::FUNCTION, &new.to_string()).await.expect("a group");
    let message = json!({ "from": "alice", "type": "unicast", "receiverId": "bob", "content": 1 });
    let sent = inside.invoke(&functions::send_as::FUNCTION, &message.to_string()).await.expect("a message");
    let sent: Value = serde_json::from_str(&sent).expect("JSON");
    let arranged = Arranged {
        group: serde_json::from_str(&group).expect("an id"),
        message: sent["id"].as_str().expect("an id").to_owned(),
    };
    mutator.learn(&arranged.group);
    mutator.learn(&arranged.message);
    arranged
}

/// A likely value of a field or a parameter.
fn likely(mutator: &mut Mutator, name: &str, arranged: &Arranged) -> Value {
    match name {
        "groupId" => json!(arranged.group),
        "id" => json!(arranged.message),
        "until" => json!("2100-01-01T00:00:00Z"),
        "type" => json!(*mutator.pick(&["unicast", "multicast"])),
        "name" => json!("runners"),
        "content" => mutator.value(),
        "usersId" => json!(["alice", mutator.word()]),
        "method" => json!(*mutator.pick(&["GET", "POST", "PUT", "DELETE", "BAN", "UNBAN", "DISCONNECT"])),
        "changes" => changes(mutator),
        "requestId" => json!(mutator.word()),
        "from" => json!("alice"),
        "receiverId" => json!("bob"),
        _ => json!(*mutator.pick(&["alice", "bob", "carol"])),
    }
}

fn changes(mutator: &mut Mutator) -> Value {
    let kinds = ["friend", "block", "unfriend", "unblock"];
    let change = |mutator: &mut Mutator| json!({ "userId": mutator.word(), *mutator.pick(&kinds): mutator.word() });
    json!([change(mutator), change(mutator)])
}

/// The fields of each function of the back end, in bodies and payloads.
const FIELDS: [(&Function, &[&str]); 7] = [
    (&functions::send_as::FUNCTION, &["from", "type", "receiverId", "groupId", "content", "requestId"]),
    (&functions::moderate_message::FUNCTION, &["id", "receiverId", "groupId", "from"]),
    (&functions::manage_group::FUNCTION, &["method", "groupId", "userId", "name", "managerId", "usersId", "requestId"]),
    (&functions::manage_user::FUNCTION, &["method", "userId", "until"]),
    (&functions::erase_user::FUNCTION, &["userId"]),
    (&functions::export_user::FUNCTION, &["userId", "after"]),
    (&functions::relationship::FUNCTION, &["method", "changes"]),
];

/// A call of the back end, by HTTP or directly.
async fn call(inside: &Inside, mutator: &mut Mutator, findings: &mut Findings, arranged: &Arranged) {
    let (function, fields) = *mutator.pick(&FIELDS);
    let mut payload = json!({});
    for name in fields {
        let is_rare = ["after", "requestId"].contains(name);
        if mutator.in_a_hundred(if is_rare { 20 } else { 75 }) {
            payload[*name] = likely(mutator, name, arranged);
        }
    }
    if mutator.in_a_hundred(30) {
        mutator.json(&mut payload);
    }
    let text = if mutator.in_a_hundred(50) {
        payload.to_string()
    } else {
        http(mutator, function, &payload, arranged).event().to_string()
    };
    let text = if mutator.in_a_hundred(10) { mutator.text(&text) } else { text };
    findings.invoke(inside, function, &text).await;
}

/// The same call by HTTP: each field of the payload is in the query and in the body.
fn http(mutator: &mut Mutator, function: &'static Function, payload: &Value, arranged: &Arranged) -> Rest {
    let route: Route = *mutator.pick(function.routes());
    let variable = |name: &str| match likely(mutator, name, arranged) {
        Value::String(id) if mutator.in_a_hundred(80) => id,
        _ => mutator.word(),
    };
    let mut call = Rest::of(route, variable);
    let parameter = |name: &&str| {
        let value = payload.get(*name).and_then(Value::as_str)?;
        Some(format!("{name}={}", escaped(value)))
    };
    call.query = function.parameters().iter().filter_map(parameter).collect::<Vec<_>>().join("&");
    call.body = Some(payload.get("changes").unwrap_or(payload).to_string());
    call
}

/// A job that a call has queued, sometimes mutated.
async fn queued(inside: &Inside, mutator: &mut Mutator, findings: &mut Findings) {
    for job in inside.world().take_jobs().into_iter().take(3) {
        let job = if mutator.in_a_hundred(30) { mutator.text(&job) } else { job };
        let event = crate::jobs::event(&[job]);
        findings.invoke(inside, &functions::fanout::FUNCTION, &event).await;
    }
}

async fn notify(inside: &Inside, mutator: &mut Mutator, findings: &mut Findings) {
    let mut query = Vec::new();
    for name in ["type", "to", "from"] {
        if mutator.in_a_hundred(60) {
            query.push(format!("{name}={}", escaped(&mutator.word())));
        }
    }
    let mut body = json!({ "notificationType": "like", "content": mutator.value() });
    if mutator.in_a_hundred(30) {
        mutator.json(&mut body);
    }
    let body = body.to_string();
    let body = if mutator.in_a_hundred(20) { mutator.text(&body) } else { body };
    let call = Rest {
        method: "POST".to_owned(),
        path: "/notification".to_owned(),
        query: query.join("&"),
        body: Some(body),
        ..Rest::default()
    };
    findings.invoke(inside, &functions::notification::FUNCTION, &call.event().to_string()).await;
}

async fn relate(inside: &Inside, mutator: &mut Mutator, findings: &mut Findings) {
    let (user, other) = (mutator.word(), mutator.word());
    let method = *mutator.pick(&["PUT", "DELETE", "GET", "PATCH"]);
    let tie = *mutator.pick(&["/friends/", "/blocks/", "/", ""]);
    let mut variables = vec![("userId".to_owned(), user.clone())];
    let mut path = format!("/relationship/{user}");
    if method != "GET" || mutator.in_a_hundred(10) {
        path.push_str(&format!("{tie}{other}"));
        variables.push(("otherId".to_owned(), other));
    }
    let call = Rest { method: method.to_owned(), path, variables, ..Rest::default() };
    findings.invoke(inside, &functions::relationship::FUNCTION, &call.event().to_string()).await;
}

async fn invoke_directly(inside: &Inside, mutator: &mut Mutator, findings: &mut Findings) {
    let notification: (&'static Function, Value) = (
        &functions::notification::FUNCTION,
        json!({ "to": mutator.word(), "notificationType": "like", "content": mutator.value() }),
    );
    let relationship: (&'static Function, Value) = (
        &functions::relationship::FUNCTION,
        json!({ "method": "PUT", "userId": mutator.word(), "friendId": mutator.word() }),
    );
    let (function, mut payload) = if mutator.in_a_hundred(50) { notification } else { relationship };
    if mutator.in_a_hundred(50) {
        mutator.json(&mut payload);
    }
    let text = payload.to_string();
    let text = if mutator.in_a_hundred(20) { mutator.text(&text) } else { text };
    findings.invoke(inside, function, &text).await;
}

/// An event of a connection. The gateway sets the user and the connection. The client sets the rest.
async fn socket(inside: &Inside, mutator: &mut Mutator, findings: &mut Findings, connection: &str) {
    let of_socket = |function: &&'static Function| match function.trigger {
        Trigger::Socket(keys) => Some((*function, keys[0])),
        _ => None,
    };
    let (function, route) = *mutator.pick(&functions::ALL.iter().filter_map(of_socket).collect::<Vec<_>>());
    let mut event = socket_event(route, "bob", connection, Some(&super::parsers::frame(mutator)));
    event["headers"] = json!({ "Host": "gateway.example", "Sec-WebSocket-Protocol": mutator.word() });
    if mutator.in_a_hundred(70) {
        let context = event["requestContext"].take();
        mutator.json(&mut event);
        if event.is_object() {
            event["requestContext"] = context;
        }
    }
    findings.invoke(inside, function, &event.to_string()).await;
}

/// A mutated job of the queue, in an event that may be mutated too.
async fn job(inside: &Inside, mutator: &mut Mutator, findings: &mut Findings) {
    let genuine = include_str!("../../events/sqs-fanout.json");
    let mut event: Value = serde_json::from_str(genuine).expect("a genuine event is JSON");
    let body = event["Records"][0]["body"].as_str().expect("a body").to_owned();
    let mut job: Value = serde_json::from_str(&body).expect("a job is JSON");
    mutator.json(&mut job);
    let body = job.to_string();
    event["Records"][0]["body"] = json!(if mutator.in_a_hundred(30) { mutator.text(&body) } else { body });
    if mutator.in_a_hundred(20) {
        mutator.json(&mut event);
    }
    findings.invoke(inside, &functions::fanout::FUNCTION, &event.to_string()).await;
}

/// Any mutated event, to any function except those of the socket, which trust the gateway about the user.
async fn anything(inside: &Inside, mutator: &mut Mutator, findings: &mut Findings) {
    let ours: Vec<&'static Function> =
        functions::ALL.iter().copied().filter(|f| !matches!(f.trigger, Trigger::Socket(_))).collect();
    let function = *mutator.pick(&ours);
    let text = *mutator.pick(&EVENTS);
    let mut event: Value = serde_json::from_str(text).expect("a genuine event is JSON");
    mutator.json(&mut event);
    let text = event.to_string();
    let text = if mutator.in_a_hundred(40) { mutator.text(&text) } else { text };
    findings.invoke(inside, function, &text).await;
}
