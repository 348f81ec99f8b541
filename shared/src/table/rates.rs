//! What users have sent in a minute, counted approximately (see [`crate::rules::rate`]), and bans.
//!
//! `USER#u` / `RATE#minute` holds `count`. The state holds `limitedUntil` and `bannedUntil`, since every send reads it.
//! `USER#u` / `BAN` {until} is for calls that do not read the state, which may be large.

use aws_sdk_dynamodb::types::ReturnValue;

use super::calls::Table;
use super::expression::Expression;
use super::item::{self, Item};
use super::keys;
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::id::UserId;

/// How long a count is kept.
const LIFETIME_MS: Ms = 5 * 60_000;

impl Table {
    /// Adds to the count of what a user has sent in a minute. Returns the sum.
    pub async fn count_sent(&self, user: &UserId, minute: u64, weight: u32) -> Result<u64> {
        let mut change = Expression::default();
        let [count, expires_at] = ["count", "expiresAt"].map(|name| change.path([name]));
        change.add(&count, item::number(weight));
        change.set(&expires_at, Self::expires_at(self.clock.now_ms(), LIFETIME_MS));
        let update = change.request(self.update(&keys::rate(user, minute))).return_values(ReturnValue::AllNew);
        let answer = Box::pin(update.send()).await.map_err(|error| Error::unavailable("UpdateItem", error))?;
        item::read_number(&answer.attributes.unwrap_or_default(), "count")
    }

    /// Records until when a user has sent too much.
    pub async fn limit_until(&self, user: &UserId, until: Ms) -> Result<()> {
        let mut change = Expression::default();
        let path = change.path(["limitedUntil"]);
        change.set(&path, item::number(until));
        change.set_user(user);
        let value = change.value(item::number(until));
        change.require(format!("attribute_not_exists({path}) OR {path} < {value}"));
        self.change(&keys::state(user), change).await.map(|_| ())
    }

    /// Bans a user until that time, or ends a ban. A ban writes BAN first, then STATE. Its end removes them in the other order. A
    /// transaction would make other writes of STATE fail.
    pub async fn ban(&self, user: &UserId, until: Option<Ms>) -> Result<()> {
        let mut change = Expression::default();
        let path = change.path(["bannedUntil"]);
        change.set_user(user);
        let key = keys::ban(user);
        match until {
            Some(time) => {
                change.set(&path, item::number(time));
                let mut item = key.attributes();
                item.insert("until".to_owned(), item::number(time));
                item.insert("expiresAt".to_owned(), Self::expires_at(time, 0));
                Box::pin(self.put(item).send()).await.map_err(|error| Error::unavailable("PutItem", error))?;
                self.change(&keys::state(user), change).await?;
            }
            None => {
                change.remove(&path);
                self.change(&keys::state(user), change).await?;
                Box::pin(self.delete(&key).send()).await.map_err(|error| Error::unavailable("DeleteItem", error))?;
            }
        }
        Ok(())
    }

    /// Returns the end of the ban of a user, if they are banned.
    pub async fn ban_of(&self, user: &UserId) -> Result<Option<Ms>> {
        let item = self.get(&keys::ban(user)).await?;
        self.read_ban(item)
    }

    /// Returns the same by an eventually consistent read, at half the cost.
    pub async fn recent_ban_of(&self, user: &UserId) -> Result<Option<Ms>> {
        let request = self.client.get_item().table_name(&self.name).set_key(Some(keys::ban(user).attributes()));
        let answer = Box::pin(request.send()).await.map_err(|error| Error::unavailable("GetItem", error))?;
        self.read_ban(answer.item)
    }

    fn read_ban(&self, item: Option<Item>) -> Result<Option<Ms>> {
        let Some(item) = item else { return Ok(None) };
        let until = item::read_number(&item, "until")?;
        Ok((until > self.clock.now_ms()).then_some(until))
    }
}
