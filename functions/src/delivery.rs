//! How a frame reaches the connections of its receivers, and how it is written down who did not take it.

use std::collections::BTreeSet;

use futures::future::join_all;
use futures::{StreamExt, stream};
use shared::clock::Ms;
use shared::coverage::{Connection, is_covered};
use shared::frame::{Address, Message};
use shared::id::{ConnectionId, MessageId, UserId};
use shared::metrics::Metric;
use shared::push::Push;
use shared::table::{Books, Kind, Missed, State};
use shared::{Error, Result};
use tokio::sync::Semaphore;

use crate::App;

/// How many pushes one function has under way at once.
const MAX_PUSHES: usize = 64;

/// How many states are read by one call, and how many such calls are under way at once.
const STATES_PER_CALL: usize = 100;
const MAX_CALLS: usize = 8;

/// How long after its id was stamped a message may be written to its log and still be found by time. Only a repeated
/// send takes longer.
const PROMPT_MS: Ms = 15_000;

/// Whether a message reaches a receiver.
///
/// Withheld, it makes the same calls for him, and neither reaches him nor is anything of it stored for him: whoever sent
/// it could tell by the time of the answer otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    Withheld,
}

/// A frame on its way.
#[derive(Debug)]
pub(crate) struct Parcel<'a> {
    frame: &'a str,
    logged: Option<Logged<'a>>,
    pushes: Semaphore,
}

/// Where the message of a frame stands in a log.
#[derive(Debug)]
struct Logged<'a> {
    log: &'a Address,
    id: MessageId,
    sender: &'a UserId,
    /// It was written too late to be found by time, so it is written down for everyone who does not take it.
    late: bool,
    /// When it stood there, if its delivery has waited in a queue since.
    queued: Option<Ms>,
}

impl<'a> Parcel<'a> {
    /// A frame that is never stored: who does not take it now never gets it.
    pub(crate) fn fleeting(frame: &'a str) -> Self {
        Self { frame, logged: None, pushes: Semaphore::new(MAX_PUSHES) }
    }

    /// The frame of a message that stands in its log since `at`, which is just now.
    pub(crate) fn logged(frame: &'a str, message: &'a Message, at: Ms) -> Self {
        Self { logged: Some(Logged::new(message, at, None)), ..Self::fleeting(frame) }
    }

    /// The frame of a message that stands in its log since `at`, and whose delivery has waited in a queue.
    pub(crate) fn queued(frame: &'a str, message: &'a Message, at: Ms) -> Self {
        Self { logged: Some(Logged::new(message, at, Some(at))), ..Self::fleeting(frame) }
    }

    /// Whether it is pushed to an open connection of a user in that state. If it has waited in a queue, a connection
    /// that began when it stood in its log is left out where a pull finds it there: its client has pulled since, or
    /// will.
    fn is_for(&self, state: &State, connection: &Connection) -> bool {
        match &self.logged {
            Some(logged @ Logged { queued: Some(at), .. }) => {
                !connection.began_after(*at) || logged.must_be_named(state)
            }
            _ => true,
        }
    }
}

/// Push a parcel to users; from `blockers` among them it is withheld. Pushes begin with the first states that are read.
/// One user's failure does not touch another's.
pub(crate) async fn to_users(
    app: &App,
    parcel: &Parcel<'_>,
    users: Vec<UserId>,
    blockers: &BTreeSet<UserId>,
) -> Result<()> {
    let fate = |user: &UserId| if blockers.contains(user) { Fate::Withheld } else { Fate::Delivered };
    let calls = users.chunks(STATES_PER_CALL).map(|chunk| app.table.states(chunk));
    let batches = stream::iter(calls.collect::<Vec<_>>()).buffer_unordered(MAX_CALLS);
    let outcomes: Vec<Result<()>> = batches
        .map(|states| async {
            let states = states?;
            let pushes = states.iter().map(|(user, state)| to_user(app, parcel, user, state, fate(user)));
            join_all(pushes).await.into_iter().collect()
        })
        .buffer_unordered(MAX_CALLS)
        .collect()
        .await;
    outcomes.into_iter().collect()
}

/// Push a parcel to every open connection of a user, and keep the books.
pub(crate) async fn to_user(app: &App, parcel: &Parcel<'_>, user: &UserId, state: &State, fate: Fate) -> Result<()> {
    let open: Vec<_> = state.open(app.clock.now_ms()).filter(|(_, c)| parcel.is_for(state, c)).collect();
    let pushes = join_all(open.iter().map(|(connection, _)| push(app, parcel, connection, fate))).await;
    let pushes: Vec<Push> = pushes.into_iter().collect::<Result<_>>()?;

    count(app, parcel, &pushes, fate);
    let now = app.clock.now_ms();
    let over = open.iter().zip(&pushes).filter(|((_, c), push)| **push == Push::Gone && c.is_settled(now));
    let closing = join_all(over.map(|((connection, _), _)| app.table.close(user, connection, now)));
    let missing = async {
        match &parcel.logged {
            Some(logged) if !pushes.contains(&Push::Taken) && logged.must_be_named(state) => {
                let books = match fate {
                    Fate::Delivered => Books::Of(user),
                    Fate::Withheld => Books::Withheld(logged.sender),
                };
                // Boxed, since it is large and most users need it never: the future of each of them is moved about.
                Box::pin(app.table.add_missed(books, &Missed::new(logged.log, logged.id), state)).await
            }
            _ => Ok(()),
        }
    };
    let (closed, missed) = futures::join!(closing, missing);
    // A dead connection that stays in the books costs another push and loses nothing: no reason to send all of it again.
    closed.into_iter().filter_map(Result::err).for_each(|error| app.report(&error));
    missed
}

