//! How a frame reaches the connections of its receivers, and how missed messages are recorded.
//!
//! No receiver delays another. A post has a slot for a moment only, and goes on without one if its connection is slow.
//! A receiver is *pending* until it is recorded what their connections have not taken by then. As soon as no receiver
//! is pending, the message is accepted, even if posts are still under way. A failure for one receiver does not affect
//! others.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures::future::{BoxFuture, Either, join_all, select};
use futures::{StreamExt, stream};
use shared::clock::Ms;
use shared::frame::{Address, Message};
use shared::id::{ConnectionId, MessageId, UserId};
use shared::metrics::Metric;
use shared::push::{Push, Pusher};
use shared::rules::coverage::Connection;
use shared::rules::must_be_recorded::Delivered;
use shared::table::{MessageKind, MissTarget, MissedRef, State};
use shared::{Error, Result};
use tokio::sync::{Semaphore, watch};

use super::events::NotTaken;
use crate::App;

/// The highest number of posts of one parcel that have a slot at once.
const SLOTS: usize = 64;

/// How long a post has its slot. A post that takes longer counts as not taken when the misses are recorded. The client
/// may then receive the message twice, which is better than waiting for a client that does not read.
const SLOT_MS: Ms = 25;

/// The longest time that a post may take in total.
const POST_MS: Ms = 500;

/// How long a call waits for pushes to one user before it is answered. The time must not depend on them, so it is enough for
/// a function that has no connection to the gateway yet.
const SIGNAL_MS: Ms = 200;

/// How long a call waits for pushes to a group before it is answered. Most take a tenth of it.
pub(crate) const GROUP_MS: Ms = 3_000;

/// Why a lock is not poisoned.
const NO_PANIC: &str = "no holder of this lock panics";

/// How many states one call reads, and how many such calls are under way at once.
const STATES_PER_CALL: usize = 100;
const MAX_CALLS: usize = 8;

/// Whether a message reaches a receiver.
///
/// A message that is withheld makes the same calls as one that is delivered. It does not reach the receiver, and
/// nothing is stored for them. With fewer calls, the sender could tell from the time of the answer that the message was
/// withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handling {
    Deliver,
    Withhold,
}

/// A frame that is being pushed.
#[derive(Debug)]
pub(crate) struct Parcel<'a> {
    frame: &'a str,
    logged: Option<Logged<'a>>,
    slots: Semaphore,
    /// How many receivers are pending.
    pending: watch::Sender<usize>,
    /// The receivers for whom the missed message could not be recorded.
    failed: Mutex<Vec<(UserId, Error)>>,
    /// The receivers who have not taken the message, if there is a bus that wants to know.
    not_taken: Option<Mutex<NotTaken>>,
    /// Whether a receiver has a connection open. Receivers from whom the message is withheld count too.
    meets_connections: AtomicBool,
}

/// The place of a message in a log.
#[derive(Debug)]
struct Logged<'a> {
    log: &'a Address,
    id: MessageId,
    sender: &'a UserId,
    delivered: Delivered,
}

impl<'a> Parcel<'a> {
    fn new(frame: &'a str, logged: Option<Logged<'a>>) -> Self {
        Self {
            frame,
            logged,
            slots: Semaphore::new(SLOTS),
            pending: watch::Sender::new(0),
            failed: Mutex::default(),
            not_taken: None,
            meets_connections: AtomicBool::new(false),
        }
    }

    /// Creates a parcel of a frame that is not stored. A receiver who does not take it now never gets it.
    pub(crate) fn fleeting(frame: &'a str) -> Self {
        Self::new(frame, None)
    }

    /// Creates a parcel of a message whose log write ended at `at`, which is just now.
    pub(crate) fn logged(frame: &'a str, message: &'a Message, at: Ms) -> Self {
        Self::new(frame, Some(Logged::new(message, Delivered::at_once(message.id.time_ms(), at))))
    }

    /// Creates a parcel of a message whose log write ended at `at`, and whose delivery has waited in a queue.
    pub(crate) fn queued(frame: &'a str, message: &'a Message, at: Ms) -> Self {
        Self::new(frame, Some(Logged::new(message, Delivered::queued(message.id.time_ms(), at))))
    }

    /// Lets the parcel remember who has not taken it, if there is a bus.
    pub(crate) fn for_bus(mut self, app: &App) -> Self {
        self.not_taken = app.bus.as_ref().map(|_| Mutex::default());
        self
    }

