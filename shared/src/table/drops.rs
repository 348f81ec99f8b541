//! What a drop writes: the time up to which everything is dropped, and the tail of what is dropped after it.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};

use super::calls::Table;
use super::expression::Expression;
use super::kind::{MessageKind, MissedRef};
use super::tails::Tails;
use super::{item, keys};
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::rules::forget::Forgettable;

/// What one drop writes.
#[derive(Debug, Default)]
pub struct DropPlan {
    /// The version that the pull started from.
    pub version: u64,
    /// What this drop is known by: a write whose answer was lost is seen to be our own.
    pub mark: String,
    /// Up to when all is then dropped, of the kinds that were pulled.
    pub until: Vec<(MessageKind, Ms)>,
    /// What is then dropped beyond, of both kinds. Nothing if that stays as it is.
    pub tails: Option<Tails>,
    /// By what the item with the present tails is known.
    pub old_tail: Option<String>,
    /// What is then no longer missed by name.
    pub no_longer_missed: Vec<MissedRef>,
    /// What is then forgotten of the connections.
    pub forgotten: Forgettable,
}

impl DropPlan {
    /// Whether there is room for what it drops beyond the time up to which everything is.
    pub fn fits(&self) -> bool {
        self.tails.as_ref().is_none_or(Tails::fits)
    }
}

impl Table {
    /// Drop what a pull returned, unless another drop came in between: then nothing is dropped, and the answer is false.
    ///
    /// # Errors
    /// [`Error::Unavailable`], also where more young messages would be dropped than an item has room for: half a minute
    /// later they are not young any more.
    pub async fn drop_missed(&self, user: &UserId, plan: &DropPlan) -> Result<bool> {
        self.uncover_all(user, &plan.forgotten.uncovered).await?;
        let tail = match &plan.tails {
            // The state names it only once it is there.
            Some(tails) => self.put_tails(user, tails).await?.then(|| tails.mark.clone()),
            None => plan.old_tail.clone(),
        };
        let dropped = self.write_drop(user, plan, tail.as_deref()).await?;
        let (kept, over) = if dropped { (&tail, &plan.old_tail) } else { (&plan.old_tail, &tail) };
        if let Some(mark) = over.as_ref().filter(|mark| Some(*mark) != kept.as_ref()) {
            self.delete_tails(user, std::slice::from_ref(mark)).await.unwrap_or_else(|error| {
                tracing::warn!(error = error.chain(), "a tail that nothing names was left; a pull deletes it");
            });
        }
        Ok(dropped)
    }

    async fn write_drop(&self, user: &UserId, plan: &DropPlan, tail: Option<&str>) -> Result<bool> {
        let mut change = Expression::default();
        change.next_version(plan.version);
        change.set_user(user);
        let mark = change.path(["dropMark"]);
        change.set(&mark, item::text(&plan.mark));
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
        let Err(error) = update.send().await else { return Ok(true) };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                let mark = failed.item().and_then(|item| item.get("dropMark")?.as_s().ok());
                Ok(mark == Some(&plan.mark))
            }
            _ => Err(Error::unavailable("UpdateItem", error)),
        }
    }
}
