//! The documents in `docs/` that describe the APIs for programs. `world::document` checks the answers and frames of all
//! other tests against them, and `localstack/tests/template.rs` checks the routes. This module checks the rest.

use std::collections::BTreeSet;
use std::path::Path;

use functions::Route;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use shared::config::Config;
use shared::frame::MAX_FRAME_BYTES;
use shared::id::{MAX_ID_BYTES, MAX_REQUEST_ID_BYTES};
use shared::rules::page::MAX_PAGE_BYTES;

use crate::stack::Local;
use crate::world::deployment::free_ports;
use crate::world::document::{Document, INTERNAL, PUBLIC, Place, SOCKET};
use crate::world::example::{Cast, endpoints, frames};
use crate::world::{BackEnd, Deployment, User};

/// The documents that the stack serves, and whether the public or the internal address serves them.
const SERVED: [(&str, bool, &str); 3] = [
    ("openapi", true, include_str!("../../docs/openapi.yaml")),
    ("asyncapi", true, include_str!("../../docs/asyncapi.yaml")),
    ("openapi-internal", false, include_str!("../../docs/openapi-internal.yaml")),
];

fn all() -> [&'static Document; 3] {
    [&PUBLIC, &INTERNAL, &SOCKET]
}

#[tokio::test]
async fn the_local_stack_serves_each_document_at_the_address_of_its_api() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let (user, back_end) = (local.user("alice"), local.user("bob").back_end());
    for (name, is_public, text) in SERVED {
        for (ending, kind) in [("yaml", "application/yaml"), ("json", "application/json")] {
            let path = format!("/{name}.{ending}");
            let (there, elsewhere) = match is_public {
                true => (user.anonymous_call(Method::GET, &path), back_end.call(Method::GET, &path)),
                false => (back_end.call(Method::GET, &path), user.anonymous_call(Method::GET, &path)),
            };
            let answer = there.send().await.ok();
            assert_eq!(answer.header("content-type"), Some(kind), "{path}");
            let served: Value = serde_yaml_ng::from_str(&answer.body).expect("JSON is YAML");
            assert_eq!(served, serde_yaml_ng::from_str::<Value>(text).expect("a document is YAML"), "{path}");
            assert_eq!(elsewhere.send().await.status, 404, "{path}");
        }
    }
    local.stop().await;
}

/// The values in the first column of the tables of a section.
fn rows<'a>(document: &'a str, section: &str) -> BTreeSet<&'a str> {
    let (_, text) = document.split_once(&format!("\n## {section}\n")).expect("the section is there");
    let text = text.split("\n## ").next().expect("a text has a first part");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let values = rows.flat_map(|first| first.split(", ")).map(|value| value.trim_matches('`'));
    values.filter(|value| !["code", "status", "---"].contains(value)).collect()
}

#[test]
fn all_errors_are_in_one_document() {
    let errors = include_str!("../../docs/errors.md");
    let schema = SOCKET.place("/components/schemas/Error/properties/code/enum").expect("there are codes");
    let codes: Vec<String> = serde_json::from_value(schema.value().clone()).expect("a list of codes");
    assert_eq!(rows(errors, "`ERROR` frames"), codes.iter().map(String::as_str).collect());
    let mut places = Vec::new();
    walk(&PUBLIC.root(), &mut places);
    let answers = places.iter().filter_map(|place| place.value().as_object()).flatten().map(|(key, _)| key.as_str());
    let statuses = answers.filter(|key| key.len() == 3 && key.starts_with(['4', '5']) && key.parse::<u16>().is_ok());
    // 405 answers the methods that no operation describes.
    assert_eq!(rows(errors, "Answers of REST calls"), statuses.chain(["405"]).collect());
}

#[tokio::test]
async fn other_sites_may_read_the_public_documents() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let call =
        local.user("alice").anonymous_call(Method::GET, "/openapi.yaml").header("origin", "https://editor.example");
    assert_eq!(call.send().await.ok().header("access-control-allow-origin"), Some("*"));
    local.stop().await;
}

/// Collects every object of a document.
fn walk<'a>(place: &Place<'a>, found: &mut Vec<Place<'a>>) {
    let Some(fields) = place.value().as_object() else {
        return place.items().iter().for_each(|item| walk(item, found));
    };
    found.push(place.clone());
    // References are followed at their target. Examples are not descriptions.
    let own = fields.iter().filter(|(key, value)| !key.starts_with("example") && value.get("$ref").is_none());
    own.filter_map(|(key, _)| place.get(key)).for_each(|child| walk(&child, found));
}

