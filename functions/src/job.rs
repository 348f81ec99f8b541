//! A part of the fan-out to a large group, as it waits in the queue.
//!
//! It names the message and does not hold it: a content may be longer than its share of a call, may hold characters
//! that SQS refuses, and has no business in a second place.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use shared::clock::Ms;
use shared::id::{GroupId, MessageId, UserId};
use shared::{Error, Result};

/// How many receivers one job has: some 20 KB of ids, and a second or two of a function.
const RECEIVERS: usize = 500;

/// In front of a receiver's id, where the message is delivered to him.
const DELIVERED: char = '+';

/// In front of the id of one from whom it is withheld. He is named all the same, so that the call that queues the job
/// is of the same size, and its time does not tell.
const WITHHELD: char = '-';

/// A message of a group, and some of its receivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// The group.
    pub(crate) group: GroupId,
    /// The message in its log.
    pub(crate) id: MessageId,
    /// When it stood there.
    pub(crate) logged: Ms,
    /// The first and the last id of the receivers, those from whom it is withheld among them.
    pub(crate) span: (UserId, UserId),
    /// Those to whom it is delivered.
    pub(crate) receivers: BTreeSet<UserId>,
}

/// The JSON of a job.
#[derive(Debug, Serialize, Deserialize)]
struct Body {
    group: String,
    id: String,
    logged: Ms,
    receivers: Vec<String>,
}

/// Cut the delivery of a message to `receivers`, sorted by id, into jobs; from `blockers` among them it is withheld.
pub(crate) fn cut(
    group: &GroupId,
    id: MessageId,
    logged: Ms,
    receivers: &[UserId],
    blockers: &BTreeSet<UserId>,
) -> Vec<String> {
    let fate = |user: &UserId| if blockers.contains(user) { WITHHELD } else { DELIVERED };
    let body = |part: &[UserId]| Body {
        group: group.to_string(),
        id: id.to_string(),
        logged,
        receivers: part.iter().map(|user| format!("{}{user}", fate(user))).collect(),
    };
    let encode = |body: Body| {
        serde_json::to_string(&body).expect("a job is made of strings and numbers, none of which can fail")
    };
    receivers.chunks(RECEIVERS).map(|part| encode(body(part))).collect()
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
        let body: Body = serde_json::from_str(text).ok()?;
        let receivers = body.receivers.iter().map(|receiver| {
            let is_delivered = receiver.starts_with(DELIVERED);
            let id = receiver.strip_prefix([DELIVERED, WITHHELD])?;
            Some((UserId::parse(id).ok()?, is_delivered))
        });
        let receivers: Vec<(UserId, bool)> = receivers.collect::<Option<_>>()?;
        let (first, last) = (receivers.iter().min()?, receivers.iter().max()?);
        Some(Self {
            group: GroupId::parse(&body.group).ok()?,
            id: MessageId::parse(&body.id).ok()?,
            logged: body.logged,
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
        cut(&GroupId::parse("g").unwrap(), MessageId::first_at(5), 7, receivers, &blockers)
    }

    #[test]
    fn every_receiver_is_in_one_job() {
        for count in [0, 1, 499, 500, 501, 10_000] {
            let jobs: Vec<Job> = jobs(&users(count), &[]).iter().map(|job| Job::parse(job).unwrap()).collect();
            assert_eq!(jobs.len(), count.div_ceil(RECEIVERS));
            assert_eq!(jobs.iter().flat_map(|job| job.receivers.clone()).collect::<Vec<_>>(), users(count));
            assert!(jobs.windows(2).all(|pair| pair[0].span.1 < pair[1].span.0));
        }
    }

    #[test]
    fn a_job_is_read_as_it_was_written() {
        let job = &jobs(&["a", "b", "c"].map(user), &["a", "x"].map(user))[0];
        assert_eq!(
            Job::parse(job).unwrap(),
            Job {
                group: GroupId::parse("g").unwrap(),
                id: MessageId::first_at(5),
                logged: 7,
                span: (user("a"), user("c")),
                receivers: ["b", "c"].map(user).into(),
            }
        );
    }

    #[test]
    fn a_job_is_of_the_same_size_whoever_blocks() {
        let (all, blockers) = (users(700), users(30));
        let sizes = |jobs: Vec<String>| jobs.iter().map(String::len).collect::<Vec<_>>();
        assert_eq!(sizes(jobs(&all, &[])), sizes(jobs(&all, &blockers)));
    }

    #[test]
    fn the_largest_job_fits_into_one_call() {
        let longest: Vec<UserId> = (0..RECEIVERS).map(|n| user(&format!("{n:0128}"))).collect();
        let jobs = jobs(&longest, &[]);
        assert!(jobs.len() == 1 && jobs[0].len() < 100 * 1024, "{} bytes", jobs[0].len());
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
