//! The examples of `docs/openapi.yaml` and `docs/asyncapi.yaml`, as calls and frames. So a new endpoint or frame is part of
//! the tests that make every call, without another list.
//!
//! The example of a call has each parameter that has an example there, and the first example of the body. The examples
//! tell of one scene: alice calls, and [`Cast`] puts real users and ids in place of those that they name.

use functions::{Function, Route, Trigger};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::document::{PUBLIC, Place, SOCKET};
use super::scene::{friends_at, group_of};
use super::{Answer, Deployment, User};

/// The functions of the public REST API, each with its route.
pub(crate) fn endpoints() -> Vec<(&'static Function, Route)> {
    let endpoint = |function: &&'static Function| match function.trigger {
        Trigger::Rest(route) => Some((*function, route)),
        _ => None,
    };
    functions::ALL.iter().filter_map(endpoint).collect()
}

/// The frames of clients that a function handles, each with the function and the key of its route.
pub(crate) fn frames() -> Vec<(&'static Function, &'static str, Value)> {
    let operations = SOCKET.root().get("operations").expect("there are operations").entries();
    let of = |key: &str| {
        let of_key = operations.iter().filter(|(_, operation)| operation.value()["x-route"] == key);
        let messages = of_key.flat_map(|(_, operation)| operation.get("messages").expect("it has messages").items());
        let examples = messages.flat_map(|message| message.get("examples").expect("it has examples").items());
        examples.map(|example| example.value()["payload"].clone()).collect::<Vec<_>>()
    };
    let mut frames = Vec::new();
    for function in functions::ALL {
        let Trigger::Socket(keys) = function.trigger else { continue };
        frames.extend(keys.iter().flat_map(|key| of(key).into_iter().map(|frame| (*function, *key, frame))));
    }
    frames
}

/// A parameter of a call.
#[derive(Debug)]
struct Parameter {
    name: String,
    is_in_query: bool,
    /// The text of its example.
    example: Option<String>,
    /// Values of its type.
    values: Vec<String>,
}