/// The examples beside a schema, and the key of that schema.
fn examples(place: &Place<'_>) -> Vec<(&'static str, Value)> {
    let value = place.value();
    let one = value.get("example").cloned();
    let named = value.get("examples").and_then(Value::as_object).into_iter().flat_map(|examples| examples.values());
    let named = named.map(|example| example["value"].clone());
    let of_message = value.get("examples").and_then(Value::as_array).into_iter().flatten();
    let of_message = of_message.map(|example| ("payload", example["payload"].clone()));
    one.into_iter().chain(named).map(|example| ("schema", example)).chain(of_message).collect()
}

#[test]
fn examples_match_their_schemas() {
    let mut counted = Vec::new();
    for document in all() {
        let mut places = Vec::new();
        walk(&document.root(), &mut places);
        let examples: Vec<_> =
            places.iter().flat_map(|place| examples(place).into_iter().map(move |example| (place, example))).collect();
        for (place, (key, example)) in &examples {
            place.holds(key, example).unwrap_or_else(|why| panic!("{example}: {why}"));
        }
        counted.push(examples.len());
    }
    assert!(counted.iter().all(|count| *count >= 10), "{counted:?}");
}

#[tokio::test]
async fn the_example_of_each_call_succeeds() {
    let example = async |route| {
        let answer = Cast::at(&Deployment::shared()).await.call(route).await;
        assert_eq!(answer.status, 200, "{route:?}: {answer:?}");
    };
    join_all(endpoints().into_iter().map(|(_, route)| example(route))).await;
}

#[tokio::test]
async fn the_example_of_each_acknowledged_frame_is_accepted() {
    let cast = Cast::at(&Deployment::shared()).await;
    let mut device = cast.alice.connect_2().await;
    let frames = frames().into_iter().map(|(_, _, frame)| cast.play(frame));
    let mut accepted = 0;
    for frame in frames.filter(|frame| frame["requestId"].is_string()) {
        device.send_text(&frame.to_string()).await;
        device.expect_ack(frame["requestId"].as_str().expect("a request id")).await;
        accepted += 1;
    }
    assert!(accepted >= 2, "{accepted}");
}

/// Whether a cell of the table in the overview names a method and a path, perhaps with a query.
fn names(cell: &str, route: Route) -> bool {
    let mut paths = cell.split(['`', ' ']).filter(|word| word.starts_with('/'));
    let is_there = paths.any(|path| path.split('?').next() == Some(route.path));
    is_there && cell.split(['`', ' ']).any(|word| word == route.method)
}

#[test]
fn the_overview_names_every_call_and_every_frame() {
    let overview = include_str!("../../docs/protocol.md");
    let cells: Vec<_> = overview.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).collect();
    for (_, route) in endpoints() {
        assert!(cells.iter().any(|cell| names(cell, route)), "docs/protocol.md has no {} {}", route.method, route.path);
    }
    let messages = SOCKET.place("/components/messages").expect("there are messages").entries();
    let examples = messages.iter().flat_map(|(_, message)| examples(message));
    let kinds: BTreeSet<_> = examples.filter_map(|(_, example)| Some(example["type"].as_str()?.to_owned())).collect();
    assert!(kinds.len() >= 10, "{kinds:?}");
    for kind in kinds {
        assert!(overview.contains(&format!("`{kind}`")), "docs/protocol.md has no frame {kind}");
    }
}

#[test]
fn every_answer_and_every_message_has_an_example() {
    for document in all() {
        let mut places = Vec::new();
        walk(&document.root(), &mut places);
        let is_body = |place: &&Place<'_>| {
            let value = place.value();
            value.get("payload").is_some() || (value.get("schema").is_some() && value.get("in").is_none())
        };
        // A schema of a header describes the header.
        let bodies = places.iter().filter(is_body).filter(|place| !place.is_header());
        bodies.for_each(|place| assert!(!examples(place).is_empty(), "{}", place.value()));
    }
}

