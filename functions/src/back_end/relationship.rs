//! Friends and blocks. The host application keeps them current.
//!
//! `PUT` and `DELETE /relationship/{userId}/friends/{otherId}` (mutual), `PUT` and `DELETE
//! /relationship/{userId}/blocks/{otherId}` (the first blocks the second), `GET /relationship/{userId}` → `{friends,
//! blocks}`. `POST /relationship` makes up to 1,000 changes: an array of `{"userId", "friend" | "block" | "unfriend" |
//! "unblock": otherId}` → `{"done": n}`. Or a direct invocation: `{"method": "PUT" | "DELETE" | "GET", "userId", "friendId" |
//! "blockedId"}`, or `{"method": "POST", "changes": [...]}`.
//!
//! All calls are idempotent. 400: a wrong id or method, or a wrong element of the array, the first of which is named; then
//! nothing is done.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use serde_json::value::RawValue;
use shared::clock::Ms;
use shared::frame::encode;
use shared::id::UserId;
use shared::json::Object;
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, Reply, fits};
use crate::call::internal::{Endpoint, optional_id, optional_text, required_id};
use crate::function::{Function, Route};

/// The function.
pub static FUNCTION: Function = Function::internal(
    "relationship",
    &[
        Route { method: "POST", path: "/relationship" },
        Route { method: "GET", path: "/relationship/{userId}" },
        Route { method: "PUT", path: "/relationship/{userId}/friends/{otherId}" },
        Route { method: "DELETE", path: "/relationship/{userId}/friends/{otherId}" },
        Route { method: "PUT", path: "/relationship/{userId}/blocks/{otherId}" },
        Route { method: "DELETE", path: "/relationship/{userId}/blocks/{otherId}" },
    ],
    Endpoint { parameters: &[], http, direct, max_body_bytes: MAX_BODY_BYTES, refusal: |error| error },
);

/// The largest body, in bytes: 1,000 changes between users with the longest ids.
const MAX_BODY_BYTES: usize = 512 * 1024;

/// The most changes of one call.
const MAX_CHANGES: usize = 1_000;

/// How many changes are made at the same time.
const MAX_IN_FLIGHT: usize = 16;

/// The relation that is changed, with the other user.
#[derive(Debug)]
enum Relation {
    Friend(UserId),
    Blocked(UserId),
}

impl Relation {
    fn other(&self) -> &UserId {
        let (Self::Friend(other) | Self::Blocked(other)) = self;
        other
    }
}

fn http<'a>(app: &'a App, input: &'a Input) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        if input.method() == "POST" {
            return change_all(app, "the body", input.body()?).await.map(Reply::encoded);
        }
        let user = input.path_id("userId")?;
        let relation = match input.route().rsplit('/').nth(1) {
            Some("friends") => Some(Relation::Friend(input.path_id("otherId")?)),
            Some("blocks") => Some(Relation::Blocked(input.path_id("otherId")?)),
            _ => None,
        };
        match (input.method(), relation) {
            ("GET", None) => relationships(app, &user).await.map(Reply::encoded),
            (method, Some(relation)) => {
                require_another("otherId", &relation, &user)?;
                change(app, method, &user, relation).await.map(|()| Reply::empty())
            }
            (_, None) => Err(Error::MethodNotAllowed("GET".to_owned())),
        }
    })
}

fn direct<'a>(app: &'a App, payload: Object<'a>) -> BoxFuture<'a, Result<Option<String>>> {
    Box::pin(async move {
        let method = optional_text(&payload, "method")?;
        if method.as_deref() == Some("POST") {
            let changes = payload.get("changes").ok_or_else(|| Error::field("changes", "is missing"))?;
            return change_all(app, "changes", changes.get()).await.map(Some);
        }
        let user = required_id(&payload, "userId")?;
        let relation = match (optional_id(&payload, "friendId")?, optional_id(&payload, "blockedId")?) {
            (Some(friend), None) => Some(("friendId", Relation::Friend(friend))),
            (None, Some(blocked)) => Some(("blockedId", Relation::Blocked(blocked))),
            (None, None) => None,
            _ => return Err(Error::field("blockedId", "does not go with friendId")),
        };
        match (method.as_deref(), relation) {
            (Some("GET"), None) => relationships(app, &user).await.map(Some),
            (Some(method @ ("PUT" | "DELETE")), Some((field, relation))) => {
                require_another(field, &relation, &user)?;
                change(app, method, &user, relation).await.map(|()| None)
            }
            (Some("PUT" | "DELETE"), None) => Err(Error::field("friendId", "or blockedId is missing")),
            (Some("GET"), Some(_)) => Err(Error::field("method", "GET goes with userId alone")),
            _ => Err(Error::field("method", "must be one of GET, POST, PUT, DELETE")),
        }
    })
}