impl Parameter {
    fn read(place: &Place<'_>) -> Self {
        let value = place.value();
        let texts = |value: &Value| match value {
            Value::Array(items) => items.iter().map(text).collect(),
            Value::Null => Vec::new(),
            one => vec![text(one)],
        };
        let example = texts(&value["example"]).into_iter().next();
        let schema = place.get("schema").expect("a parameter has a schema");
        let keywords = ["enum", "minimum", "maximum", "default"].map(|keyword| texts(&schema.value()[keyword]));
        let of_kind = match value["schema"]["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
            Some("UserId") => &["alice", "bob", "carol"][..],
            Some("GroupId") => &["0b1d9a52-6c3e-4d1e-9a53-4f2f2f0c7a11"],
            Some("MessageId") => &["00000000000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"],
            _ => &[],
        };
        let values =
            example.iter().cloned().chain(keywords.concat()).chain(of_kind.iter().map(|one| (*one).to_owned()));
        Self { name: text(&value["name"]), is_in_query: value["in"] == "query", values: values.collect(), example }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn operation(route: Route) -> (Place<'static>, Place<'static>) {
    let path = PUBLIC.root().get("paths").and_then(|paths| paths.get(route.path));
    let path = path.unwrap_or_else(|| panic!("docs/openapi.yaml does not describe {}", route.path));
    let operation = path.get(&route.method.to_ascii_lowercase());
    let operation = operation.unwrap_or_else(|| panic!("docs/openapi.yaml does not describe {route:?}"));
    (path, operation)
}

fn parameters_of(route: Route) -> Vec<Parameter> {
    let (path, operation) = operation(route);
    let lists = [path, operation].into_iter().filter_map(|place| place.get("parameters"));
    lists.flat_map(|list| list.items()).map(|place| Parameter::read(&place)).collect()
}

/// The query of a route's example, without the token.
pub(crate) fn query_of(route: Route) -> Vec<(String, String)> {
    let parameters = parameters_of(route).into_iter().filter(|parameter| parameter.is_in_query);
    parameters.filter_map(|parameter| Some((parameter.name, parameter.example?))).collect()
}

/// The query parameters of all calls, with values of their types.
pub(crate) fn parameters() -> Vec<(String, Vec<String>)> {
    let all = endpoints().into_iter().flat_map(|(_, route)| parameters_of(route));
    let mut parameters: Vec<_> =
        all.filter(|one| one.is_in_query && !one.values.is_empty()).map(|one| (one.name, one.values)).collect();
    parameters.sort_unstable();
    parameters.dedup();
    parameters
}

fn body_of(route: Route) -> Option<Value> {
    let content = operation(route).1.get("requestBody")?.get("content")?.get("application/json")?;
    let examples = content.value()["examples"].as_object();
    let first = examples.and_then(|examples| examples.values().next()).map(|example| example["value"].clone());
    first.or_else(|| content.value().get("example").cloned())
}

/// Users and things of a deployment, in place of those that the examples name.
pub(crate) struct Cast {
    pub(crate) alice: User,
    pub(crate) bob: User,
    real: [(&'static str, String); 6],
}

impl Cast {
    /// Two friends, of whom alice manages a group with bob, has sent him a message, missed one of his, and has an
    /// invitation.
    pub(crate) async fn at(deployment: &Deployment) -> Self {
        let (alice, bob) = friends_at(deployment).await;
        let (group, other) = (group_of(&alice, &[&bob]).await, group_of(&bob, &[]).await);
        bob.invite(&alice, &other).await.empty();
        let invitation = alice.invitation().await.id;
        bob.send_by_rest(&alice, "missed").await;
        let page = alice.pull_with(&[("drop", "false")]).await.token.expect("a page with a message");
        let message = alice.send_by_rest(&bob, "hello").await.id;
        let real = [
            ("bob", bob.id().to_owned()),
            ("carol", User::of(deployment, "carol").id().to_owned()),
            ("0b1d9a52-6c3e-4d1e-9a53-4f2f2f0c7a11", group),
            ("01KB0Q4Z6M8T2V4X6Z8A0C2E4G", message),
            ("01KB0Q53F1W8N7C2T9Y4R6M3ZK", page),
            ("5f0d2b8e-3a52-5a4e-8f1b-0d7c5a9b6e21", invitation),
        ];
        Self { alice, bob, real }
    }

    fn real(&self, named: String) -> String {
        let real = self.real.iter().find(|(name, _)| *name == named);
        real.map_or(named, |(_, real)| real.clone())
    }

    /// An example with real users and ids.
    pub(crate) fn play(&self, example: Value) -> Value {
        match example {
            Value::String(named) => json!(self.real(named)),
            Value::Array(items) => items.into_iter().map(|item| self.play(item)).collect(),
            Value::Object(fields) => {
                Value::Object(fields.into_iter().map(|(name, value)| (name, self.play(value))).collect::<Map<_, _>>())
            }
            other => other,
        }
    }

    /// Alice makes the example call of a route.
    pub(crate) async fn call(&self, route: Route) -> Answer {
        self.call_with(route, None).await
    }

    /// Alice makes it again with each value of each further parameter. Some are refused.
    pub(crate) async fn call_with_more(&self, route: Route) {
        let further = parameters_of(route).into_iter().filter(|one| one.is_in_query && one.example.is_none());
        for parameter in further {
            for value in &parameter.values {
                self.call_with(route, Some((&parameter.name, value))).await;
            }
        }
    }

    async fn call_with(&self, route: Route, more: Option<(&str, &str)>) -> Answer {
        let mut path = route.path.to_owned();
        let parameters = parameters_of(route).into_iter();
        for parameter in parameters.filter(|parameter| !parameter.is_in_query) {
            let example = parameter.example.unwrap_or_else(|| panic!("{} of {route:?} has no example", parameter.name));
            path = path.replace(&format!("{{{}}}", parameter.name), &self.real(example));
        }
        let mut call = self.alice.call(Method::from_bytes(route.method.as_bytes()).expect("a method"), &path);
        for (name, example) in query_of(route) {
            call = call.param(&name, &self.real(example));
        }
        if let Some((name, value)) = more {
            call = call.param(name, &self.real(value.to_owned()));
        }
        if let Some(body) = body_of(route) {
            call = call.json(&self.play(body));
        }
        call.send().await
    }
}
