//! The jobs of the queue: parts of the delivery of a message to a large group, of a notification to it, and of its
//! dissolution.
//!
//! A delivery names the message and does not hold it. SQS refuses characters that a content may have, and a content is
//! stored in one place only. A notification is not stored, so its jobs hold it. They are valid for a short time.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use shared::clock::Ms;
use shared::id::{ConnectionId, GroupId, MessageId, UserId};
use shared::queue::{MAX_BATCH_BYTES, batches};
use shared::{Error, Result};

/// The highest number of receivers of one job. If all of them are online, the job takes a few seconds. Each job reads
/// META and the message in the group's partition, so a few jobs are better than many: see docs/benchmarks.md.
const RECEIVERS: usize = 2_500;

/// The highest number of bytes of the receivers' ids in one job. A job of this size fits into one call.
const RECEIVERS_BYTES: usize = MAX_BATCH_BYTES - 4 * 1024;

/// The bytes that a job needs for an id besides the id itself: mark, quotes and comma.
const BESIDE_AN_ID: usize = 4;

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "camelCase")]
pub(crate) enum Job {
    /// Deliver a message.
    Delivery(Delivery),
    /// Push a notification.
    Notification(Notification),
    /// Delete what a dissolved group leaves behind.
    Dissolution(Dissolution),
    /// Write some members of a group that is being made.
    Making(Making),
    /// Let a group exist whose members are all written.
    Made {
        /// The group.
        group: GroupId,
    },
    /// Close connections once more.
    Closing(Closing),
    /// Erase a part of what a user left.
    Erasure(Erasure),
}

/// A message of a group, and some of its receivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// The group.
    pub(crate) group: GroupId,
    /// The message in its log.
    pub(crate) id: MessageId,
    /// When its log write was complete.
    pub(crate) logged: Ms,
    /// The shard of the roster that the receivers are in.
    pub(crate) shard: u32,
    /// The receivers, sorted by id; never empty.
    receivers: Vec<Receiver>,
}

/// A notification to the members in a shard of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notification {
    /// The group.
    pub(crate) group: GroupId,
    /// The shard of its roster.
    pub(crate) shard: u32,
    /// The user whom the notification is from. Members who block this user do not receive it.
    pub(crate) from: Option<UserId>,
    /// When it was posted.
    pub(crate) posted: Ms,
    /// The frame that is pushed.
    pub(crate) frame: String,
}

/// A shard of a group that its manager dissolves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Dissolution {
    /// The group.
    pub(crate) group: GroupId,
    /// Its manager, who dissolves it.
    pub(crate) manager: UserId,
    /// The last shard of its roster, as the manager's call read it.
    pub(crate) last_shard: u32,
    /// The shard that the job clears.
    pub(crate) shard: u32,
}

/// Some members of a group that is being made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Making {
    /// The group.
    pub(crate) group: GroupId,
    /// The digest of what was asked for.
    pub(crate) digest: String,
    /// When the back end asked for it.
    pub(crate) posted: Ms,
    /// The number of this part.
    pub(crate) part: u32,
    /// The number of the first of these members among all.
    pub(crate) first: u32,
    /// The members.
    pub(crate) users: Vec<UserId>,
}

/// Connections of a user that were closed while their handshakes may have been under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closing {
    /// The user.
    pub(crate) user: UserId,
    /// The connections.
    pub(crate) connections: Vec<ConnectionId>,
}

/// A part of the erasure of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Erasure {
    /// The user.
    pub(crate) user: UserId,
    /// When the erasure began. A job of an earlier one does nothing.
    pub(crate) begun: Ms,
    /// Whether it is the second pass, which ends the erasure.
    pub(crate) is_last: bool,
    /// The log that the last job was reading, and how far it came.
    pub(crate) position: Option<(String, MessageId)>,
}

/// A receiver of a job: `+id`, or `-id` if the message is withheld from them. A job names both. So the call that queues
/// it has the same size in both cases, and the time of that call does not show who blocks the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Receiver {
    user: UserId,
    is_withheld: bool,
}

impl From<Receiver> for String {
    fn from(receiver: Receiver) -> Self {
        format!("{}{}", if receiver.is_withheld { '-' } else { '+' }, receiver.user)
    }
}

impl TryFrom<String> for Receiver {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_withheld = text.starts_with('-');
        let id = text.strip_prefix(['+', '-']).ok_or("a receiver has no mark")?;
        Ok(Self { user: UserId::parse(id).map_err(|_| "a receiver has no id")?, is_withheld })
    }
}

impl Job {
    pub(crate) fn encode(&self) -> String {
        let json = serde_json::to_string(self).expect("a job is made of strings and numbers, none of which can fail");
        // JSON allows these two characters unescaped, but SQS refuses them. They can occur only inside strings.
        json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
    }