/// Returns a user's friends and blocks, as JSON.
async fn relationships(app: &App, user: &UserId) -> Result<String> {
    let json = encode(&app.table.relationships(user).await?);
    match fits(&json) {
        true => Ok(json),
        false => Err(Error::field("userId", "has too many friends and blocks for one answer")),
    }
}

/// A change of an import.
struct Change {
    user: UserId,
    method: &'static str,
    relation: Relation,
}

impl Change {
    /// Reads an element of the array.
    fn read(index: usize, json: &RawValue) -> Result<Self> {
        let wrong = |why: String| Error::BadRequest(format!("[{index}] {why}"));
        let object = Object::parse(json.get()).map_err(|why| wrong(why.to_string()))?;
        let id = |name: &str| -> Result<Option<UserId>> {
            optional_id(&object, name)
                .map_err(|error| Error::BadRequest(format!("[{index}].{}", error.problem().detail)))
        };
        let user = id("userId")?.ok_or_else(|| wrong("userId is missing".to_owned()))?;
        let mut found = Vec::new();
        for (name, method, relation) in KINDS {
            found.extend(id(name)?.map(|other| (name, method, relation(other))));
        }
        let Some((name, method, relation)) = found.pop().filter(|_| found.is_empty()) else {
            return Err(wrong("must have exactly one of friend, block, unfriend, unblock".to_owned()));
        };
        require_another(&format!("[{index}].{name}"), &relation, &user)?;
        Ok(Self { user, method, relation })
    }

    /// Returns the two users, in the order of their ids.
    fn pair(&self) -> (UserId, UserId) {
        let (one, two) = (self.user.clone(), self.relation.other().clone());
        if one <= two { (one, two) } else { (two, one) }
    }
}

/// A kind of change: its field, and the method and the relation of the call that does the same.
type Kind = (&'static str, &'static str, fn(UserId) -> Relation);

const KINDS: [Kind; 4] = [
    ("friend", "PUT", Relation::Friend),
    ("block", "PUT", Relation::Blocked),
    ("unfriend", "DELETE", Relation::Friend),
    ("unblock", "DELETE", Relation::Blocked),
];

/// Makes all changes of an array, whose place in the request is `name`. Those of the same two users are made in order.
async fn change_all(app: &App, name: &str, array: &str) -> Result<String> {
    let elements: Vec<&RawValue> =
        serde_json::from_str(array).map_err(|_| Error::field(name, "must be an array of objects"))?;
    if elements.len() > MAX_CHANGES {
        return Err(Error::field(name, format!("has {} changes; the limit is {MAX_CHANGES}", elements.len())));
    }
    let mut by_pair: BTreeMap<(UserId, UserId), Vec<Change>> = BTreeMap::new();
    for (index, element) in elements.iter().enumerate() {
        let change = Change::read(index, element)?;
        by_pair.entry(change.pair()).or_default().push(change);
    }
    let in_order = |changes: Vec<Change>| async move {
        let mut last = None;
        for Change { user, method, relation } in changes {
            last = write(app, method, &user, &relation).await?.max(last);
        }
        Ok::<_, Error>(last)
    };
    let all = stream::iter(by_pair.into_values().map(in_order).collect::<Vec<_>>()).buffer_unordered(MAX_IN_FLIGHT);
    let last = all.try_fold(None, async |last, time| Ok(time.max(last))).await?;
    wait_past(app, last).await;
    Ok(encode(&json!({ "done": elements.len() })))
}

/// Refuses a relation of a user to themselves. `field` has the id of the other user.
fn require_another(field: &str, relation: &Relation, user: &UserId) -> Result<()> {
    match relation.other() == user {
        true => Err(Error::field(field, "must be another user")),
        false => Ok(()),
    }
}

/// Resolves when every machine's clock is past a change of a block. A message sent after the answer then has an id after
/// the change. With an earlier id, a pull could leave it out for good.
async fn wait_past(app: &App, changed: Option<Ms>) {
    if let Some(changed) = changed {
        app.wait_past(changed).await;
    }
}

async fn change(app: &App, method: &str, user: &UserId, relation: Relation) -> Result<()> {
    wait_past(app, write(app, method, user, &relation).await?).await;
    Ok(())
}

/// Writes a change. Returns the time of a change of a block.
async fn write(app: &App, method: &str, user: &UserId, relation: &Relation) -> Result<Option<Ms>> {
    match (method, relation) {
        ("PUT", Relation::Friend(friend)) => app.table.befriend(user, friend).await.map(|()| None),
        ("DELETE", Relation::Friend(friend)) => app.table.unfriend(user, friend).await.map(|()| None),
        ("PUT", Relation::Blocked(blocked)) => Ok(app.table.block(user, blocked).await?.changed()),
        ("DELETE", Relation::Blocked(blocked)) => Ok(app.table.unblock(user, blocked).await?.changed()),
        _ => Err(Error::MethodNotAllowed("PUT, DELETE".to_owned())),
    }
}
