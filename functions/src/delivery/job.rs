//! What is left to the queue: parts of the fan-out to a large group, of a notification to it, and of its dissolution.
//!
//! A part of the fan-out names the message and does not hold it: a content has no business in a second place. A
//! notification has no first one, so its jobs hold it, and are good for a short time.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use shared::clock::Ms;
use shared::id::{GroupId, MessageId, UserId};
use shared::queue::{MAX_BATCH_BYTES, batches};
use shared::{Error, Result};

/// How many receivers one job has at most: some seconds of a function if all of them are online. Each job reads META and the
/// message in the group's partition, so few are better than many: see `docs/benchmarks.md`.
const RECEIVERS: usize = 2_500;

/// How many bytes their ids have at most, so that the job fits into a call.
const RECEIVERS_BYTES: usize = MAX_BATCH_BYTES - 4 * 1024;

/// What an id takes in a job beside itself: the mark, quotes and comma.
const BESIDE_AN_ID: usize = 4;

/// In front of a receiver's id, where the message is delivered to him.
const DELIVERED: char = '+';

/// In front of the id of one from whom it is withheld. He is named all the same, so that the call that queues the job
/// is of the same size, and its time does not tell.
const WITHHELD: char = '-';

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    /// Deliver a message.
    Delivery(Delivery),
    /// Push a notification.
    Notification(Notification),
    /// Delete what a group leaves behind.
    Dissolution(Dissolution),
}

/// A shard of a group that its manager dissolves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dissolution {
    /// The group.
    pub(crate) group: GroupId,
    /// Its manager, who has asked for it.
    pub(crate) manager: UserId,
    /// The last shard of its roster, as he found it.
    pub(crate) shards: u32,
    /// The shard that is to be cleared.
    pub(crate) shard: u32,
}

/// A notification to the members in a shard of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notification {
    /// The group.
    pub(crate) group: GroupId,
    /// The shard of its roster.
    pub(crate) shard: u32,
    /// Who it is from: those who block him do not get it.
    pub(crate) from: Option<UserId>,
    /// When it was posted.
    pub(crate) posted: Ms,
    /// What is pushed.
    pub(crate) frame: String,
}

/// A message of a group, and some of its receivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// The group.
    pub(crate) group: GroupId,
    /// The message in its log.
    pub(crate) id: MessageId,
    /// When it stood there.
    pub(crate) logged: Ms,
    /// The shard of the roster that the receivers are in.
    pub(crate) shard: u32,
    /// The first and the last id of the receivers, those from whom it is withheld among them.
    pub(crate) span: (UserId, UserId),
    /// Those to whom it is delivered.
    pub(crate) receivers: BTreeSet<UserId>,
}

/// The JSON of a job.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Body {
    Delivery {
        group: String,
        id: String,
        logged: Ms,
        #[serde(default)]
        shard: u32,
        receivers: Vec<String>,
    },
    Notification {
        notified: String,
        shard: u32,
        from: Option<String>,
        posted: Ms,
        frame: String,
    },
    Dissolution {
        dissolved: String,
        manager: String,
        shards: u32,
        shard: u32,
    },
}

impl Body {
    fn encode(&self) -> String {
        let json = serde_json::to_string(self).expect("a job is made of strings and numbers, none of which can fail");
        // The two characters that JSON may have as they are and SQS refuses. They can only be within strings.
        json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
    }
}

/// Cut the dissolution of a manager's group into jobs, one for each shard up to the last.
pub(crate) fn dissolution(group: &GroupId, manager: &UserId, shards: u32) -> Vec<String> {
    let (dissolved, manager) = (group.to_string(), manager.to_string());
    let body =
        |shard| Body::Dissolution { dissolved: dissolved.clone(), manager: manager.clone(), shards, shard }.encode();
    (0..=shards).map(body).collect()
}

/// Cut a notification to a group, whose roster has shards up to the last, into jobs, one for each shard. Nothing if it is
/// too long for that.
pub(crate) fn notification(
    group: &GroupId,
    shards: u32,
    from: Option<&UserId>,
    posted: Ms,
    frame: &str,
) -> Option<Vec<String>> {
    let body = |shard| Body::Notification {
        notified: group.to_string(),
        shard,
        from: from.map(ToString::to_string),
        posted,
        frame: frame.to_owned(),
    };
    let jobs: Vec<String> = (0..=shards).map(|shard| body(shard).encode()).collect();
    jobs.iter().all(|job| job.len() <= MAX_BATCH_BYTES).then_some(jobs)
}

