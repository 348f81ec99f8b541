//! `GET /api/history?userId=` or `?groupId=`: returns what was said in a conversation, the caller's own messages among it.
//!
//! `before=<id>` or `after=<id>`, and `limit=1..100` (50). 200: the messages in the order of their ids: the newest before
//! `before`, or the oldest after `after`. The header `X-Has-More` says whether there are more. If it is `true`, `X-Next` goes
//! into `before`, or with `after` into `after`. 400: a parameter is wrong. 403: the caller is not a member of the group.
//!
//! A call reads a bounded amount, whatever others have filled the conversation with. So a page may be short, or empty, and
//! still have more.

use futures::future::BoxFuture;
use shared::frame::{Address, Message};
use shared::id::{MessageId, UserId};
use shared::metrics::Metric;
use shared::rules::history::{HistoryPage, Viewer};
use shared::table::{HistoryPart, Reading, Resume};
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, Reply};
use crate::call::rest::Call;
use crate::function::Function;
use crate::groups::rules::not_a_member;

/// The limit of a page, if the caller sets none, and the highest one.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 100;

/// The highest number of entries that one call reads and does not return.
const MAX_VAIN: usize = 1_000;

/// The number of entries that a query asks for after the first one, so that few queries are enough.
const NEXT_LIMIT: i32 = 250;

/// The highest number of queries of one call.
const MAX_QUERIES: usize = 16;

/// The highest number of bytes of contents that one call reads.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The function.
pub static FUNCTION: Function =
    Function::rest("get_history", "GET", "/api/history", &["userId", "groupId", "before", "after", "limit"], handle);

/// What a call asks for.
struct Request {
    with: Address,
    reading: Reading,
    limit: usize,
}

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let mut request = request(&call.input)?;
        let until = app.clock.now_ms();
        let (blocks, joined) = match &request.with {
            Address::User(other) => (app.table.block_of(&call.user, other).await?, 0),
            Address::Group(group) => {
                let members = [&call.user];
                let (found, blocks) =
                    futures::try_join!(app.table.memberships(group, &members), app.table.blocks(&call.user))?;
                let membership = found.and_then(|(_, joined)| joined[0]).ok_or_else(not_a_member)?;
                (blocks, membership.joined)
            }
        };
        request.reading.from = request.reading.from.max(MessageId::first_at(joined.max(app.table.oldest())));
        let (messages, next) =
            read(app, &request, &Viewer { user: &call.user, blocks: &blocks, joined, until }).await?;
        app.metrics.add(Metric::HistoryRead, messages.len());
        let mut reply = Reply::json(&messages).with_header("x-has-more", if next.is_some() { "true" } else { "false" });
        if let Some(next) = next {
            reply = reply.with_header("x-next", next.to_string());
        }
        Ok(reply)
    })
}

fn request(input: &Input) -> Result<Request> {
    let with = input.address("userId")?;
    let (before, after) = (input.message_id("before")?, input.message_id("after")?);
    if before.is_some() && after.is_some() {
        return Err(Error::field("after", "does not go with before"));
    }
    let limit = input.number("limit", 1, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let reading = Reading {
        from: after.map_or(MessageId::first_at(0), MessageId::next),
        to: before.map_or(MessageId::last_at(u64::MAX), MessageId::before),
        newest_first: after.is_none(),
    };
    Ok(Request { with, reading, limit })
}

/// Reads a page. Returns its messages in the order of their ids, and where the next page begins, if there is more.
async fn read(app: &App, request: &Request, viewer: &Viewer<'_>) -> Result<(Vec<Message>, Option<MessageId>)> {
    if request.reading.from > request.reading.to {
        return Ok((Vec::new(), None));
    }
    let (mut page, mut rest, mut position) = (HistoryPage::of(request.limit), None, None);
    let (mut vain, mut bytes) = (0, 0);
    // One more than the page has room for tells whether there are more.
    let mut limit = i32::try_from(request.limit).unwrap_or(i32::MAX).saturating_add(1);
    for _ in 0..MAX_QUERIES {
        let part = read_part(app, viewer.user, request, limit, rest).await?;
        limit = NEXT_LIMIT;
        position = part.position.or(position);
        for stored in part.entries {
            bytes += stored.entry.content_bytes();
            match viewer.sees(&stored.entry, stored.is_hidden) {
                true => page.add(stored.entry),
                false => vain += 1,
            }
        }
        if page.is_full() {
            position = page.last();
            break;
        }
        rest = part.rest;
        if rest.is_none() {
            return Ok((page.into_messages(), None));
        }
        if vain >= MAX_VAIN || bytes >= MAX_BYTES {
            break;
        }
    }
    Ok((page.into_messages(), position))
}

async fn read_part(
    app: &App,
    user: &UserId,
    request: &Request,
    limit: i32,
    rest: Option<Resume>,
) -> Result<HistoryPart> {
    match &request.with {
        Address::User(other) => app.table.read_private(user, other, request.reading, limit, rest).await,
        Address::Group(group) => app.table.read_group(group, request.reading, limit, rest).await,
    }
}
