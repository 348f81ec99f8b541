//! `GET /user/{userId}/export?after=`, or a direct invocation with `userId` and `after`: what is stored of a user, page by page.
//! 200: `{entries, next?}`. The next page is `after=<next>`. 400: a wrong field.
//!
//! An entry has a `kind`: `user`, `friend`, `block`, `group`, `invitation`, `read`, or `message` (private messages to the user, and
//! what the user wrote to present friends and in present groups). Who blocks the user is left out, and so is what others wrote
//! and the user does not get.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shared::frame::{Address, Body, Message, encode};
use shared::id::{GroupId, MessageId, UserId};
use shared::json::{Object, escaped_bytes};
use shared::rules::coverage::Span;
use shared::table::{Exported, HistoryPart, Reading};
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, MAX_BODY_BYTES, Reply};
use crate::call::internal::{Endpoint, optional_text, required_id};
use crate::function::{Function, Route};

/// The function.
pub static FUNCTION: Function = Function::internal(
    "export_user",
    &[Route { method: "GET", path: "/user/{userId}/export" }],
    Endpoint { parameters: &["after"], http, direct, max_body_bytes: MAX_BODY_BYTES, refusal: |error| error },
);

/// The most steps of one call. A step is one query, or several parallel queries.
const MAX_STEPS: usize = 16;

/// All places of a partition sort before this, and DynamoDB allows so many bytes.
const MAX_PLACE: &str = "~";
const MAX_PLACE_BYTES: usize = 1_024;

/// How many conversations are read at once.
const AT_ONCE: i32 = 8;

/// A page ends with the query in which it gets this long, in bytes as they will be sent. One query returns at most 1 MiB, which
/// may double by its escapes.
const PAGE_BYTES: usize = 1_500_000;

/// How many items one query asks for.
const ITEMS: i32 = 500;

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cursor {
    /// After this sort key of the user's own partition, or at its beginning.
    Own(Option<String>),
    /// What the user wrote to friends: after this friend, or from this message to one friend.
    Friends(Option<UserId>, Option<(UserId, MessageId)>),
    /// What the user wrote in groups, in the same way.
    Groups(Option<GroupId>, Option<(GroupId, MessageId)>),
}

/// A page of an export.
#[derive(Debug, Serialize)]
struct Page {
    entries: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(skip)]
    bytes: usize,
}

impl Page {
    fn add(&mut self, entry: &Value) {
        self.push(entry.to_string());
    }

    /// Adds a message as its frame, with its kind. The entries of recalls are left out: the recalled messages tell it.
    fn add_message(&mut self, message: &Message) {
        if !matches!(message.body, Body::Recall { .. }) {
            // A frame is an object with at least one field.
            self.push(encode(message).replacen('{', r#"{"kind":"message","#, 1));
        }
    }

    fn push(&mut self, json: String) {
        self.bytes += escaped_bytes(&json);
        self.entries.push(RawValue::from_string(json).expect("entries are JSON"));
    }
}

fn http<'a>(app: &'a App, input: &'a Input) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let user = input.path_id("userId")?;
        Ok(Reply::json(&page(app, &user, cursor(input.parameter("after")?.as_deref())?).await?))
    })
}

fn direct<'a>(app: &'a App, payload: Object<'a>) -> BoxFuture<'a, Result<Option<String>>> {
    Box::pin(async move {
        let user = required_id(&payload, "userId")?;
        let after = cursor(optional_text(&payload, "after")?.as_deref())?;
        Ok(Some(encode(&page(app, &user, after).await?)))
    })
}

