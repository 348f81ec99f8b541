//! Users of the back end. All calls are idempotent.
//!
//! - `GET /user/{userId}` → `{connections, groups, bannedUntil?, erasing?}`: the number of open connections, and the ids of
//!   groups.
//! - `DELETE /user/{userId}/connections` closes every connection now. The client may connect again.
//! - `PUT /user/{userId}/ban?until=<RFC 3339>` closes them too, and refuses the user until then: handshakes, public calls and
//!   sends. `DELETE /user/{userId}/ban` ends a ban.
//!
//! 400: a wrong field. 409: the user is being erased, and the ban must stay. Or a direct invocation: `{"method": "GET" |
//! "DISCONNECT" | "BAN" | "UNBAN", "userId", "until"?}`.

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use futures::future::BoxFuture;
use serde::Serialize;
use shared::clock::Ms;
use shared::error::BANNED;
use shared::frame::{ErrorCode, ErrorFrame, encode};
use shared::id::{GroupId, UserId};
use shared::json::Object;
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, MAX_BODY_BYTES, Reply};
use crate::call::internal::{Endpoint, optional_text, required_id, required_text};
use crate::delivery::kick::kick;
use crate::function::{Function, Route};

/// The function.
pub static FUNCTION: Function = Function::internal(
    "manage_user",
    &[
        Route { method: "GET", path: "/user/{userId}" },
        Route { method: "DELETE", path: "/user/{userId}/connections" },
        Route { method: "PUT", path: "/user/{userId}/ban" },
        Route { method: "DELETE", path: "/user/{userId}/ban" },
    ],
    Endpoint { parameters: &["until"], http, direct, max_body_bytes: MAX_BODY_BYTES, refusal: |error| error },
)
.pushing()
.queueing();

/// The longest ban: 100 years.
const MAX_BAN_MS: Ms = 100 * 366 * 24 * 60 * 60 * 1000;

/// What the back end learns of a user.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UserView {
    connections: usize,
    groups: Vec<GroupId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    banned_until: Option<Ms>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erasing: bool,
}

fn http<'a>(app: &'a App, input: &'a Input) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let user = input.path_id("userId")?;
        match (input.method(), input.route().rsplit('/').next()) {
            ("GET", _) => return Ok(Reply::json(&view(app, &user).await?)),
            ("PUT", _) => ban(app, &user, input.parameter("until")?.as_deref()).await?,
            ("DELETE", Some("ban")) => unban(app, &user).await?,
            ("DELETE", _) => kick(app, &user, None).await?,
            _ => return Err(Error::MethodNotAllowed("GET, PUT, DELETE".to_owned())),
        }
        Ok(Reply::empty())
    })
}

fn direct<'a>(app: &'a App, payload: Object<'a>) -> BoxFuture<'a, Result<Option<String>>> {
    Box::pin(async move {
        let user = required_id(&payload, "userId")?;
        match required_text(&payload, "method")?.as_ref() {
            "GET" => return Ok(Some(encode(&view(app, &user).await?))),
            "BAN" => ban(app, &user, optional_text(&payload, "until")?.as_deref()).await?,
            "UNBAN" => unban(app, &user).await?,
            "DISCONNECT" => kick(app, &user, None).await?,
            _ => return Err(Error::field("method", "must be one of GET, DISCONNECT, BAN, UNBAN")),
        }
        Ok(None)
    })
}

async fn view(app: &App, user: &UserId) -> Result<UserView> {
    let (state, joined, erasure) =
        futures::try_join!(app.table.state(user), app.table.joined_groups(user), app.table.erasure_of(user))?;
    let joined: Vec<GroupId> = joined.into_iter().map(|(group, _)| group).collect();
    let existing = app.table.existing_groups(&joined).await?;
    let now = app.clock.now_ms();
    Ok(UserView {
        connections: state.open(now).count(),
        groups: joined.into_iter().filter(|group| existing.contains_key(group)).collect(),
        banned_until: state.ban(now),
        erasing: erasure.is_some_and(|erasure| erasure.is_under_way),
    })
}

async fn ban(app: &App, user: &UserId, until: Option<&str>) -> Result<()> {
    let until = time(until.ok_or_else(|| Error::field("until", "is missing"))?)?;
    let now = app.clock.now_ms();
    if until <= now || until > now.saturating_add(MAX_BAN_MS) {
        return Err(Error::field("until", "must lie in the future, at most 100 years ahead"));
    }
    let until = match app.table.erasure_of(user).await? {
        Some(erasure) => until.max(erasure.banned_until),
        None => until,
    };
    app.table.ban(user, Some(until)).await?;
    let frame = ErrorFrame { until: Some(until), ..ErrorFrame::new(ErrorCode::Banned, BANNED, None) };
    kick(app, user, Some(&encode(&frame))).await
}

async fn unban(app: &App, user: &UserId) -> Result<()> {
    match app.table.erasure_of(user).await? {
        Some(erasure) if erasure.is_under_way => {
            Err(Error::Conflict("the user is being erased; lift the ban after that".to_owned()))
        }
        _ => app.table.ban(user, None).await,
    }
}

/// Reads a time in RFC 3339.
fn time(text: &str) -> Result<Ms> {
    let wrong = || Error::field("until", "must be a time in RFC 3339, such as 2030-01-31T12:00:00Z");
    let time = DateTime::from_str(text, Format::DateTimeWithOffset).map_err(|_| wrong())?;
    time.to_millis().ok().and_then(|ms| Ms::try_from(ms).ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_with_its_zone() {
        assert_eq!(time("1970-01-01T00:00:01.5Z").unwrap(), 1_500);
        assert_eq!(time("1970-01-01T02:00:01+02:00").unwrap(), 1_000);
        for wrong in ["", "tomorrow", "2030-01-31", "1767225600", "2030-13-01T00:00:00Z", "1960-01-01T00:00:00Z"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
