//! The jobs of the queue: parts of the delivery to a large group, of a notification to it, and of its dissolution.
//!
//! A delivery names the message and does not hold it: SQS refuses characters that a content may have, and a content has no
//! business in a second place. A notification is stored nowhere else, so its jobs hold it, and are good for a short time.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use shared::clock::Ms;
use shared::id::{GroupId, MessageId, UserId};
use shared::queue::{MAX_BATCH_BYTES, batches};
use shared::{Error, Result};

/// How many receivers one job has at most: a few seconds of a function if all of them are online. Each job reads META and
/// the message in the group's partition, so few jobs are better than many: see `docs/benchmarks.md`.
const RECEIVERS: usize = 2_500;

/// How many bytes their ids have at most, so that the job fits into a call.
const RECEIVERS_BYTES: usize = MAX_BATCH_BYTES - 4 * 1024;

/// The bytes of an id in a job beside itself: mark, quotes and comma.
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
}

/// A message of a group, and some of its receivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// The group.
    pub(crate) group: GroupId,
    /// The message in its log.
    pub(crate) id: MessageId,
    /// When its log write was over.
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
    /// The user it is from: members who block this user do not get it.
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
    /// The shard that is to be cleared.
    pub(crate) shard: u32,
}

/// A receiver of a job: `+id`, or `-id` if the message is withheld from them. Both are named, so that the call that queues
/// the job has the same size, and its time tells nothing.
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
    fn encode(&self) -> String {
        let json = serde_json::to_string(self).expect("a job is made of strings and numbers, none of which can fail");
        // JSON may have these two characters as they are, and SQS refuses them. They can only be within strings.
        json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
    }

    /// Reads a job. The error does not say what is wrong with it: that could quote it.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: only this module writes jobs.
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
    /// The first and the last receiver.
    pub(crate) fn span(&self) -> (&UserId, &UserId) {
        let users = || self.receivers.iter().map(|receiver| &receiver.user);
        users().min().zip(users().max()).expect("a job with no receivers is not read")
    }

    /// The receivers from whom the message is not withheld.
    pub(crate) fn delivered(&self) -> BTreeSet<&UserId> {
        self.receivers.iter().filter(|receiver| !receiver.is_withheld).map(|receiver| &receiver.user).collect()
    }
}

/// The jobs of the delivery of a message. `shards` are its receivers by shard, sorted by id; from `blockers` it is withheld.
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

/// The jobs of a notification to a group, one for each shard of its roster. Nothing if it is too long for a job.
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

/// The jobs of the dissolution of a manager's group, one for each shard of its roster.
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
    fn a_job_is_read_as_it_was_written() {
        let job = delivery(&jobs(&["a", "b", "c"].map(user), &["a", "x"].map(user))[0]);
        let [a, b, c] = ["a", "b", "c"].map(user);
        assert_eq!((job.span(), job.delivered()), ((&a, &c), [&b, &c].into()));
        assert_eq!(
            (job.group, job.id, job.logged, job.shard),
            (GroupId::parse("g").unwrap(), MessageId::first_at(5), 7, 0)
        );
    }

    #[test]
    fn the_receivers_of_a_job_are_of_one_shard() {
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
    fn a_dissolution_is_a_job_for_each_shard() {
        let (group, manager) = (GroupId::parse("g").unwrap(), user("m"));
        let jobs = dissolution(&group, &manager, 2);
        for (shard, job) in (0..3).zip(&jobs) {
            let wanted = Dissolution { group: group.clone(), manager: manager.clone(), last_shard: 2, shard };
            assert_eq!(Job::parse(job).unwrap(), Job::Dissolution(wanted));
        }
        assert_eq!(jobs.len(), 3);
    }

    #[test]
    fn a_notification_is_a_job_for_each_shard() {
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
    fn a_job_is_of_the_same_size_whoever_blocks() {
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
    fn what_is_no_job_is_refused_without_a_word_of_it() {
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
