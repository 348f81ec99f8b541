//! Groups of the back end, without invitations. All calls are idempotent, apart from a `POST` without `requestId`.
//!
//! - `POST /group`, body `{"name", "managerId", "usersId", "requestId"?}`: makes a group. 200: its id. 202, with its id: jobs
//!   make it, since it has more than 1,000 members, or this call repeats one that had not ended. 409: users have reached the
//!   limit of groups, or the `requestId` was used for another group.
//! - `GET /group/{groupId}` → `{id, name, managerId, members, making?, usersId?}`. `usersId` is left out while the group is
//!   being made, and if it is too long for one answer.
//! - `PUT /group/{groupId}?name=` renames a group; with `managerId` instead, it hands it to that member.
//! - `DELETE /group/{groupId}` dissolves it.
//! - `PUT` and `DELETE /group/{groupId}/members/{userId}` put a user in and take them out. 409: the group is full, the user has
//!   reached the limit of groups, or the user is the manager.
//!
//! 400: a wrong field. 404: there is no such group. Or a direct invocation: `{"method": "POST" | "GET" | "PUT" | "DELETE"}` with
//! these fields.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use serde::Serialize;
use shared::frame::{GroupChanged, GroupEvent, encode};
use shared::id::{GroupId, RequestId, UserId};
use shared::json::Object;
use shared::rules::timing::STAMP_MS;
use shared::table::{Accepted, Draft};
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, MAX_ANSWER_BYTES, Reply, fits, parse_id};
use crate::call::internal::{Endpoint, optional_id, optional_text, required_id, required_text};
use crate::delivery::group_changes;
use crate::delivery::make::{self, Made};
use crate::delivery::send::no_such_group;
use crate::function::{Function, Route};
use crate::groups::departures::{dissolve, require_nothing_else, take_out};
use crate::groups::rules::checked_name;

/// The function.
pub static FUNCTION: Function = Function::internal(
    "manage_group",
    &[
        Route { method: "POST", path: "/group" },
        Route { method: "GET", path: "/group/{groupId}" },
        Route { method: "PUT", path: "/group/{groupId}" },
        Route { method: "DELETE", path: "/group/{groupId}" },
        Route { method: "PUT", path: "/group/{groupId}/members/{userId}" },
        Route { method: "DELETE", path: "/group/{groupId}/members/{userId}" },
    ],
    Endpoint {
        parameters: &["name", "managerId"],
        http,
        direct,
        // The ids of 100,000 members.
        max_body_bytes: MAX_ANSWER_BYTES,
        refusal: |error| error,
    },
)
.pushing()
.queueing()
.announcing();

/// How often a group is read again because it changes.
const MAX_ATTEMPTS: u32 = 5;

/// What a call does.
enum Action {
    Make { name: String, manager: UserId, users: Vec<UserId>, request: Option<RequestId> },
    Get(GroupId),
    Rename(GroupId, String),
    HandOver(GroupId, UserId),
    Dissolve(GroupId),
    PutIn(GroupId, UserId),
    TakeOut(GroupId, UserId),
}

/// What a call answers.
enum Outcome {
    Nothing,
    Made(GroupId, Made),
    Group(GroupView),
}

/// A group as the back end sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupView {
    id: GroupId,
    name: String,
    manager_id: UserId,
    members: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    making: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    users_id: Option<Vec<UserId>>,
}

fn http<'a>(app: &'a App, input: &'a Input) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let group = || input.path_id("groupId");
        let is_member = input.route().ends_with("/members/{userId}");
        let action = match (input.method(), is_member) {
            ("POST", _) => to_make(&input.object()?)?,
            ("GET", _) => Action::Get(group()?),
            ("PUT" | "DELETE", true) => {
                let (group, user) = (group()?, input.path_id("userId")?);
                to_change_member(input.method(), group, user, |name| Ok(input.parameter(name)?.is_some()))?
            }
            ("PUT", false) => to_change(group()?, input.parameter("name")?, input.parameter_id("managerId")?)?,
            ("DELETE", false) => {
                require_nothing_else(input, &[], "a member is part of the path")?;
                Action::Dissolve(group()?)
            }
            _ => return Err(Error::MethodNotAllowed("GET, POST, PUT, DELETE".to_owned())),
        };
        Ok(match perform(app, action).await? {
            Outcome::Nothing => Reply::empty(),
            Outcome::Made(id, Made::Now) => Reply::json(&id),
            Outcome::Made(id, Made::Soon) => Reply::json(&id).with_status(202),
            Outcome::Group(group) => Reply::json(&group),
        })
    })
}

