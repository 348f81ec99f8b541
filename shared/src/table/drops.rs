//! The writes of a drop: the time up to which everything is dropped, and the tails, which are dropped after that time.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};

use super::calls::Table;
use super::expression::Expression;
use super::kind::{MessageKind, MissedRef};
use super::state::read_marks;
use super::tails::Tails;
use super::{item, keys};
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::id::{ConnectionId, UserId};

/// How many drops are remembered by their marks. The SDK repeats one whose answer is lost for some seconds, in which other
/// devices of the user may drop.
const MARKS: usize = 4;

/// The content of one drop.
#[derive(Debug, Default)]
pub struct DropPlan {
    /// The version of the state that the pull read.
    pub version: u64,
    /// The mark of this drop. With it, a retry after a lost answer sees that the write was done.
    pub mark: String,
    /// The marks of the drops before it, newest first.
    pub marks_before: Vec<String>,
    /// The new time up to which everything is dropped, for each kind that was pulled.
    pub until: Vec<(MessageKind, Ms)>,
    /// The new tails of both kinds. Absent if they do not change.
    pub tails: Option<Tails>,
    /// The mark of the item with the present tails.
    pub old_tail: Option<String>,
    /// The messages that are no longer missed by name. A set, since DynamoDB refuses a name that is given twice.
    pub no_longer_missed: BTreeSet<MissedRef>,
    /// The connections that are forgotten.
    pub forgotten: Vec<ConnectionId>,
}

impl DropPlan {
    /// Returns whether one item has room for the new tails.
    pub fn fits(&self) -> bool {
        self.tails.as_ref().is_none_or(Tails::fits)
    }
}

impl Table {
    /// Drops what a pull returned, if the state still has the version that the pull read. Returns whether it was dropped.
    ///
    /// # Errors
    /// [`Error::Unavailable`], also if one item has no room for the new tails. The same drop fits half a minute later.
    pub async fn drop_missed(&self, user: &UserId, plan: &DropPlan) -> Result<bool> {
        let tail = match &plan.tails {
            // The item is written first, so the state never names tails that do not exist yet.
            Some(tails) => self.put_tails(user, tails).await?.then(|| tails.mark.clone()),
            None => plan.old_tail.clone(),
        };
        let dropped = self.write_drop(user, plan, tail.as_deref()).await?;
        let (kept, over) = if dropped { (&tail, &plan.old_tail) } else { (&plan.old_tail, &tail) };
        if let Some(mark) = over.as_ref().filter(|mark| Some(*mark) != kept.as_ref()) {
            self.delete_tails(user, std::slice::from_ref(mark)).await.unwrap_or_else(|error| {
                tracing::warn!(error = error.chain(), "unused tails could not be deleted; a later pull deletes them");
            });
        }
        Ok(dropped)
    }

    async fn write_drop(&self, user: &UserId, plan: &DropPlan, tail: Option<&str>) -> Result<bool> {
        let mut change = Expression::default();
        change.next_version(plan.version);
        change.set_user(user);
        let marks = change.path(["dropMarks"]);
        let last = [&plan.mark].into_iter().chain(&plan.marks_before).take(MARKS);
        change.set(&marks, AttributeValue::L(last.map(item::text).collect()));
        for (kind, until) in &plan.until {
            let path = change.path([kind.until()]);
            change.set(&path, item::number(until));
        }
        let path = change.path(["tail"]);
        match tail {
            Some(tail) => change.set(&path, item::text(tail)),
            None => change.remove(&path),
        }
        change.forget(&plan.forgotten);
        if !plan.no_longer_missed.is_empty() {
            let names = change.path(["missed"]);
            let dropped = plan.no_longer_missed.iter().map(MissedRef::encode).collect();
            change.delete(&names, AttributeValue::Ss(dropped));
        }
        let update = change
            .request(self.update(&keys::state(user)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = Box::pin(update.send()).await else { return Ok(true) };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                let marks = failed.item().map(read_marks).transpose()?.unwrap_or_default();
                Ok(marks.contains(&plan.mark))
            }
            _ => Err(Error::unavailable("UpdateItem", error)),
        }
    }
}

impl Expression {
    /// Raises the version of a state, on condition that it is still `version`.
    fn next_version(&mut self, version: u64) {
        let path = self.path(["version"]);
        self.set(&path, item::number(version + 1));
        let now = self.value(item::number(version));
        let never_written = if version == 0 { format!("attribute_not_exists({path}) OR ") } else { String::new() };
        self.require(format!("{never_written}{path} = {now}"));
    }
}
