//! `POST /notification?type=…&to=…&from=…`, or a direct invocation with these fields and those of the body: pushes a
//! notification to users who are online. 200: empty. 403: any mistake in the request.
//!
//! Body: `{"notificationType", "content", …}`. It is pushed unchanged, with `type: "NOTIFICATION"`, and never stored.
//! If the group is too large for one function, the notification goes through the queue, as messages do.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use serde_json::value::RawValue;
use shared::frame::encode;
use shared::id::{GroupId, Id, UserId};
use shared::json::Object;
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, Reply, parse_id};
use crate::call::internal::{Endpoint, optional_text};
use crate::delivery::job;
use crate::delivery::push::{self, Handling, Parcel};
use crate::function::{Function, Route};

/// The function.
pub static FUNCTION: Function = Function::internal(
    "notification",
    &[Route { method: "POST", path: "/notification" }],
    Endpoint { parameters: &["from", "type", "to"], http, direct, max_body_bytes: usize::MAX, refusal: forbidden },
)
.pushing()
.queueing();

/// The largest frame that API Gateway pushes, in bytes.
const MAX_FRAME_BYTES: usize = 128 * 1024;

/// The receivers of a notification.
#[derive(Debug)]
enum Audience {
    User(UserId),
    Members(GroupId),
    Friends,
}

/// The parameters, unchecked.
struct Parameters {
    from: Option<String>,
    kind: Option<String>,
    to: Option<String>,
}

fn http<'a>(app: &'a App, input: &'a Input) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let parameter = |name| input.parameter(name);
        let parameters = Parameters { from: parameter("from")?, kind: parameter("type")?, to: parameter("to")? };
        notify(app, parameters, input.object()?).await?;
        Ok(Reply::empty())
    })
}

fn direct<'a>(app: &'a App, payload: Object<'a>) -> BoxFuture<'a, Result<Option<String>>> {
    Box::pin(async move {
        let parameter = |name| Ok(optional_text(&payload, name)?.map(|text| text.into_owned()));
        let parameters = Parameters { from: parameter("from")?, kind: parameter("type")?, to: parameter("to")? };
        notify(app, parameters, payload.without(&["from", "type", "to"])).await?;
        Ok(None)
    })
}

/// Makes an error a 403, because the API answers 403 for every mistake in a notification.
fn forbidden(error: Error) -> Error {
    match error {
        Error::BadRequest(_) | Error::Encoded => Error::Forbidden(error.problem().detail),
        other => other,
    }
}

async fn notify(app: &App, parameters: Parameters, body: Object<'_>) -> Result<()> {
    let from = parameters.from.as_deref().map(|id| parse_id::<shared::id::User>("from", id)).transpose()?;
    let audience = audience(&parameters)?;
    if matches!(audience, Audience::Friends) && from.is_none() {
        return Err(Error::field("from", "is needed for a broadcast"));
    }
    let frame = frame(body)?;
    if let Audience::Members(group) = &audience
        && let Some(queue) = &app.queue
        && let Some(jobs) = jobs(app, group, from.as_ref(), &frame).await?
    {
        return queue.send(&jobs).await;
    }
    push_to(app, audience, from.as_ref(), Parcel::fleeting(&frame)).await
}

/// Returns the jobs of a notification to a group, if the group is too large for one function.
async fn jobs(app: &App, group: &GroupId, from: Option<&UserId>, frame: &str) -> Result<Option<Vec<String>>> {
    let existing = app.table.existing_groups(std::slice::from_ref(group)).await?;
    let large = existing.get(group).filter(|meta| meta.members as usize > app.fanout_members);
    Ok(large.and_then(|meta| job::notification(group, meta.last_shard, from, app.clock.now_ms(), frame)))
}

fn audience(parameters: &Parameters) -> Result<Audience> {
    match parameters.kind.as_deref().unwrap_or("unicast") {
        "unicast" => Ok(Audience::User(receiver(parameters)?)),
        "multicast" => Ok(Audience::Members(receiver(parameters)?)),
        "broadcast" if parameters.to.is_some() => Err(Error::field("to", "must not be given for a broadcast")),
        "broadcast" => Ok(Audience::Friends),
        _ => Err(Error::field("type", "must be one of unicast, multicast, broadcast")),
    }
}

fn receiver<Kind>(parameters: &Parameters) -> Result<Id<Kind>> {
    let to = parameters.to.as_deref().ok_or_else(|| Error::field("to", "is missing"))?;
    parse_id("to", to)
}

fn frame(body: Object<'_>) -> Result<String> {
    match body.text("notificationType") {
        None => return Err(Error::field("notificationType", "is missing")),
        Some(None) => return Err(Error::field("notificationType", "must be a string")),
        Some(Some(_)) => {}
    }
    body.get("content").ok_or_else(|| Error::field("content", "is missing"))?;
    let kind: Box<RawValue> =
        RawValue::from_string("\"NOTIFICATION\"".to_owned()).expect("a constant that is a JSON string");
    let frame = encode(&body.with("type", &kind));
    match frame.len() <= MAX_FRAME_BYTES {
        true => Ok(frame),
        false => {
            Err(Error::BadRequest(format!("the body is too long; as a frame it may have {MAX_FRAME_BYTES} bytes")))
        }
    }
}

async fn push_to(app: &App, audience: Audience, from: Option<&UserId>, parcel: Parcel<'_>) -> Result<()> {
    let blockers = app.table.blockers_of(from);
    match (audience, from) {
        (Audience::User(user), Some(from)) if app.table.is_blocked_by(from, &user).await? => Ok(()),
        (Audience::User(user), _) => {
            let (parcel, state) = (parcel.to(1), Ok(app.table.state(&user).await?));
            push::to_user(app, &parcel, &user, &state, Handling::Deliver).await;
            Ok(())
        }
        (Audience::Members(group), _) => {
            let (roster, blockers) = futures::try_join!(app.table.roster(&group), blockers)?;
            let Some(roster) = roster else { return Ok(()) };
            push_to_all(app, parcel, roster.shards.into_iter().flatten().map(|member| member.user), &blockers).await
        }
        (Audience::Friends, None) => Ok(()),
        (Audience::Friends, Some(from)) => {
            let (friends, blockers) = futures::try_join!(app.table.friends(from), blockers)?;
            push_to_all(app, parcel, friends.into_iter(), &blockers).await
        }
    }
}

/// Pushes to all users who do not block `from`. `from` does not wait for the answer, so its time tells them nothing.
async fn push_to_all(
    app: &App,
    parcel: Parcel<'_>,
    users: impl Iterator<Item = UserId>,
    blockers: &BTreeSet<UserId>,
) -> Result<()> {
    let receivers: Vec<UserId> = users.filter(|user| !blockers.contains(user)).collect();
    push::to_all(app, parcel, &receivers).await.map(|_| ())
}