    /// Returns the receivers who have not taken the message by now.
    pub(crate) fn not_taken(&self) -> NotTaken {
        self.not_taken.as_ref().map(|set| std::mem::take(&mut *set.lock().expect(NO_PANIC))).unwrap_or_default()
    }

    /// Records whether a receiver has taken the message so far.
    fn note(&self, user: &UserId, handling: Handling, is_taken: bool) {
        let Some(set) = &self.not_taken else { return };
        let mut set = set.lock().expect(NO_PANIC);
        let set = match handling {
            Handling::Deliver => &mut set.delivered,
            Handling::Withhold => &mut set.withheld,
        };
        if is_taken {
            set.remove(user);
        } else {
            set.insert(user.clone());
        }
    }

    /// Sets the number of receivers, all of them pending.
    pub(crate) fn to(self, receivers: usize) -> Self {
        self.pending.send_replace(receivers);
        self
    }

    /// Resolves when no receiver is pending. Returns the receivers that failed.
    pub(crate) async fn done(&self) -> Vec<(UserId, Error)> {
        let mut pending = self.pending.subscribe();
        // This parcel holds the sending half of `pending`, so the wait cannot fail.
        let _ = pending.wait_for(|count| *count == 0).await;
        std::mem::take(&mut *self.failed.lock().expect(NO_PANIC))
    }

    /// Returns whether a receiver had a connection open. Receivers from whom the message is withheld count too.
    pub(crate) fn meets_connections(&self) -> bool {
        self.meets_connections.load(Relaxed)
    }

    fn finish(&self, user: &UserId, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.failed.lock().expect(NO_PANIC).push((user.clone(), error));
        }
        self.pending.send_modify(|count| *count = count.saturating_sub(1));
    }

    /// Returns whether the parcel is pushed to this open connection of a user with this state.
    fn is_for(&self, state: &State, connection: &Connection, now: Ms) -> bool {
        let is_for =
            |logged: &Logged<'_>| logged.delivered.is_pushed_to(connection, state.receiver(logged.kind(), now));
        self.logged.as_ref().is_none_or(is_for)
    }
}

/// Pushes a parcel to users. It is withheld from those in `blockers`. Pushes begin as soon as the first states are
/// read.
pub(crate) async fn to_users(app: &App, parcel: &Parcel<'_>, users: &[UserId], blockers: &BTreeSet<UserId>) {
    let handling = |user: &UserId| if blockers.contains(user) { Handling::Withhold } else { Handling::Deliver };
    let calls = users.chunks(STATES_PER_CALL).map(|chunk| app.table.states(chunk));
    let batches = stream::iter(calls.collect::<Vec<_>>()).buffer_unordered(MAX_CALLS);
    let pushed = batches.map(|states| async move {
        join_all(states.iter().map(|(user, state)| to_user(app, parcel, user, state, handling(user)))).await;
    });
    pushed.buffer_unordered(MAX_CALLS).collect::<()>().await;
}

/// Pushes a parcel to users, withholds it from none of them, and waits until all pushes have ended. Returns who has not taken
/// it, if there is a bus.
///
/// # Errors
/// The failure for one of the users. A failure for one user does not stop the pushes to the others.
pub(crate) async fn to_all(app: &App, parcel: Parcel<'_>, users: &[UserId]) -> Result<NotTaken> {
    let parcel = parcel.to(users.len());
    to_users(app, &parcel, users, &BTreeSet::new()).await;
    match parcel.done().await.pop() {
        Some((_, error)) => Err(error),
        None => Ok(parcel.not_taken()),
    }
}

/// Pushes a parcel to every open connection of a user, and records what they did not take.
pub(crate) async fn to_user(app: &App, parcel: &Parcel<'_>, user: &UserId, state: &Result<State>, handling: Handling) {
    let state = match state {
        Ok(state) => state,
        Err(error) => {
            return parcel.finish(user, Err(Error::unavailable("reading the state of a receiver", error.chain())));
        }
    };
    let now = app.clock.now_ms();
    let open: Vec<_> = state.open(now).filter(|(_, connection)| parcel.is_for(state, connection, now)).collect();
    if open.is_empty() {
        count(app, parcel, &[], handling);
        parcel.note(user, handling, false);
        return parcel.finish(user, record_missed(app, parcel, user, state, &BTreeSet::new(), handling).await);
    }
    // This future is large, and most users have no connection. Boxed, it does not enlarge the futures of those users.
    Box::pin(to_connections(app, parcel, user, state, &open, handling)).await;
}

