//! Sends a message: a frame of the WebSocket or a call of the REST API in, an outcome for the sender out.
//!
//! A message is written once, before it is pushed to anybody. A message is withheld if the receiver blocks the sender, the
//! two are not friends, the sender is not a member, or the user or group does not exist. The sender then gets the same
//! answer. A message that is withheld from a user also makes the same calls, so that its time tells little. A message to a
//! group without the sender does not: the sender may ask for the group anyway.

use std::collections::BTreeSet;

use futures::future::{Either, select};
use serde::Serialize;
use shared::clock::Ms;
use shared::frame::{Address, Body, Message, Submission, encode};
use shared::id::{ConnectionId, GroupId, MessageId, RequestId, UserId};
use shared::metrics::Metric;
pub(crate) use shared::table::Author;
use shared::table::{Digest, Membership, Place, RosterMember, SendRecord, Sender, Standing, State, Written};
use shared::{Error, Result};

use super::gate::{self, Counted};
use super::push::{self, Handling, Parcel};
use super::{events, job};
use crate::App;

/// A message that a user sends.
#[derive(Debug)]
pub(crate) struct Sending<'a> {
    pub(crate) sender: &'a UserId,
    pub(crate) author: Author,
    /// The connection that the message came over, if it did. The other connections of the sender get an echo.
    pub(crate) connection: Option<&'a ConnectionId>,
    /// When the message reached the gateway.
    pub(crate) arrived: Ms,
    pub(crate) submission: Submission<'a>,
    /// What happens to pushes that are under way when the sender has been answered.
    pub(crate) pushes: Pushes,
}

/// What the sender is told of an accepted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Accepted {
    pub(crate) id: MessageId,
    pub(crate) timestamp: Ms,
}

/// What happens to pushes that are under way when the sender has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushes {
    /// The function waits for them: the answer was a frame.
    Finish,
    /// They are cut off: the answer is the end of the function. Missed messages are recorded by then.
    CutOff,
}

/// When a message is acknowledged. The time of the answer must not show whether the message was delivered.
#[derive(Debug, Clone, Copy)]
enum Tick {
    /// At the next fine tick: no receiver has a connection open.
    Fine,
    /// At a whole number of coarse ticks after the log write: a receiver has a connection open.
    Coarse { logged: Ms },
}

impl Tick {
    fn of(parcel: &Parcel<'_>, logged: Ms) -> Self {
        if parcel.meets_connections() { Self::Coarse { logged } } else { Self::Fine }
    }

    async fn wait(self, app: &App) {
        match self {
            Self::Fine => app.wait_for_tick().await,
            Self::Coarse { logged } => app.wait_for_coarse_tick(logged).await,
        }
    }
}

/// The state of the sender, and the frame that the sender's other connections get.
type Echo<'a> = (&'a State, &'a str);

/// A message that is being sent.
struct Dispatch<'a> {
    app: &'a App,
    message: Message,
    author: Author,
    /// The sender's id of the request, and its record.
    request: Option<(&'a RequestId, &'a SendRecord)>,
    connection: Option<&'a ConnectionId>,
    /// Whether an earlier attempt did not finish.
    is_repeat: bool,
    pushes: Pushes,
}

/// What is known of the sender and the address before anything is written.
enum Ground {
    Private(Standing),
    Group(Sender),
}