fn direct<'a>(app: &'a App, payload: Object<'a>) -> BoxFuture<'a, Result<Option<String>>> {
    Box::pin(async move {
        let group = || required_id(&payload, "groupId");
        let user = optional_id(&payload, "userId")?;
        let action = match (required_text(&payload, "method")?.as_ref(), user) {
            ("POST", _) => to_make(&payload)?,
            ("GET", _) => Action::Get(group()?),
            (method @ ("PUT" | "DELETE"), Some(user)) => to_change_member(method, group()?, user, |name| {
                Ok(payload.get(name).is_some_and(|value| value.get() != "null"))
            })?,
            ("PUT", None) => {
                let name = optional_text(&payload, "name")?.map(|name| name.into_owned());
                to_change(group()?, name, optional_id(&payload, "managerId")?)?
            }
            ("DELETE", None) => {
                let group = group()?;
                if !payload.without(&["method", "groupId"]).is_empty() {
                    return Err(Error::BadRequest(
                        "only method and groupId are allowed to dissolve a group".to_owned(),
                    ));
                }
                Action::Dissolve(group)
            }
            _ => return Err(Error::field("method", "must be one of GET, POST, PUT, DELETE")),
        };
        Ok(match perform(app, action).await? {
            Outcome::Nothing => None,
            Outcome::Made(id, _) => Some(encode(&id)),
            Outcome::Group(group) => Some(encode(&group)),
        })
    })
}

fn to_make(body: &Object<'_>) -> Result<Action> {
    let name = checked_name(optional_text(body, "name")?.map(|name| name.into_owned()))?;
    let request = optional_text(body, "requestId")?;
    let request = request.map(|id| RequestId::parse(&id).map_err(|why| Error::field("requestId", why))).transpose()?;
    let users = body.get("usersId").ok_or_else(|| Error::field("usersId", "is missing"))?;
    let wrong = |_| Error::field("usersId", "must be an array of strings");
    let users: Vec<String> = serde_json::from_str(users.get()).map_err(wrong)?;
    let user = |(index, id): (usize, &String)| parse_id(&format!("usersId[{index}]"), id);
    let manager: UserId = required_id(body, "managerId")?;
    let users: BTreeSet<UserId> = users.iter().enumerate().map(user).collect::<Result<_>>()?;
    let users = std::iter::once(manager.clone()).chain(users.into_iter().filter(|user| *user != manager)).collect();
    Ok(Action::Make { name, manager, users, request })
}

/// Puts a member in or takes one out. A call that also names another change is refused, and does neither.
fn to_change_member(method: &str, group: GroupId, user: UserId, has: impl Fn(&str) -> Result<bool>) -> Result<Action> {
    for other in ["name", "managerId"] {
        if has(other)? {
            return Err(Error::field(other, "does not go with userId"));
        }
    }
    Ok(if method == "PUT" { Action::PutIn(group, user) } else { Action::TakeOut(group, user) })
}

fn to_change(group: GroupId, name: Option<String>, manager: Option<UserId>) -> Result<Action> {
    match (name, manager) {
        (None, None) => Err(Error::field("name", "or managerId is missing")),
        (Some(name), None) => Ok(Action::Rename(group, checked_name(Some(name))?)),
        (None, Some(manager)) => Ok(Action::HandOver(group, manager)),
        (Some(_), Some(_)) => Err(Error::field("managerId", "does not go with name")),
    }
}

async fn perform(app: &App, action: Action) -> Result<Outcome> {
    match action {
        Action::Make { name, manager, users, request } => {
            if users.len() > app.max_group_members as usize {
                let why = format!("has too many members; with the manager, the limit is {}", app.max_group_members);
                return Err(Error::field("usersId", why));
            }
            let id = request.as_ref().map_or_else(|| app.ids.group(), GroupId::of_request);
            let made = make::make(app, &id, Draft::of(name, manager, &users), &users).await?;
            return Ok(Outcome::Made(id, made));
        }
        Action::Get(group) => return view(app, group).await.map(Outcome::Group),
        Action::Rename(group, name) => {
            let members = app.table.rename_group(&group, &name, None).await?.ok_or_else(no_such_group)?;
            let event = GroupEvent::Renamed;
            let changed = GroupChanged { group_id: &group, event, user_id: None, name: Some(&name) };
            group_changes::announce(app, &changed, members, &[]).await;
        }
        Action::HandOver(group, manager) => hand_over(app, &group, &manager).await?,
        Action::Dissolve(group) => end(app, &group).await?,
        Action::PutIn(group, user) => put_in(app, &group, &user).await?,
        Action::TakeOut(group, user) => remove(app, &group, &user).await?,
    }
    Ok(Outcome::Nothing)
}