async fn page(app: &App, user: &UserId, begin: Cursor) -> Result<Page> {
    let mut page = Page { entries: Vec::new(), next: None, bytes: 0 };
    if begin == Cursor::Own(None) {
        let state = app.table.state(user).await?;
        let now = app.clock.now_ms();
        let mut entry = json!({ "kind": "user", "userId": user, "connections": state.open(now).count() });
        if let Some(until) = state.ban(now) {
            entry["bannedUntil"] = json!(until);
        }
        page.add(&entry);
    }
    let mut cursor = Some(begin);
    for _ in 0..MAX_STEPS {
        let Some(now) = cursor.take() else { break };
        cursor = match now {
            Cursor::Own(after) => own(app, user, after, &mut page).await?,
            Cursor::Friends(after, within) => friends(app, user, after, within, &mut page).await?,
            Cursor::Groups(after, within) => groups(app, user, after, within, &mut page).await?,
        };
        if page.bytes >= PAGE_BYTES {
            break;
        }
    }
    page.next = cursor.map(|cursor| cursor.encode());
    Ok(page)
}

async fn own(app: &App, user: &UserId, after: Option<String>, page: &mut Page) -> Result<Option<Cursor>> {
    let (entries, next) = app.table.export_page(user, after.as_deref(), ITEMS).await?;
    for (_, entry) in entries {
        match entry {
            Exported::Message(message) => page.add_message(&message),
            other => page.add(&described(&other)),
        }
    }
    Ok(Some(next.map_or(Cursor::Friends(None, None), |place| Cursor::Own(Some(place)))))
}

/// Describes what is no message.
fn described(entry: &Exported) -> Value {
    match entry {
        Exported::Friend(user) => json!({ "kind": "friend", "userId": user }),
        Exported::Block(user, block) => {
            let span = |span: &Span| json!({ "from": span.from, "to": span.to });
            let past: Vec<Value> = block.past.iter().map(span).collect();
            let mut entry = json!({ "kind": "block", "userId": user, "past": past });
            if let Some(since) = block.since {
                entry["since"] = json!(since);
            }
            entry
        }
        Exported::Group(group, membership) => json!({ "kind": "group", "groupId": group, "joined": membership.joined }),
        Exported::Invitation(group, by) => json!({ "kind": "invitation", "groupId": group, "invitedBy": by }),
        Exported::Read(Address::User(user), until) => json!({ "kind": "read", "userId": user, "until": until }),
        Exported::Read(Address::Group(group), until) => json!({ "kind": "read", "groupId": group, "until": until }),
        Exported::Message(_) => unreachable!("messages keep their contents byte for byte"),
    }
}

/// Reads what the user wrote to some friends at once. A page ends with the first conversation that has more.
async fn friends(
    app: &App,
    user: &UserId,
    after: Option<UserId>,
    within: Option<(UserId, MessageId)>,
    page: &mut Page,
) -> Result<Option<Cursor>> {
    let begin = MessageId::first_at(app.table.oldest());
    let some: Vec<(UserId, MessageId)> = match within {
        Some(one) => vec![one],
        None => {
            let friends = app.table.friends_after(user, after.as_ref(), AT_ONCE).await?;
            friends.into_iter().map(|friend| (friend, begin)).collect()
        }
    };
    let Some((last, _)) = some.last().cloned() else { return Ok(Some(Cursor::Groups(None, None))) };
    let parts = some.iter().map(|(friend, from)| app.table.read_private(user, friend, reading(*from), ITEMS, None));
    let parts = futures::future::try_join_all(parts).await?;
    for ((friend, _), part) in some.iter().zip(parts) {
        add_own(page, user, &part);
        if let (Some(_), Some(position)) = (part.rest, part.position) {
            return Ok(Some(Cursor::Friends(None, Some((friend.clone(), position.next())))));
        }
        if page.bytes >= PAGE_BYTES {
            return Ok(Some(Cursor::Friends(Some(friend.clone()), None)));
        }
    }
    Ok(Some(Cursor::Friends(Some(last), None)))
}

/// Adds what the user wrote.
fn add_own(page: &mut Page, user: &UserId, part: &HistoryPart) {
    let own = part.entries.iter().map(|stored| &stored.entry).filter(|message| message.sender == *user);
    own.for_each(|message| page.add_message(message));
}