async fn to_connections(
    app: &App,
    parcel: &Parcel<'_>,
    user: &UserId,
    state: &State,
    open: &[(&ConnectionId, &Connection)],
    handling: Handling,
) {
    parcel.meets_connections.store(true, Relaxed);
    let begun = join_all(open.iter().map(|(connection, _)| begin(app, parcel, connection, handling))).await;
    let is_taken = |begun: &Begun<'_>| matches!(begun, Either::Left(Push::Taken));
    let took: BTreeSet<&ConnectionId> =
        open.iter().zip(&begun).filter(|(_, begun)| is_taken(begun)).map(|((id, _), _)| *id).collect();
    parcel.note(user, handling, !took.is_empty());
    parcel.finish(user, record_missed(app, parcel, user, state, &took, handling).await);

    let finish = |begun| async {
        match begun {
            Either::Left(push) => push,
            Either::Right(post) => post.await,
        }
    };
    let pushes: Vec<Push> = join_all(begun.into_iter().map(finish)).await;
    count(app, parcel, &pushes, handling);
    parcel.note(user, handling, pushes.contains(&Push::Taken));
    let now = app.clock.now_ms();
    let over = open.iter().zip(&pushes).filter(|((_, c), push)| **push == Push::Gone && c.is_settled(now));
    let closing = over.map(|((connection, _), _)| app.table.mark_gone(user, connection, now));
    // A dead connection that stays in the state costs another push and loses nothing, so an error repeats nothing.
    join_all(closing).await.into_iter().filter_map(Result::err).for_each(|error| app.report(&error));
}

/// A push that has ended, or one that is still under way.
type Begun<'a> = Either<Push, BoxFuture<'a, Push>>;

/// Begins a push, and waits for it as long as it has a slot.
async fn begin<'a>(
    app: &'a App,
    parcel: &'a Parcel<'_>,
    connection: &'a ConnectionId,
    handling: Handling,
) -> Begun<'a> {
    let (Ok(pusher), Ok(_slot)) = (app.pusher(), parcel.slots.acquire().await) else {
        return Either::Left(Push::Failed);
    };
    let pushing = async move {
        match handling {
            Handling::Deliver => pusher.post(connection, parcel.frame).await,
            Handling::Withhold => pusher.probe(connection).await,
        }
    };
    let sleep = |ms| app.clock.sleep(Duration::from_millis(ms));
    let pushing: BoxFuture<'a, Push> = Box::pin(pushing);
    match select(pushing, sleep(SLOT_MS)).await {
        Either::Left((push, _)) => Either::Left(push),
        Either::Right(((), pushing)) => Either::Right(Box::pin(async move {
            match select(pushing, sleep(POST_MS - SLOT_MS)).await {
                Either::Left((push, _)) => push,
                Either::Right(_) => Push::Failed,
            }
        })),
    }
}

/// Records by name that a user missed the message of the parcel, if a pull would not find it by its time.
async fn record_missed(
    app: &App,
    parcel: &Parcel<'_>,
    user: &UserId,
    state: &State,
    took: &BTreeSet<&ConnectionId>,
    handling: Handling,
) -> Result<()> {
    let now = app.clock.now_ms();
    let is_needed = |logged: &&Logged<'_>| logged.delivered.must_be_recorded(state.receiver(logged.kind(), now), took);
    let Some(logged) = parcel.logged.as_ref().filter(is_needed) else { return Ok(()) };
    let target = match handling {
        Handling::Deliver => MissTarget::Of(user),
        Handling::Withhold => MissTarget::Withheld { receiver: user, sender: logged.sender },
    };
    // Boxed for the same reason as above.
    Box::pin(app.table.record_missed(target, &MissedRef::new(logged.log, logged.id), state)).await
}