#[test]
fn schemas_with_the_same_name_are_equal() {
    let schemas = |document: &'static Document| document.place("/components/schemas").expect("there are schemas");
    let mut compared = 0;
    for (one, other) in [(&*PUBLIC, &*SOCKET), (&*PUBLIC, &*INTERNAL)] {
        for (name, schema) in schemas(one).entries() {
            if let Some(same) = schemas(other).get(&name) {
                assert_eq!(schema.value(), same.value(), "{name}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 21);
}

/// A configuration with one variable set.
fn with(variable: &str, value: &str) -> Result<Config, shared::config::ConfigError> {
    Config::read(|name| match name {
        _ if name == variable => Some(value.to_owned()),
        "TABLE_NAME" | "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("any".to_owned()),
        "JWT_SECRET" => Some("x".repeat(32)),
        _ => None,
    })
}

fn limit(config: &Config, variable: &str) -> u64 {
    match variable {
        "JWT_LEEWAY_SECONDS" => config.tokens.as_ref().expect("there is a secret").leeway.as_secs(),
        "MAX_CONNECTIONS" => config.max_connections as u64,
        "MAX_GROUP_MEMBERS" => config.max_group_members.into(),
        "MAX_GROUPS" => config.max_groups as u64,
        "MAX_INVITATIONS" => config.max_invitations as u64,
        "MAX_PAGE_MESSAGES" => config.max_page_messages as u64,
        "MESSAGES_PER_MINUTE" => config.messages_per_minute.into(),
        "RECALL_MINUTES" => config.recall_ms / 60_000,
        "RETENTION_DAYS" => config.retention.as_secs() / 86_400,
        _ => panic!("{variable} is no limit of the configuration"),
    }
}

#[test]
fn documented_limits_match_the_configuration() {
    let unset = with("", "").expect("nothing else is needed");
    for document in [&*PUBLIC, &*SOCKET] {
        for (variable, bounds) in document.place("/x-limits").expect("there are limits").entries() {
            let bound = |name: &str| bounds.value()[name].as_u64().expect("a number");
            assert_eq!(bound("default"), limit(&unset, &variable), "{variable}");
            for allowed in [bound("minimum"), bound("maximum")] {
                let config = with(&variable, &allowed.to_string()).unwrap_or_else(|why| panic!("{why}"));
                assert_eq!(limit(&config, &variable), allowed, "{variable}");
            }
            assert!(with(&variable, &(bound("maximum") + 1).to_string()).is_err(), "{variable}");
            assert!(with(&variable, &(i128::from(bound("minimum")) - 1).to_string()).is_err(), "{variable}");
        }
    }
}

#[test]
fn documented_lengths_match_the_code() {
    let number = |document: &'static Document, pointer: &str| {
        document.place(pointer).and_then(|place| place.value().as_u64()).unwrap_or_else(|| panic!("{pointer}"))
    };
    let schema = |name: &str, keyword: &str| number(&PUBLIC, &format!("/components/schemas/{name}/{keyword}"));
    for name in ["UserId", "GroupId", "InvitationId"] {
        assert_eq!(schema(name, "maxLength"), MAX_ID_BYTES as u64, "{name}");
    }
    assert_eq!(number(&INTERNAL, "/components/schemas/Id/maxLength"), MAX_ID_BYTES as u64);
    assert_eq!(number(&SOCKET, "/components/schemas/RequestId/maxLength"), MAX_REQUEST_ID_BYTES as u64);
    assert_eq!(number(&SOCKET, "/x-bytes/requestId"), MAX_REQUEST_ID_BYTES as u64);
    assert_eq!(number(&SOCKET, "/x-bytes/frame"), MAX_FRAME_BYTES as u64);
    assert_eq!(number(&PUBLIC, "/x-bytes/page"), MAX_PAGE_BYTES as u64);
    assert_eq!(number(&SOCKET, "/x-bytes/notification"), number(&INTERNAL, "/x-bytes/notification"));
    let most = |variable: &str| number(&PUBLIC, &format!("/x-limits/{variable}/maximum"));
    assert_eq!(number(&PUBLIC, "/components/schemas/Group/properties/usersId/maxItems"), most("MAX_GROUP_MEMBERS"));
    assert_eq!(schema("Invitations", "maxItems"), most("MAX_INVITATIONS"));
    assert_eq!(schema("MissedMessages", "maxItems"), most("MAX_PAGE_MESSAGES"));
    assert_eq!(schema("FromSender/properties/messages", "maxItems"), most("MAX_PAGE_MESSAGES"));
}

#[test]
fn lengths_in_bytes_are_also_in_the_descriptions() {
    for ((_, _, text), document) in SERVED.into_iter().zip([&*PUBLIC, &*SOCKET, &*INTERNAL]) {
        for (name, bytes) in document.place("/x-bytes").expect("there are lengths").entries() {
            let bytes = bytes.value().to_string();
            assert!(text.split(|c: char| !c.is_ascii_digit()).filter(|word| *word == bytes).count() > 1, "{name}");
        }
    }
}

#[tokio::test]
async fn a_name_may_have_the_documented_length() {
    let most = PUBLIC.place("/components/schemas/GroupName/maxLength").and_then(|place| place.value().as_u64());
    let name = "ä".repeat(usize::try_from(most.expect("a number")).expect("a length"));
    let alice = User::new("alice");
    alice.post("/api/group", &[("name", &name)]).await.ok();
    alice.post("/api/group", &[("name", &format!("{name}ä"))]).await.refused(400, "name");
}

#[tokio::test]
async fn a_notification_may_have_the_documented_length() {
    let most = INTERNAL.place("/x-bytes/notification").and_then(|place| place.value().as_u64());
    let most = usize::try_from(most.expect("a number")).expect("a length");
    let overhead = json!({"type": "NOTIFICATION", "notificationType": "n", "content": ""}).to_string().len();
    let body = |bytes: usize| json!({"notificationType": "n", "content": "x".repeat(bytes - overhead)});
    let (alice, back_end) = (User::of(&Deployment::shared(), "alice"), BackEnd::new());
    back_end.notify(&[("to", alice.id())], &body(most)).await.empty();
    back_end.notify(&[("to", alice.id())], &body(most + 1)).await.refused(403, "long");
}

#[test]
fn an_undescribed_field_fails_the_check() {
    if Deployment::is_elsewhere() {
        return;
    }
    let ack = json!({"type": "ACK", "requestId": "1", "id": "01KB0Q4Z6M8T2V4X6Z8A0C2E4G", "timestamp": 1});
    SOCKET.holds_frame(&ack).unwrap();
    let mut more = ack.clone();
    more["more"] = json!(1);
    SOCKET.holds_frame(&more).unwrap_err();
    let mut less = ack;
    less.as_object_mut().unwrap().remove("id");
    SOCKET.holds_frame(&less).unwrap_err();
}

/// API Gateway may rename the header.
#[test]
fn a_401_needs_no_www_authenticate() {
    let pointer = "/components/responses/Unauthorized/headers/WWW-Authenticate/required";
    assert_eq!(PUBLIC.place(pointer).expect("it is described").value(), false);
}

/// Returns the cells of a row of `docs/aws-behaviour.md`: row, behaviour, status, source, file here, test.
fn behaviour(line: &str) -> Option<[&str; 6]> {
    let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    cells.try_into().ok().filter(|[id, ..]: &[&str; 6]| !["row", "---"].contains(id))
}

#[test]
fn the_behaviours_of_aws_have_sources_tests_and_a_probe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|why| panic!("{path}: {why}"));
    let document = read("docs/aws-behaviour.md");
    let rows: Vec<_> = document.lines().filter_map(behaviour).collect();
    let probe = read("tests/probe/module.py") + &read("tests/probe/scratch.py");
    let asked: BTreeSet<_> = probe.split("\n@row(\"").skip(1).filter_map(|row| row.split('"').next()).collect();
    let named: BTreeSet<_> = rows.iter().map(|[id, ..]| *id).collect();
    assert_eq!(named.len(), rows.len(), "a row is there twice");
    assert_eq!(asked.difference(&named).collect::<Vec<_>>(), Vec::<&&str>::new(), "the probe asks what is not written");
    for [id, _, status, source, here, test] in &rows {
        match *status {
            "documented" => assert!(source.contains("](https://"), "{id} has no source"),
            "reported" => {
                assert!(source.contains("](https://") && asked.contains(id), "{id} has no source or no probe");
            }
            "assumed" => assert!(asked.contains(id), "the probe does not ask {id}"),
            other => panic!("{id} is {other}"),
        }
        let file = here.trim_matches('`');
        assert!(root.join(file).is_file(), "{id}: there is no {file}");
        if *test != "none" {
            let (file, name) = test.trim_matches('`').split_once("::").expect("FILE::TEST");
            assert!(read(file).contains(&format!("fn {name}(")), "{id}: there is no test {name} in {file}");
        }
    }
    let sources = rows.iter().filter(|[_, _, _, source, ..]| source.contains("](https://")).count();
    assert!(sources >= 40, "only {sources} rows have a source");
}