    /// Reads a job. The error does not say what is wrong with the job, because that could quote it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the text is not a job. Only this module writes jobs, so this is a fault of the
    /// service.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match serde_json::from_str(text) {
            Ok(Self::Delivery(delivery)) if delivery.receivers.is_empty() => Err(malformed()),
            Ok(job) => Ok(job),
            Err(_) => Err(malformed()),
        }
    }
}

fn malformed() -> Error {
    Error::unavailable("reading a job", "it is malformed")
}

impl Delivery {
    /// Returns the first and the last receiver.
    pub(crate) fn span(&self) -> (&UserId, &UserId) {
        let users = || self.receivers.iter().map(|receiver| &receiver.user);
        users().min().zip(users().max()).expect("`parse` refuses a job without receivers")
    }

    /// Returns the receivers from whom the message is not withheld.
    pub(crate) fn delivered(&self) -> BTreeSet<&UserId> {
        self.receivers.iter().filter(|receiver| !receiver.is_withheld).map(|receiver| &receiver.user).collect()
    }
}

/// Returns the jobs of the delivery of a message. `shards` holds its receivers by shard, sorted by id. The message is
/// withheld from `blockers`.
pub(crate) fn delivery(
    group: &GroupId,
    id: MessageId,
    logged: Ms,
    shards: &[Vec<UserId>],
    blockers: &BTreeSet<UserId>,
) -> Vec<String> {
    let receiver = |user: &UserId| Receiver { user: user.clone(), is_withheld: blockers.contains(user) };
    let job = |shard: u32, part: &[UserId]| {
        let receivers = part.iter().map(receiver).collect();
        Job::Delivery(Delivery { group: group.clone(), id, logged, shard, receivers }).encode()
    };
    let length = |user: &UserId| user.as_str().len() + BESIDE_AN_ID;
    let cut = |users| batches(users, RECEIVERS, RECEIVERS_BYTES, length);
    let parts = (0..).zip(shards).flat_map(|(shard, users)| cut(users).into_iter().map(move |part| (shard, part)));
    parts.map(|(shard, part)| job(shard, part)).collect()
}

/// Returns the jobs of a notification to a group, one for each shard of its roster. Returns `None` if the notification
/// is too long for a job.
pub(crate) fn notification(
    group: &GroupId,
    last_shard: u32,
    from: Option<&UserId>,
    posted: Ms,
    frame: &str,
) -> Option<Vec<String>> {
    let job = |shard| {
        let (group, from, frame) = (group.clone(), from.cloned(), frame.to_owned());
        Job::Notification(Notification { group, shard, from, posted, frame }).encode()
    };
    let jobs: Vec<String> = (0..=last_shard).map(job).collect();
    jobs.iter().all(|job| job.len() <= MAX_BATCH_BYTES).then_some(jobs)
}

/// The most members of one job of a group that is being made. More would take the partition of a shard too long.
const MEMBERS: usize = 1_000;

/// Returns the jobs that write the members of a group.
pub(crate) fn making(group: &GroupId, digest: &str, posted: Ms, users: &[UserId]) -> Vec<String> {
    let parts = (0..).zip(users.chunks(MEMBERS));
    let job = |(part, users): (u32, &[UserId])| {
        let (group, digest) = (group.clone(), digest.to_owned());
        let (first, users) = (part * MEMBERS as u32, users.to_vec());
        Job::Making(Making { group, digest, posted, part, first, users }).encode()
    };
    parts.map(job).collect()
}