/// Sends a message. `answer` tells the sender that it is accepted, as soon as it is.
///
/// A request that was delivered before is only answered. A first attempt that did not finish is repeated with its id.
///
/// # Errors
/// The message was refused and nothing was stored, or [`Error::Unavailable`]: then the sender must send again. In both
/// cases the sender has not been answered.
pub(crate) async fn send<T>(
    app: &App,
    sending: Sending<'_>,
    answer: impl AsyncFnOnce(Accepted) -> Result<T>,
) -> Result<T> {
    let Sending { sender, author, connection, arrived, submission, pushes } = sending;
    if author == Author::User {
        gate::require_no_remembered_limit(app, sender)?;
    }
    let request = submission.request_id.as_ref();
    let message = Message {
        id: app.ids.message(app.clock.now_ms()),
        sender: sender.clone(),
        to: submission.to,
        body: Body::Content(submission.content.to_owned()),
        timestamp: arrived,
    };
    let record = request.map(|_| SendRecord {
        id: message.id,
        timestamp: message.timestamp,
        digest: Digest::of(&message.to, submission.content),
        done: false,
    });
    let request = request.zip(record.as_ref());
    // Both at once: the sender waits for either.
    let recording = async {
        match request {
            None => Ok(None),
            Some((id, record)) => app.table.record_send(sender, author, id, record).await,
        }
    };
    let (ground, first) = Box::pin(async { futures::join!(ground(app, sender, author, &message.to), recording) }).await;
    let is_first = matches!(first, Ok(None));
    let dispatch = Dispatch { app, message, author, request, connection, is_repeat: false, pushes };
    let outcome = match ground {
        // Boxed, so that the future of a send is not moved with all of its parts.
        Ok(ground) => Box::pin(dispatch.send(&ground, first?, answer)).await,
        Err(error) => Err(error),
    };
    match (&outcome, request) {
        // Nothing was stored. A repeat that is accepted later begins anew, with the time of then.
        (Err(error), Some((id, record))) if is_first && !error.is_ours() => {
            let forgotten = app.table.forget_send(sender, author, id, record.id).await;
            forgotten.unwrap_or_else(|error| app.report(&error));
        }
        _ => {}
    }
    outcome
}

/// Reads what is known of the sender and the address, and refuses a user who may not send now. The back end may always
/// send, but only to a group that exists.
async fn ground(app: &App, sender: &UserId, author: Author, to: &Address) -> Result<Ground> {
    let reading = async {
        match to {
            Address::User(receiver) => app.table.standing(sender, receiver).await.map(Ground::Private),
            Address::Group(group) => app.table.sender(group, sender).await.map(Ground::Group),
        }
    };
    if author == Author::BackEnd {
        let ground = reading.await?;
        return match &ground {
            Ground::Group(Sender { meta: None, .. }) => Err(no_such_group()),
            _ => Ok(ground),
        };
    }
    let (ground, counted): (Ground, Counted) = gate::counted(app, sender, reading).await?;
    let (Ground::Private(Standing { sender: state, .. }) | Ground::Group(Sender { state, .. })) = &ground;
    gate::admit(app, sender, state, counted)?;
    Ok(ground)
}

/// The refusal of a group that does not exist, for the back end.
pub(crate) fn no_such_group() -> Error {
    Error::NotFound("there is no such group".to_owned())
}

