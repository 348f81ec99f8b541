//! `PUT /api/read?userId=` or `?groupId=`, and `until=<id>`: the caller has read the conversation up to that message, on all
//! devices. The mark only moves forward. 200: empty. 400: a parameter is wrong, or `until` lies ahead. 403: the caller is not a
//! member of the group.
//!
//! A friend learns it, unless one of the two blocks the other. The function makes the same calls then.

use futures::future::BoxFuture;
use shared::clock::Ms;
use shared::frame::{Address, Read, encode};
use shared::id::{MessageId, UserId};
use shared::table::State;
use shared::{Error, Result};

use crate::App;
use crate::call::http::Reply;
use crate::call::rest::Call;
use crate::delivery::gate;
use crate::delivery::push::{self, Handling};
use crate::function::Function;
use crate::groups::rules::not_a_member;

/// How far ahead of this machine's clock a mark may lie.
const MAX_AHEAD_MS: Ms = 60_000;

/// The function.
pub static FUNCTION: Function =
    Function::rest("mark_read", "PUT", "/api/read", &["userId", "groupId", "until"], handle).gated().pushing();

/// Who learns of the mark.
struct Audience {
    reader: State,
    /// The other user, and whether that user may know.
    other: Option<(State, Handling)>,
}

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let with = call.input.address("userId")?;
        let until = call.input.message_id("until")?.ok_or_else(|| Error::field("until", "is missing"))?;
        if until.time_ms() > app.clock.now_ms() + MAX_AHEAD_MS {
            return Err(Error::field("until", "must not lie in the future"));
        }
        let (moved, audience) = match &with {
            Address::User(other) => mark_with_user(app, &call.user, other, until).await?,
            Address::Group(group) => {
                let reading = app.table.sender(group, &call.user);
                let (sender, counted) = gate::counted(app, &call.user, reading).await?;
                gate::admit(app, &call.user, &sender.state, counted)?;
                sender.membership().ok_or_else(not_a_member)?;
                let moved = app.table.mark_read(&call.user, &with, until, false).await?;
                (moved, Audience { reader: sender.state, other: None })
            }
        };
        if moved {
            tell(app, &call.user, &with, until, &audience).await;
        } else {
            app.wait_for_tick().await;
        }
        Ok(Reply::empty())
    })
}

async fn mark_with_user(app: &App, reader: &UserId, other: &UserId, until: MessageId) -> Result<(bool, Audience)> {
    let (standing, counted) = gate::counted(app, reader, app.table.mutual_standing(reader, other)).await?;
    gate::admit(app, reader, &standing.sender, counted)?;
    let may_know = !standing.blocked && !standing.blocks;
    let with = Address::User(other.clone());
    let (moved, state) =
        futures::try_join!(app.table.mark_read(reader, &with, until, may_know), app.table.state(other))?;
    let handling = if may_know && standing.friends { Handling::Deliver } else { Handling::Withhold };
    Ok((moved, Audience { reader: standing.sender, other: Some((state, handling)) }))
}

/// Tells the reader's own devices and the other user, each of whom gets the conversation as they name it.
async fn tell(app: &App, reader: &UserId, with: &Address, until: MessageId, audience: &Audience) {
    let now = app.clock.now_ms();
    let own: Vec<_> = audience.reader.open_of_version_2(now).collect();
    let own_frame = encode(&Read { reader_id: reader, conversation: with.conversation(), until });
    let reader_address = Address::User(reader.clone());
    let other_frame = encode(&Read { reader_id: reader, conversation: reader_address.conversation(), until });
    let (others, handling): (Vec<_>, _) = match &audience.other {
        Some((state, handling)) => (state.open_of_version_2(now).collect(), *handling),
        None => (Vec::new(), Handling::Withhold),
    };
    let pushing = async {
        futures::join!(
            push::signal(app, &own, &own_frame, Handling::Deliver),
            push::signal(app, &others, &other_frame, handling),
        );
    };
    push::before_answer(app, !own.is_empty() || !others.is_empty(), pushing).await;
}