/// Returns the jobs of the dissolution of a group, one for each shard of its roster.
pub(crate) fn dissolution(group: &GroupId, manager: &UserId, last_shard: u32) -> Vec<String> {
    let job = |shard| {
        let (group, manager) = (group.clone(), manager.clone());
        Job::Dissolution(Dissolution { group, manager, last_shard, shard }).encode()
    };
    (0..=last_shard).map(job).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn users(count: usize) -> Vec<UserId> {
        (0..count).map(|n| user(&format!("user-{n:05}"))).collect()
    }

    fn jobs(receivers: &[UserId], blockers: &[UserId]) -> Vec<String> {
        let blockers = blockers.iter().cloned().collect();
        super::delivery(&GroupId::parse("g").unwrap(), MessageId::first_at(5), 7, &[receivers.to_vec()], &blockers)
    }

    fn delivery(job: &str) -> Delivery {
        match Job::parse(job).unwrap() {
            Job::Delivery(delivery) => delivery,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_receiver_is_in_one_job() {
        for count in [0, 1, 2_499, 2_500, 2_501, 10_000] {
            let jobs: Vec<Delivery> = jobs(&users(count), &[]).iter().map(|job| delivery(job)).collect();
            assert_eq!(jobs.len(), count.div_ceil(RECEIVERS));
            let all: Vec<UserId> = jobs.iter().flat_map(|job| job.delivered()).cloned().collect();
            assert_eq!(all, users(count));
            assert!(jobs.windows(2).all(|pair| pair[0].span().1 < pair[1].span().0));
        }
    }

    #[test]
    fn an_encoded_job_parses_to_the_same_job() {
        let job = delivery(&jobs(&["a", "b", "c"].map(user), &["a", "x"].map(user))[0]);
        let [a, b, c] = ["a", "b", "c"].map(user);
        assert_eq!((job.span(), job.delivered()), ((&a, &c), [&b, &c].into()));
        assert_eq!(
            (job.group, job.id, job.logged, job.shard),
            (GroupId::parse("g").unwrap(), MessageId::first_at(5), 7, 0)
        );
    }

    #[test]
    fn a_job_has_receivers_of_one_shard() {
        let (group, id) = (GroupId::parse("g").unwrap(), MessageId::first_at(5));
        let shards = [vec![user("b")], Vec::new(), vec![user("a"), user("c")]];
        let jobs: Vec<Delivery> =
            super::delivery(&group, id, 7, &shards, &BTreeSet::new()).iter().map(|job| delivery(job)).collect();
        let of = |job: &Delivery| (job.shard, job.delivered().into_iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            jobs.iter().map(of).collect::<Vec<_>>(),
            [(0, vec!["b".to_owned()]), (2, vec!["a".to_owned(), "c".to_owned()])]
        );
    }

    #[test]
    fn a_dissolution_has_a_job_for_each_shard() {
        let (group, manager) = (GroupId::parse("g").unwrap(), user("m"));
        let jobs = dissolution(&group, &manager, 2);
        for (shard, job) in (0..3).zip(&jobs) {
            let wanted = Dissolution { group: group.clone(), manager: manager.clone(), last_shard: 2, shard };
            assert_eq!(Job::parse(job).unwrap(), Job::Dissolution(wanted));
        }
        assert_eq!(jobs.len(), 3);
    }

    #[test]
    fn a_notification_has_a_job_for_each_shard() {
        let group = GroupId::parse("g").unwrap();
        for (from, frame) in [(None, "{\"a\":1}"), (Some(user("f")), "\"\u{fffe}\u{ffff} \u{2028} \u{1f600}\"")] {
            let jobs = notification(&group, 2, from.as_ref(), 7, frame).unwrap();
            assert_eq!(jobs.len(), 3);
            for (shard, job) in (0..).zip(&jobs) {
                assert!(!job.contains(['\u{fffe}', '\u{ffff}']), "SQS refuses them: {job}");
                let (group, frame) = (group.clone(), frame.to_owned());
                let wanted = Notification { group, shard, from: from.clone(), posted: 7, frame };
                assert_eq!(Job::parse(job).unwrap(), Job::Notification(wanted));
            }
        }
        let fits = |bytes: usize| notification(&group, 0, None, 7, &"x".repeat(bytes)).is_some();
        assert!(fits(MAX_BATCH_BYTES - 1024) && !fits(MAX_BATCH_BYTES));
    }

    #[test]
    fn blockers_do_not_change_the_size_of_a_job() {
        let (all, blockers) = (users(RECEIVERS + 700), users(30));
        let sizes = |jobs: Vec<String>| jobs.iter().map(String::len).collect::<Vec<_>>();
        assert_eq!(sizes(jobs(&all, &[])), sizes(jobs(&all, &blockers)));
    }

    #[test]
    fn the_largest_job_fits_into_one_call() {
        let longest: Vec<UserId> = (0..RECEIVERS).map(|n| user(&format!("{n:0128}"))).collect();
        let jobs = jobs(&longest, &[]);
        assert!(jobs.len() == 2 && jobs[0].len() > MAX_BATCH_BYTES / 2, "{} jobs", jobs.len());
        assert!(jobs.iter().all(|job| job.len() <= MAX_BATCH_BYTES), "{} bytes", jobs[0].len());
    }

    #[test]
    fn a_malformed_job_is_refused_and_not_quoted() {
        let good = &jobs(&[user("a")], &[])[0];
        assert!(Job::parse(good).is_ok());
        for (from, to) in [
            ("\"+a\"", ""),
            ("+a", "a"),
            ("+a", "+a b"),
            ("\"g\"", "\"\""),
            ("\"g\"", "7"),
            ("00000", "U0000"),
            ("7", "\"secret\""),
            ("{", "secret"),
            ("logged", "secret"),
        ] {
            let error = Job::parse(&good.replacen(from, to, 1)).unwrap_err().chain();
            assert_eq!(error, "reading a job failed: it is malformed", "{from} {to}");
        }
    }
}