fn count(app: &App, parcel: &Parcel<'_>, pushes: &[Push], handling: Handling) {
    if handling == Handling::Withhold {
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

impl<'a> Logged<'a> {
    fn new(message: &'a Message, delivered: Delivered) -> Self {
        Self { log: &message.to, id: message.id, sender: &message.sender, delivered }
    }

    fn kind(&self) -> MessageKind {
        MessageKind::of(self.log)
    }
}

/// Sends a frame of version 2 to connections, or looks at them as if it were sent. Ignores whether it arrives.
pub(crate) async fn signal(app: &App, connections: &[&ConnectionId], frame: &str, handling: Handling) {
    let Ok(pusher) = app.pusher() else { return };
    if handling == Handling::Deliver {
        app.metrics.add(Metric::Signals, connections.len());
    }
    let pushes: Vec<BoxFuture<'_, ()>> =
        connections.iter().map(|connection| signal_one(app, pusher, connection, frame, handling)).collect();
    stream::iter(pushes).buffer_unordered(SLOTS).collect::<()>().await;
}

fn signal_one<'a>(
    app: &'a App,
    pusher: &'a Pusher,
    connection: &'a ConnectionId,
    frame: &'a str,
    handling: Handling,
) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let pushing = Box::pin(async {
            match handling {
                Handling::Deliver => pusher.post(connection, frame).await,
                Handling::Withhold => pusher.probe(connection).await,
            }
        });
        select(pushing, app.clock.sleep(Duration::from_millis(POST_MS))).await;
    })
}

/// Sends a frame of version 2 to all users but those in `blockers`, whose connections are only looked at.
pub(crate) async fn signal_to_users(app: &App, users: &[UserId], blockers: &BTreeSet<UserId>, frame: &str) {
    let calls = users.chunks(STATES_PER_CALL).map(|chunk| app.table.states(chunk));
    let batches = stream::iter(calls.collect::<Vec<_>>()).buffer_unordered(MAX_CALLS);
    let signalled = batches.map(|states| async move {
        let (mut delivered, mut withheld) = (Vec::new(), Vec::new());
        for (user, state) in &states {
            let Ok(state) = state else { continue };
            let connections = state.open_of_version_2(app.clock.now_ms());
            if blockers.contains(user) { withheld.extend(connections) } else { delivered.extend(connections) }
        }
        futures::join!(
            signal(app, &delivered, frame, Handling::Deliver),
            signal(app, &withheld, frame, Handling::Withhold),
        );
    });
    signalled.buffer_unordered(MAX_CALLS).collect::<()>().await;
}

/// Sends each of these users a frame of version 2 of their own.
pub(crate) async fn signal_to_each(app: &App, users: &[UserId], frame: impl Fn(&UserId) -> String) {
    for some in users.chunks(STATES_PER_CALL) {
        let states = app.table.states(some).await;
        let now = app.clock.now_ms();
        let online = states.iter().filter_map(|(user, state)| {
            let connections: Vec<&ConnectionId> = state.as_ref().ok()?.open_of_version_2(now).collect();
            (!connections.is_empty()).then(|| (frame(user), connections))
        });
        let online: Vec<(String, Vec<&ConnectionId>)> = online.collect();
        join_all(online.iter().map(|(frame, to)| signal(app, to, frame, Handling::Deliver))).await;
    }
}

/// Runs pushes for as long as a post has its slot, and cuts them off then.
pub(crate) async fn for_a_slot(app: &App, pushing: impl Future<Output = ()>) {
    for_at_most(app, SLOT_MS, pushing).await;
}

/// Runs pushes, and cuts them off after that time.
pub(crate) async fn for_at_most(app: &App, ms: Ms, pushing: impl Future<Output = ()>) {
    select(std::pin::pin!(pushing), app.clock.sleep(Duration::from_millis(ms))).await;
}

/// Runs pushes before a call is answered. The time of the answer does not show how the pushes went: it is a fixed time after
/// this moment, and pushes that are under way then are cut off. If nobody `is_online`, it is at a tick.
pub(crate) async fn before_answer(app: &App, is_online: bool, pushing: impl Future<Output = ()>) {
    if !is_online {
        pushing.await;
        return app.wait_for_tick().await;
    }
    let answering = app.wait_until(app.clock.now_ms() + SIGNAL_MS);
    if let Either::Left(((), answering)) = select(std::pin::pin!(pushing), std::pin::pin!(answering)).await {
        answering.await;
    }
    app.wait_for_tick().await;
}

/// Sends a frame to a connection, and ignores whether it arrives.
pub(crate) async fn tell(app: &App, connection: &ConnectionId, frame: &str) -> Result<()> {
    let post = Box::pin(app.pusher()?.post(connection, frame));
    select(post, app.clock.sleep(Duration::from_millis(POST_MS))).await;
    Ok(())
}

/// Closes a connection at the gateway, and records that in the state.
pub(crate) async fn close(app: &App, user: &UserId, connection: &ConnectionId) -> Result<()> {
    app.pusher()?.close(connection).await?;
    app.table.mark_closed(user, connection, app.clock.now_ms()).await.map(|_| ())
}