async fn groups(
    app: &App,
    user: &UserId,
    after: Option<GroupId>,
    within: Option<(GroupId, MessageId)>,
    page: &mut Page,
) -> Result<Option<Cursor>> {
    let (group, from) = match within {
        Some((group, from)) => (group, from),
        None => {
            let joined = app.table.joined_groups(user).await?.into_iter().map(|(group, _)| group);
            match joined.filter(|group| after.as_ref().is_none_or(|after| group > after)).min() {
                Some(group) => (group, MessageId::first_at(app.table.oldest())),
                None => return Ok(None),
            }
        }
    };
    if app.table.membership(&group, user).await?.is_none() {
        return Ok(Some(Cursor::Groups(Some(group), None)));
    }
    let part = app.table.read_group(&group, reading(from), ITEMS, None).await?;
    add_own(page, user, &part);
    Ok(Some(match (part.rest, part.position) {
        (Some(_), Some(position)) => Cursor::Groups(None, Some((group, position.next()))),
        _ => Cursor::Groups(Some(group), None),
    }))
}

fn reading(from: MessageId) -> Reading {
    Reading { from, to: MessageId::last_at(u64::MAX), newest_first: false }
}

impl Cursor {
    fn encode(&self) -> String {
        let text = match self {
            Self::Own(place) => format!("o {}", place.as_deref().unwrap_or_default()),
            Self::Friends(after, None) => format!("f {}", after.as_ref().map_or("", UserId::as_str)),
            Self::Friends(_, Some((friend, from))) => format!("f {friend} {from}"),
            Self::Groups(after, None) => format!("g {}", after.as_ref().map_or("", GroupId::as_str)),
            Self::Groups(_, Some((group, from))) => format!("g {group} {from}"),
        };
        URL_SAFE_NO_PAD.encode(text)
    }

    fn decode(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (kind, rest) = text.split_once(' ')?;
        if kind == "o" {
            // A place may have any characters, but all of them lie in this range.
            let is_place = rest.is_empty() || (" "..MAX_PLACE).contains(&rest) && rest.len() <= MAX_PLACE_BYTES;
            return is_place.then(|| Self::Own(Some(rest.to_owned()).filter(|place| !place.is_empty())));
        }
        let (id, from) = rest.split_once(' ').map_or((rest, None), |(id, from)| (id, Some(from)));
        let from = from.map(|from| MessageId::parse(from).ok().ok_or(())).transpose().ok()?;
        Some(match (kind, from) {
            ("f", None) if id.is_empty() => Self::Friends(None, None),
            ("f", None) => Self::Friends(Some(UserId::parse(id).ok()?), None),
            ("f", Some(from)) => Self::Friends(None, Some((UserId::parse(id).ok()?, from))),
            ("g", None) if id.is_empty() => Self::Groups(None, None),
            ("g", None) => Self::Groups(Some(GroupId::parse(id).ok()?), None),
            ("g", Some(from)) => Self::Groups(None, Some((GroupId::parse(id).ok()?, from))),
            _ => return None,
        })
    }
}

fn cursor(after: Option<&str>) -> Result<Cursor> {
    match after {
        None => Ok(Cursor::Own(None)),
        Some(text) => Cursor::decode(text).ok_or_else(|| Error::field("after", "must be the next of an earlier page")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let (user, group) = (UserId::parse("a:b@c.d-e_").unwrap(), GroupId::parse("g").unwrap());
        let id = MessageId::first_at(7);
        for cursor in [
            Cursor::Own(None),
            Cursor::Own(Some("LOG#01H".to_owned())),
            Cursor::Own(Some("SENT#a b  \u{e9}".to_owned())),
            Cursor::Friends(None, None),
            Cursor::Friends(Some(user.clone()), None),
            Cursor::Friends(None, Some((user, id))),
            Cursor::Groups(None, None),
            Cursor::Groups(Some(group.clone()), None),
            Cursor::Groups(None, Some((group, id))),
        ] {
            assert_eq!(Cursor::decode(&cursor.encode()).as_ref(), Some(&cursor));
        }
        for wrong in [
            "",
            "o",
            "b",
            "!",
            &URL_SAFE_NO_PAD.encode("f a b"),
            &URL_SAFE_NO_PAD.encode("f /"),
            &URL_SAFE_NO_PAD.encode("o \u{7f}"),
        ] {
            assert!(super::cursor(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
