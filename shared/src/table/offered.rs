//! What pulls without a drop have shown, so that a later `DELETE` drops that and no more.
//!
//! A message that was on its way to the log while its neighbours were shown must not be dropped with them: the client
//! never saw it. One item, `USER#u` / `OFFERED`: `floor` is a time up to which the log was complete when it was shown,
//! `ids` what was shown beyond it (and what was missed by name, and the last message of each page).

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;

use super::item;
use super::{Table, keys};
use crate::clock::Ms;
use crate::error::Result;
use crate::id::{MessageId, UserId};

/// How long it is remembered.
const LIFETIME_MS: Ms = 24 * 60 * 60 * 1000;

/// How far its floor may lie from another before a new record takes its place, and how many ids it takes.
const MAX_LAG_MS: Ms = 10 * 60 * 1000;
const MAX_IDS: usize = 5_000;

/// What was shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offered {
    /// Up to this time the logs were complete when they were shown.
    pub floor: Ms,
    /// What was shown of the time after it.
    pub ids: BTreeSet<MessageId>,
}

impl Offered {
    /// Whether another pull, to which the log is complete up to `floor`, can be added to this record.
    pub fn takes(&self, floor: Ms) -> bool {
        self.floor.abs_diff(floor) <= MAX_LAG_MS && self.ids.len() <= MAX_IDS
    }
}

impl Table {
    /// What was shown.
    pub async fn offered(&self, user: &UserId) -> Result<Option<Offered>> {
        let Some(item) = self.get(&keys::offered(user)).await? else { return Ok(None) };
        if !self.is_live(&item)? {
            return Ok(None);
        }
        let ids = item::read_set(&item, "ids")?.iter().map(|id| MessageId::parse(id));
        Ok(Some(Offered { floor: item::read_number(&item, "floor")?, ids: item::parsed("ids", ids.collect())? }))
    }

    /// Remember what a pull showed: added to what was `before`, if that is given and `takes` it, else in its place.
    /// Whether that was done; not if another pull came in between.
    pub async fn offer(&self, user: &UserId, shown: &Offered, before: Option<&Offered>, adds: bool) -> Result<bool> {
        let now = self.clock.now_ms();
        let expires_at = Self::expires_at(now, LIFETIME_MS);
        let ids = AttributeValue::Ss(shown.ids.iter().map(ToString::to_string).collect());
        if let Some(before) = before.filter(|_| adds) {
            let add = self
                .update(&keys::offered(user))
                .update_expression("SET #floor = :floor, expiresAt = :expiresAt ADD ids :ids")
                .condition_expression("#floor = :before")
                .expression_attribute_names("#floor", "floor")
                .expression_attribute_values(":before", item::number(before.floor))
                .expression_attribute_values(":floor", item::number(shown.floor))
                .expression_attribute_values(":expiresAt", expires_at)
                .expression_attribute_values(":ids", ids);
            return Ok(self.conditionally("UpdateItem", || add.clone().send()).await?.is_some());
        }
        let mut fresh = keys::offered(user).attributes();
        fresh.insert("floor".to_owned(), item::number(shown.floor));
        fresh.insert("ids".to_owned(), ids);
        fresh.insert("expiresAt".to_owned(), expires_at);
        let Some(before) = before else { return self.put_if_free(fresh).await };
        let replace = self
            .put(fresh)
            .condition_expression("#floor = :before")
            .expression_attribute_names("#floor", "floor")
            .expression_attribute_values(":before", item::number(before.floor));
        Ok(self.conditionally("PutItem", || replace.clone().send()).await?.is_some())
    }
}