impl Dispatch<'_> {
    /// Sends the message, unless its first attempt, which has that record, has delivered it.
    async fn send<T>(
        mut self,
        ground: &Ground,
        first: Option<SendRecord>,
        answer: impl AsyncFnOnce(Accepted) -> Result<T>,
    ) -> Result<T> {
        if let (Some(first), Some((id, record))) = (first, self.request) {
            if first.digest != record.digest {
                return Err(Error::RequestIdReused("another message in the last ten minutes"));
            }
            (self.message.id, self.message.timestamp) = (first.id, first.timestamp);
            if first.done {
                return answer(self.accepted()).await;
            }
            self.is_repeat = true;
            // The first attempt may be refused at this moment.
            if !self.app.table.keep_send(&self.message.sender, self.author, id, first.id).await? {
                return Err(Error::unavailable("repeating a send", "its first attempt has just been refused"));
            }
        }
        match (&self.message.to, ground) {
            (Address::User(receiver), Ground::Private(standing)) => self.to_user(receiver, standing, answer).await,
            (Address::Group(group), Ground::Group(sender)) => self.to_group(group, sender, answer).await,
            _ => unreachable!("`ground` follows the address"),
        }
    }

    fn accepted(&self) -> Accepted {
        Accepted { id: self.message.id, timestamp: self.message.timestamp }
    }

    /// Writes the message.
    async fn write(&self, place: Place) -> Result<Written> {
        let written = match self.is_repeat {
            false => self.app.table.write_message(&self.message, place).await?,
            true => self.app.table.rewrite_message(&self.message, place).await?,
        };
        if place == Place::Log {
            self.app.metrics.count(Metric::Accepted);
        }
        Ok(written)
    }

    async fn to_user<T>(
        &self,
        receiver: &UserId,
        standing: &Standing,
        answer: impl AsyncFnOnce(Accepted) -> Result<T>,
    ) -> Result<T> {
        let app = self.app;
        // The back end need not ask whether the two are friends.
        let delivers = match self.author {
            Author::User => standing.delivers(),
            Author::BackEnd => !standing.blocked,
        };
        let (handling, place) = match delivers {
            true => (Handling::Deliver, Place::Log),
            false => (Handling::Withhold, Place::Hidden),
        };
        if self.write(place).await? == Written::Recalled {
            return self.finish(Tick::Fine, None, answer).await;
        }
        let logged = app.clock.now_ms();
        let frame = encode(&self.message);
        let parcel = Parcel::logged(&frame, &self.message, logged).for_bus(app).to(1);
        let state = Ok(app.table.state(receiver).await?);
        let echo = Some((&standing.sender, frame.as_str()));
        let answering = async {
            let (mut failed, echo) = futures::join!(parcel.done(), self.echo_early(echo));
            match failed.pop() {
                Some((_, error)) => Err(error),
                None => {
                    self.put_early(&parcel).await;
                    self.finish(Tick::of(&parcel, logged), echo, answer).await
                }
            }
        };
        let answered = self.beside(push::to_user(app, &parcel, receiver, &state, handling), answering).await?;
        self.put_late(&parcel).await;
        Ok(answered)
    }

    async fn to_group<T>(
        &self,
        group: &GroupId,
        sender: &Sender,
        answer: impl AsyncFnOnce(Accepted) -> Result<T>,
    ) -> Result<T> {
        let (app, message) = (self.app, &self.message);
        let frame = encode(message);
        let echo = Some((&sender.state, frame.as_str()));
        if self.author == Author::User {
            let Some(membership) = sender.membership() else {
                app.metrics.count(Metric::Withheld);
                return self.finish(Tick::Fine, echo, answer).await;
            };
            self.require_no_mute(membership).await?;
        }
        if self.write(Place::Log).await? == Written::Recalled {
            return self.finish(Tick::Fine, None, answer).await;
        }
        let logged = app.clock.now_ms();
        let (roster, blockers) = futures::try_join!(app.table.roster(group), app.table.blockers(&message.sender))?;
        // The group was dissolved in between, so it has no members.
        let Some(roster) = roster else { return self.finish(Tick::Fine, echo, answer).await };
        let is_receiver =
            |member: &RosterMember| member.user != message.sender && member.joined <= message.id.time_ms();
        let receivers = |members: Vec<RosterMember>| -> Vec<UserId> {
            members.into_iter().filter(is_receiver).map(|member| member.user).collect()
        };
        let shards: Vec<Vec<UserId>> = roster.shards.into_iter().map(receivers).collect();
        let all = shards.concat();
        if let Some(queue) = app.queue.as_ref().filter(|_| all.len() > app.fanout_members) {
            app.metrics.add(Metric::Withheld, all.iter().filter(|user| blockers.contains(user)).count());
            queue.send(&job::delivery(group, message.id, logged, &shards, &blockers)).await?;
            return self.finish(Tick::Fine, echo, answer).await;
        }
        let parcel = Parcel::logged(&frame, message, logged).for_bus(app).to(all.len());
        let answering = async {
            let (failed, echo) = futures::join!(parcel.done(), self.echo_early(echo));
            leave_to_queue(app, group, message, logged, shards, &blockers, failed).await?;
            self.put_early(&parcel).await;
            self.finish(Tick::of(&parcel, logged), echo, answer).await
        };
        let answered = self.beside(push::to_users(app, &parcel, &all, &blockers), answering).await?;
        self.put_late(&parcel).await;
        Ok(answered)
    }

    /// Puts the event of a missed message before the answer, if the answer ends the function. The call is made whether somebody
    /// missed it or not, since a push may be slower than a look.
    async fn put_early(&self, parcel: &Parcel<'_>) {
        if self.pushes == Pushes::CutOff {
            events::put_missed_or_nothing(self.app, &self.message, &parcel.not_taken()).await;
        }
    }

    /// Puts that event once all pushes are over, otherwise. It holds up no answer then.
    async fn put_late(&self, parcel: &Parcel<'_>) {
        if self.pushes == Pushes::Finish {
            events::put_missed(self.app, &self.message, &parcel.not_taken()).await;
        }
    }

    /// Refuses a muted sender. A first attempt before the mute may have written the message. Then its delivery is
    /// finished.
    async fn require_no_mute(&self, membership: Membership) -> Result<()> {
        let (app, message) = (self.app, &self.message);
        match membership.muted_until.filter(|until| *until > app.clock.now_ms()) {
            None => Ok(()),
            Some(_) if self.is_repeat && !app.table.stored_message(&message.to, message.id).await?.is_empty() => Ok(()),
            Some(until) => Err(Error::Muted { until }),
        }
    }

    /// Echoes the frame to the sender's other connections.
    async fn echo(&self, (state, frame): Echo<'_>) {
        let is_other = |connection: &&ConnectionId| Some(*connection) != self.connection;
        let others: Vec<_> = state.open_of_version_2(self.app.clock.now_ms()).filter(is_other).collect();
        push::signal(self.app, &others, frame, Handling::Deliver).await;
    }

    /// Echoes beside the pushes if the answer ends the function. After them, the echo would delay the answer by a time that
    /// depends on them. Otherwise the echo is left for later.
    async fn echo_early<'a>(&self, echo: Option<Echo<'a>>) -> Option<Echo<'a>> {
        match (self.pushes, echo) {
            (Pushes::CutOff, Some(echo)) => {
                push::for_a_slot(self.app, self.echo(echo)).await;
                None
            }
            (_, echo) => echo,
        }
    }

    /// Answers the sender at a tick, echoes the frame unless that is done, and marks the request as delivered.
    async fn finish<T>(
        &self,
        tick: Tick,
        echo: Option<Echo<'_>>,
        answer: impl AsyncFnOnce(Accepted) -> Result<T>,
    ) -> Result<T> {
        let echo = self.echo_early(echo).await;
        let answering = async {
            match self.request {
                None => answer(self.accepted()).await,
                Some((id, _)) => {
                    let marking = self.app.table.mark_delivered(&self.message.sender, self.author, id);
                    let (marked, answered) = futures::join!(marking, answer(self.accepted()));
                    // The message is delivered in any case. If this write fails, a repeat of the request delivers it again.
                    marked.unwrap_or_else(|error| self.app.report(&error));
                    answered
                }
            }
        };
        tick.wait(self.app).await;
        match echo {
            Some(echo) => futures::join!(self.echo(echo), answering).1,
            None => answering.await,
        }
    }

    /// Runs pushes beside the answer.
    async fn beside<T>(
        &self,
        pushing: impl Future<Output = ()>,
        answering: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.pushes {
            Pushes::Finish => futures::join!(pushing, answering).1,
            Pushes::CutOff => match select(std::pin::pin!(pushing), std::pin::pin!(answering)).await {
                Either::Left(((), answering)) => answering.await,
                Either::Right((answered, _)) => answered,
            },
        }
    }
}

/// Leaves the receivers whose delivery failed to the queue. The message is accepted for all others.
async fn leave_to_queue(
    app: &App,
    group: &GroupId,
    message: &Message,
    logged: Ms,
    mut shards: Vec<Vec<UserId>>,
    blockers: &BTreeSet<UserId>,
    mut failed: Vec<(UserId, Error)>,
) -> Result<()> {
    match (&app.queue, failed.pop()) {
        (_, None) => Ok(()),
        (None, Some((_, error))) => Err(error),
        (Some(queue), Some((last, error))) => {
            app.report(&error);
            let failed: BTreeSet<UserId> = failed.into_iter().map(|(user, _)| user).chain([last]).collect();
            shards.iter_mut().for_each(|users| users.retain(|user| failed.contains(user)));
            queue.send(&job::delivery(group, message.id, logged, &shards, blockers)).await
        }
    }
}