/// Cut the delivery of a message to its receivers, which are those of each shard, sorted by id, into jobs; from `blockers`
/// among them it is withheld.
pub(crate) fn cut(
    group: &GroupId,
    id: MessageId,
    logged: Ms,
    shards: &[Vec<UserId>],
    blockers: &BTreeSet<UserId>,
) -> Vec<String> {
    let fate = |user: &UserId| if blockers.contains(user) { WITHHELD } else { DELIVERED };
    let body = |shard: u32, part: &[UserId]| Body::Delivery {
        group: group.to_string(),
        id: id.to_string(),
        logged,
        shard,
        receivers: part.iter().map(|user| format!("{}{user}", fate(user))).collect(),
    };
    let length = |user: &UserId| user.as_str().len() + BESIDE_AN_ID;
    let cut = |users| batches(users, RECEIVERS, RECEIVERS_BYTES, length);
    let parts = (0..).zip(shards).flat_map(|(shard, users)| cut(users).into_iter().map(move |part| (shard, part)));
    parts.map(|(shard, part)| body(shard, part).encode()).collect()
}

impl Job {
    /// Read a job. Why it is none is not said: that could quote it.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: a job that cannot be read is a failure of ours.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Self::read(text).ok_or_else(|| Error::unavailable("reading a job", "it is malformed"))
    }

    fn read(text: &str) -> Option<Self> {
        Some(match serde_json::from_str(text).ok()? {
            Body::Delivery { group, id, logged, shard, receivers } => {
                Self::Delivery(Delivery::read(&group, &id, logged, shard, &receivers)?)
            }
            Body::Notification { notified, shard, from, posted, frame } => Self::Notification(Notification {
                group: GroupId::parse(&notified).ok()?,
                shard,
                from: from.map(|id| UserId::parse(&id)).transpose().ok()?,
                posted,
                frame,
            }),
            Body::Dissolution { dissolved, manager, shards, shard } => Self::Dissolution(Dissolution {
                group: GroupId::parse(&dissolved).ok()?,
                manager: UserId::parse(&manager).ok()?,
                shards,
                shard,
            }),
        })
    }
}

impl Delivery {
    fn read(group: &str, id: &str, logged: Ms, shard: u32, receivers: &[String]) -> Option<Self> {
        let receivers = receivers.iter().map(|receiver| {
            let is_delivered = receiver.starts_with(DELIVERED);
            let id = receiver.strip_prefix([DELIVERED, WITHHELD])?;
            Some((UserId::parse(id).ok()?, is_delivered))
        });
        let receivers: Vec<(UserId, bool)> = receivers.collect::<Option<_>>()?;
        let (first, last) = (receivers.iter().min()?, receivers.iter().max()?);
        Some(Self {
            group: GroupId::parse(group).ok()?,
            id: MessageId::parse(id).ok()?,
            logged,
            shard,
            span: (first.0.clone(), last.0.clone()),
            receivers: receivers.into_iter().filter(|(_, is_delivered)| *is_delivered).map(|(user, _)| user).collect(),
        })
    }
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
        cut(&GroupId::parse("g").unwrap(), MessageId::first_at(5), 7, &[receivers.to_vec()], &blockers)
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
            assert_eq!(jobs.iter().flat_map(|job| job.receivers.clone()).collect::<Vec<_>>(), users(count));
            assert!(jobs.windows(2).all(|pair| pair[0].span.1 < pair[1].span.0));
        }
    }

    #[test]
    fn a_job_is_read_as_it_was_written() {
        let job = &jobs(&["a", "b", "c"].map(user), &["a", "x"].map(user))[0];
        assert_eq!(
            delivery(job),
            Delivery {
                group: GroupId::parse("g").unwrap(),
                id: MessageId::first_at(5),
                logged: 7,
                shard: 0,
                span: (user("a"), user("c")),
                receivers: ["b", "c"].map(user).into(),
            }
        );
    }

    #[test]
    fn the_receivers_of_a_job_are_of_one_shard() {
        let (group, id) = (GroupId::parse("g").unwrap(), MessageId::first_at(5));
        let shards = [vec![user("b")], Vec::new(), vec![user("a"), user("c")]];
        let jobs: Vec<Delivery> =
            cut(&group, id, 7, &shards, &BTreeSet::new()).iter().map(|job| delivery(job)).collect();
        let of = |job: &Delivery| (job.shard, job.receivers.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            jobs.iter().map(of).collect::<Vec<_>>(),
            [(0, vec!["b".to_owned()]), (2, vec!["a".to_owned(), "c".to_owned()])]
        );
    }

    #[test]
    fn a_job_that_was_queued_before_there_were_shards_is_of_the_first() {
        let job = jobs(&[user("a")], &[])[0].replace("\"shard\":0,", "");
        assert!(!job.contains("shard"));
        assert_eq!(delivery(&job).shard, 0);
    }

    #[test]
    fn a_dissolution_is_a_job_for_each_shard() {
        let (group, manager) = (GroupId::parse("g").unwrap(), user("m"));
        let jobs = dissolution(&group, &manager, 2);
        for (shard, job) in (0..3).zip(&jobs) {
            let wanted = Dissolution { group: group.clone(), manager: manager.clone(), shards: 2, shard };
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