async fn view(app: &App, id: GroupId) -> Result<GroupView> {
    let (roster, draft) = futures::try_join!(app.table.roster(&id), make::pending_draft(app, &id))?;
    let Some(roster) = roster else {
        let draft = draft.ok_or_else(no_such_group)?;
        let (name, manager_id, members) = (draft.name, draft.manager, draft.members);
        return Ok(GroupView { id, name, manager_id, members, making: true, users_id: None });
    };
    let mut users: Vec<_> = roster.shards.into_iter().flatten().map(|member| member.user).collect();
    users.sort_unstable();
    let (name, manager_id, members) = (roster.meta.name, roster.meta.manager, roster.meta.members);
    let mut view = GroupView { id, name, manager_id, members, making: false, users_id: Some(users) };
    if !fits(&encode(&view)) {
        view.users_id = None;
    }
    Ok(view)
}

async fn hand_over(app: &App, group: &GroupId, manager: &UserId) -> Result<()> {
    for attempt in 0..MAX_ATTEMPTS {
        let (meta, joined) = app.table.memberships(group, &[manager]).await?.ok_or_else(no_such_group)?;
        joined[0].ok_or_else(|| Error::field("managerId", "must be a member of this group"))?;
        if meta.manager == *manager {
            return Ok(());
        }
        if app.table.hand_over(group, &meta.manager, manager).await? {
            let event = GroupEvent::Manager;
            let changed = GroupChanged { group_id: group, event, user_id: Some(manager), name: None };
            group_changes::announce(app, &changed, meta.members, &[&meta.manager, manager]).await;
            return Ok(());
        }
        app.table.pause(attempt).await;
    }
    Err(group_changes::others_keep_changing())
}

async fn end(app: &App, group: &GroupId) -> Result<()> {
    // A draft comes first: until it is abandoned, it may become a group.
    make::abandon(app, group).await?;
    for attempt in 0..MAX_ATTEMPTS {
        let existing = app.table.existing_groups(std::slice::from_ref(group)).await?;
        let Some(meta) = existing.get(group) else { return Ok(()) };
        match dissolve(app, group, &meta.manager, meta).await {
            // The manager has just changed.
            Err(Error::Forbidden(_)) => app.table.pause(attempt).await,
            outcome => return outcome,
        }
    }
    Err(group_changes::others_keep_changing())
}

async fn put_in(app: &App, group: &GroupId, user: &UserId) -> Result<()> {
    let (_, joined) = app.table.memberships(group, &[user]).await?.ok_or_else(no_such_group)?;
    if joined[0].is_some() {
        return Ok(());
    }
    if app.table.is_in_groups(user, app.max_groups).await? {
        return Err(Error::Conflict(format!("{user} has reached the limit of groups: {}", app.max_groups)));
    }
    match app.table.add_member(group, user, None, app.max_group_members).await? {
        Accepted::Member { shard, members } => {
            let joined = app.clock.now_ms() + STAMP_MS;
            app.table.stamp_member(group, shard, user, joined).await?;
            app.wait_past(joined).await;
            let event = GroupEvent::Joined;
            let changed = GroupChanged { group_id: group, event, user_id: Some(user), name: None };
            group_changes::announce(app, &changed, members, &[user]).await;
            Ok(())
        }
        Accepted::AlreadyMember => Ok(()),
        Accepted::NoPlace => match app.table.existing_groups(std::slice::from_ref(group)).await?.is_empty() {
            true => Err(no_such_group()),
            false => Err(Error::Conflict(format!("the group has {} members, the limit", app.max_group_members))),
        },
        Accepted::NoInvitation | Accepted::InviterLeft => Err(group_changes::others_keep_changing()),
    }
}

async fn remove(app: &App, group: &GroupId, user: &UserId) -> Result<()> {
    // A group that does not exist has no members.
    let Some((meta, joined)) = app.table.memberships(group, &[user]).await? else { return Ok(()) };
    if joined[0].is_none() {
        return Ok(());
    }
    let is_manager =
        || Error::Conflict("this user is the manager; hand the group over first, or dissolve it".to_owned());
    if meta.manager == *user {
        return Err(is_manager());
    }
    take_out(app, group, user, joined[0], None).await.map_err(|error| match error {
        // The user has just become the manager.
        Error::Conflict(_) => is_manager(),
        other => other,
    })?;
    let changed = GroupChanged { group_id: group, event: GroupEvent::Removed, user_id: Some(user), name: None };
    group_changes::announce(app, &changed, meta.members, &[user]).await;
    Ok(())
}