fn count(app: &App, parcel: &Parcel<'_>, pushes: &[Push], fate: Fate) {
    if fate == Fate::Withheld {
        return app.metrics.count(Metric::Withheld);
    }
    for push in pushes {
        app.metrics.count(match push {
            Push::Taken => Metric::Pushed,
            Push::Gone => Metric::Gone,
            Push::Failed => Metric::Failed,
        });
    }
    if parcel.logged.is_some() && !pushes.contains(&Push::Taken) {
        app.metrics.count(Metric::Missed);
    }
}

async fn push(app: &App, parcel: &Parcel<'_>, connection: &ConnectionId, fate: Fate) -> Result<Push> {
    let pusher = app.pusher()?;
    let permit = parcel.pushes.acquire().await;
    let _permit = permit.map_err(|closed| Error::unavailable("pushing", closed))?;
    Ok(match fate {
        Fate::Delivered => pusher.post(connection, parcel.frame).await,
        Fate::Withheld => pusher.probe(connection).await,
    })
}

impl<'a> Logged<'a> {
    fn new(message: &'a Message, at: Ms, queued: Option<Ms>) -> Self {
        let late = at.saturating_sub(message.id.time_ms()) > PROMPT_MS;
        Self { log: &message.to, id: message.id, sender: &message.sender, late, queued }
    }

    /// Whether a pull would not find the message by its time, so that it must be written down by name: its time is
    /// covered, or will be by a connection that is being opened, or all of that time has been dropped already.
    fn must_be_named(&self, state: &State) -> bool {
        let time = self.id.time_ms();
        let dropped = state.dropped(Kind::of(self.log));
        let is_dropped_itself = dropped.tail.contains(&self.id);
        !is_dropped_itself
            && (self.late
                || time <= dropped.until
                || is_covered(state.connections.values(), time)
                || state.connections.values().any(|connection| connection.from.is_none()))
    }
}

/// Close a connection, at the gateway and in the books.
pub(crate) async fn close(app: &App, user: &UserId, connection: &ConnectionId) -> Result<()> {
    app.pusher()?.close(connection).await?;
    app.table.close(user, connection, app.clock.now_ms()).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    fn must_be_named(state: &State, time: Ms) -> bool {
        let user = UserId::parse("u").unwrap();
        let (log, id) = (Address::User(user.clone()), MessageId::first_at(time));
        Logged { log: &log, id, sender: &user, late: false, queued: None }.must_be_named(state)
    }

    fn with(from: Option<Ms>, to: Option<Ms>) -> State {
        let connection = Connection { announced: 10, from, to };
        State { connections: [(ConnectionId::new("c"), connection)].into(), ..State::default() }
    }

    #[test]
    fn a_message_in_a_gap_needs_no_name() {
        assert!(!must_be_named(&State::default(), 50));
        assert!(!must_be_named(&with(Some(60), None), 50));
        assert!(!must_be_named(&with(Some(10), Some(40)), 50));
    }

    /// Whether a message of time 50 that stood in its log at 60 is pushed to the connection of that state.
    fn is_pushed(state: &State, is_queued: bool) -> bool {
        let message = Message {
            id: MessageId::first_at(50),
            sender: UserId::parse("u").unwrap(),
            to: Address::User(UserId::parse("v").unwrap()),
            content: Default::default(),
            timestamp: 50,
        };
        let parcel = if is_queued { Parcel::queued } else { Parcel::logged }("", &message, 60);
        parcel.is_for(state, &state.connections[&ConnectionId::new("c")])
    }

    #[test]
    fn a_queued_message_is_not_pushed_to_one_who_pulls_it_anyway() {
        assert!(is_pushed(&with(Some(50), None), true), "it covers the message");
        assert!(is_pushed(&with(Some(65), None), true), "by another clock it may have begun before");
        assert!(!is_pushed(&with(Some(66), None), true), "its client pulls what stood there before");
        assert!(is_pushed(&with(Some(66), None), false), "it was announced when the message stood there");
        assert!(is_pushed(&with(None, None), true), "it is being opened, and may cover the message");
        let mut state = with(Some(66), None);
        state.unicast.until = 50;
        assert!(is_pushed(&state, true), "no gap holds the message any more");
    }

    #[test]
    fn a_message_that_a_gap_will_not_hold_needs_one() {
        assert!(must_be_named(&with(Some(50), None), 50), "covered");
        assert!(must_be_named(&with(None, None), 50), "about to be covered");
        let mut state = State::default();
        state.unicast.until = 50;
        assert!(must_be_named(&state, 50), "dropped with its time");
        state.unicast.tail.insert(MessageId::first_at(50));
        assert!(!must_be_named(&state, 50), "pulled and dropped itself");
    }
}
