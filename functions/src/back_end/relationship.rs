//! Friends and blocks. The host application keeps them current.
//!
//! `PUT` and `DELETE /relationship/{userId}/friends/{otherId}` (mutual), `PUT` and `DELETE
//! /relationship/{userId}/blocks/{otherId}` (the first blocks the second), `GET /relationship/{userId}` → `{friends,
//! blocks}`. Or a direct invocation: `{"method": "PUT" | "DELETE" | "GET", "userId", "friendId" | "blockedId"}`.
//! All calls are idempotent. 400: a wrong id or method.

use futures::future::BoxFuture;
use shared::frame::encode;
use shared::id::UserId;
use shared::json::Object;
use shared::rules::block::Block;
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, MAX_BODY_BYTES, Reply, fits, parse_id};
use crate::call::internal::{Endpoint, optional_text};
use crate::function::{Function, Needs, Route};

/// The function.
pub static FUNCTION: Function = Function::internal(
    "relationship",
    &[
        Route { method: "GET", path: "/relationship/{userId}" },
        Route { method: "PUT", path: "/relationship/{userId}/friends/{otherId}" },
        Route { method: "DELETE", path: "/relationship/{userId}/friends/{otherId}" },
        Route { method: "PUT", path: "/relationship/{userId}/blocks/{otherId}" },
        Route { method: "DELETE", path: "/relationship/{userId}/blocks/{otherId}" },
    ],
    Needs::Table,
    Endpoint { parameters: &[], http, direct, max_body_bytes: MAX_BODY_BYTES, refusal: |error| error },
);

/// The relation that is changed, with the other user.
#[derive(Debug)]
enum Relation {
    Friend(UserId),
    Blocked(UserId),
}

fn http<'a>(app: &'a App, input: &'a Input) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let user = input.path_id("userId")?;
        let relation = match input.route().rsplit('/').nth(1) {
            Some("friends") => Some(Relation::Friend(input.path_id("otherId")?)),
            Some("blocks") => Some(Relation::Blocked(input.path_id("otherId")?)),
            _ => None,
        };
        match (input.method(), relation) {
            ("GET", None) => relationships(app, &user).await.map(Reply::encoded),
            (method, Some(relation)) => change(app, method, &user, relation).await.map(|()| Reply::empty()),
            (_, None) => Err(Error::MethodNotAllowed("GET".to_owned())),
        }
    })
}

fn direct<'a>(app: &'a App, payload: Object<'a>) -> BoxFuture<'a, Result<Option<String>>> {
    Box::pin(async move {
        let text = |name| optional_text(&payload, name);
        let id = |name| text(name)?.map(|id| parse_id(name, &id)).transpose();
        let user = id("userId")?.ok_or_else(|| Error::field("userId", "is missing"))?;
        let relation = match (id("friendId")?, id("blockedId")?) {
            (Some(friend), None) => Some(Relation::Friend(friend)),
            (None, Some(blocked)) => Some(Relation::Blocked(blocked)),
            (None, None) => None,
            _ => return Err(Error::field("blockedId", "does not go with friendId")),
        };
        match (text("method")?.as_deref(), relation) {
            (Some("GET"), None) => relationships(app, &user).await.map(Some),
            (Some(method @ ("PUT" | "DELETE")), Some(relation)) => {
                change(app, method, &user, relation).await.map(|()| None)
            }
            (Some("PUT" | "DELETE"), None) => Err(Error::field("friendId", "or blockedId is missing")),
            (Some("GET"), Some(_)) => Err(Error::field("method", "GET goes with userId alone")),
            _ => Err(Error::field("method", "must be one of GET, PUT, DELETE")),
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

/// Resolves when every machine's clock is past the change. A message sent after the answer then has an id after the
/// change. With an earlier id, a pull could leave it out for good.
async fn wait_past(app: &App, block: &Block) -> Result<()> {
    if let Some(changed) = block.changed() {
        app.wait_past(changed).await;
    }
    Ok(())
}

async fn change(app: &App, method: &str, user: &UserId, relation: Relation) -> Result<()> {
    let (Relation::Friend(other) | Relation::Blocked(other)) = &relation;
    if other == user {
        return Err(Error::BadRequest("a user can neither befriend nor block themselves".to_owned()));
    }
    match (method, &relation) {
        ("PUT", Relation::Friend(friend)) => app.table.befriend(user, friend).await,
        ("DELETE", Relation::Friend(friend)) => app.table.unfriend(user, friend).await,
        ("PUT", Relation::Blocked(blocked)) => wait_past(app, &app.table.block(user, blocked).await?).await,
        ("DELETE", Relation::Blocked(blocked)) => wait_past(app, &app.table.unblock(user, blocked).await?).await,
        _ => Err(Error::MethodNotAllowed("PUT, DELETE".to_owned())),
    }
}
