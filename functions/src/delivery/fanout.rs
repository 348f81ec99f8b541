//! Runs the jobs of the queue. A job is a part of work that is too much for one function: the delivery of a message to
//! a large group, the push of a notification to it, its making or its dissolution, or the erasure of a user. Or it is
//! work for later: closing connections once more.
//!
//! A job may run late, and may run twice. So each job reads anew who is in the group, who blocks the sender, and who is
//! connected. See docs/delivery.md#large-groups.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use shared::Result;
use shared::clock::Ms;
use shared::frame::{Body, encode};
use shared::id::UserId;
use shared::metrics::Metric;

use super::job::{Delivery, Dissolution, Job, Notification};
use super::push::{self, Parcel};
use super::{erase, events, kick, make};
use crate::App;
use crate::function::Function;

/// How long after its post a notification is pushed, in milliseconds. It is not stored, so it must not wait in the
/// queue for days. Within this time its jobs are tried twice.
const NOTIFICATION_MS: Ms = 120_000;

/// The function.
pub static FUNCTION: Function = Function::queue("fanout", run).pushing().queueing().announcing();

fn run<'a>(app: &'a App, body: &'a str) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        match Job::parse(body)? {
            Job::Delivery(job) => deliver(app, &job).await,
            Job::Notification(job) => notify(app, &job).await,
            Job::Dissolution(job) => dissolve(app, &job).await,
            Job::Making(job) => make::write_part(app, &job).await,
            Job::Made { group } => make::finish(app, &group).await,
            Job::Closing(job) => kick::close(app, &job.user, &job.connections).await,
            Job::Erasure(job) => erase::run(app, &job).await,
        }
    })
}

/// Clears a shard of a group that its manager dissolves. If the group still exists, its roster has grown since: then
/// another job does it, or the dissolution did not happen.
async fn dissolve(app: &App, job: &Dissolution) -> Result<()> {
    match app.table.dissolve(&job.group, &job.manager, job.last_shard).await? {
        true => app.table.clear_shard(&job.group, job.shard).await,
        false => Ok(()),
    }
}

/// Counts a job. Returns how long ago `since` is.
fn begin(app: &App, since: Ms) -> Ms {
    app.metrics.count(Metric::FanoutJobs);
    let lag = app.clock.now_ms().saturating_sub(since);
    app.metrics.add(Metric::FanoutLag, usize::try_from(lag).unwrap_or(usize::MAX));
    lag
}

/// Pushes to the present members of the shard.
async fn notify(app: &App, job: &Notification) -> Result<()> {
    if begin(app, job.posted) > NOTIFICATION_MS {
        return Ok(());
    }
    let existing = app.table.existing_groups(std::slice::from_ref(&job.group));
    let members = app.table.shard(&job.group, job.shard);
    let blockers = app.table.blockers_of(job.from.as_ref());
    let (existing, members, blockers) = futures::try_join!(existing, members, blockers)?;
    if !existing.contains_key(&job.group) {
        return Ok(());
    }
    let receivers = members.into_iter().map(|member| member.user).filter(|user| !blockers.contains(user));
    push::to_all(app, Parcel::fleeting(&job.frame), &receivers.collect::<Vec<_>>()).await.map(|_| ())
}

async fn deliver(app: &App, job: &Delivery) -> Result<()> {
    begin(app, job.logged);
    let (first, last) = job.span();
    let message = app.table.group_message(&job.group, job.id);
    let members = app.table.members_between(&job.group, job.shard, first, last);
    let (message, members) = futures::try_join!(message, members)?;
    // The group was dissolved, or the message expired.
    let Some(message) = message else { return Ok(()) };
    let blockers = app.table.blockers(&message.sender).await?;
    let frame = encode(&message);
    let parcel = Parcel::queued(&frame, &message, job.logged).for_bus(app);
    // A member who left and joined again is not a receiver. Members who block the sender are left out, with no decoy
    // calls: the sender does not wait for this function.
    let sent = match message.body {
        Body::Recall { of } => of.time_ms(),
        Body::Content(_) | Body::Recalled { .. } => message.id.time_ms(),
    };
    let of_old = members.into_iter().filter(|member| member.joined <= sent).map(|member| member.user);
    let delivered = job.delivered();
    let is_receiver = |user: &UserId| delivered.contains(user) && !blockers.contains(user);
    let receivers: Vec<UserId> = of_old.filter(is_receiver).collect();
    match message.body {
        Body::Content(_) => {
            let not_taken = push::to_all(app, parcel, &receivers).await?;
            events::put_missed(app, &message, &not_taken).await;
            Ok(())
        }
        Body::Recall { .. } => {
            push::signal_to_users(app, &receivers, &BTreeSet::new(), &frame).await;
            Ok(())
        }
        // It was recalled while the job waited.
        Body::Recalled { .. } => Ok(()),
    }
}
