//! What pulls without a drop have shown, so that a later `DELETE` drops that and no more.
//!
//! A message that was on its way to the log while its neighbours were shown must not be dropped with them: the client
//! never saw it. One item for each page, `USER#u` / `OFFERED#<type>#<id of its last message>`, which holds what was
//! shown up to there, the pages before it included. Where two places are shown pages that end alike, it holds what
//! both were shown, since nobody can say which of them then drops it.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{self, Item};
use super::{Kind, Table, keys};
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::id::{MessageId, UserId};

/// How long it is remembered.
const LIFETIME_MS: Ms = 24 * 60 * 60 * 1000;

/// How many ids are remembered of one kind, some 100 KB; older ones stay missed.
const MAX_IDS: usize = 4_000;

/// How many pages are asked that go on behind a message.
const MAX_PAGES: i32 = 16;

/// What was shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offered {
    /// Up to this time the logs were complete when they were shown.
    pub floor: Ms,
    /// What was shown of the time after it.
    pub ids: BTreeSet<MessageId>,
    /// What was missed by name, of any time.
    pub names: BTreeSet<MessageId>,
}

impl Offered {
    fn holds(&self, id: MessageId) -> bool {
        id.time_ms() <= self.floor || self.ids.contains(&id)
    }

    /// What both were shown.
    fn and(&self, other: &Self) -> Self {
        let both = self.ids.union(&other.ids).copied().filter(|id| self.holds(*id) && other.holds(*id));
        Self {
            floor: self.floor.min(other.floor),
            ids: both.collect(),
            names: self.names.intersection(&other.names).copied().collect(),
        }
    }

    /// The same with the page that it goes on from. Its `ids` begin at the floor of that one.
    fn behind(mut self, before: Self) -> Self {
        self.floor = self.floor.min(before.floor);
        self.ids.extend(before.ids);
        self.names.extend(before.names);
        for ids in [&mut self.ids, &mut self.names] {
            while ids.len() > MAX_IDS {
                ids.pop_first();
            }
        }
        self
    }

    /// The part up to a message.
    fn up_to(mut self, until: MessageId) -> Self {
        self.floor = self.floor.min(until.time_ms().saturating_sub(1));
        self.ids.retain(|id| *id <= until);
        self.names.retain(|id| *id <= until);
        self
    }

    fn read(item: &Item) -> Result<Self> {
        let ids = |name| {
            let ids = item::read_set(item, name)?.iter().map(|id| MessageId::parse(id));
            item::parsed(name, ids.collect())
        };
        Ok(Self { floor: item::read_number(item, "floor")?, ids: ids("ids")?, names: ids("names")? })
    }
}

impl Table {
    /// What was shown up to a message: by the page that ends there, or else by those that go on behind it. Nothing if
    /// there is no such page.
    pub async fn offered(&self, user: &UserId, kinds: &[Kind], until: MessageId) -> Result<Option<Offered>> {
        let (items, _) = self.query(&keys::offered_from(user, kinds, until), Some(MAX_PAGES), None).await?;
        let exact = Some(item::text(keys::offered(user, kinds, until).sk));
        let mut shown: Option<Offered> = None;
        for item in &items {
            if !self.is_live(item)? {
                continue;
            }
            let page = Offered::read(item)?;
            if item.get("sk") == exact.as_ref() {
                return Ok(Some(page));
            }
            if page.holds(until) {
                shown = Some(shown.map_or(page.clone(), |shown| shown.and(&page)));
            }
        }
        Ok(shown.map(|shown| shown.up_to(until)))
    }

    /// The page that ends with a message.
    async fn page(&self, user: &UserId, kinds: &[Kind], last: MessageId) -> Result<Option<(Offered, u64)>> {
        let Some(item) = self.get(&keys::offered(user, kinds, last)).await? else { return Ok(None) };
        if !self.is_live(&item)? {
            return Ok(None);
        }
        Ok(Some((Offered::read(&item)?, item::read_number(&item, "version")?)))
    }

    /// Remember a page that ends with `last` and goes on from `after`. `shown` says what it showed beyond a time.
    pub async fn offer(
        &self,
        user: &UserId,
        kinds: &[Kind],
        after: Option<MessageId>,
        last: MessageId,
        shown: impl Fn(Ms) -> Offered,
    ) -> Result<()> {
        let before = match after {
            Some(after) => self.page(user, kinds, after).await?,
            None => None,
        };
        let page = match before {
            Some((before, _)) => shown(before.floor).behind(before),
            None => shown(Ms::MAX),
        };
        let mut found: Option<(Offered, u64)> = None;
        for attempt in 0..super::MAX_ATTEMPTS {
            let both = found.as_ref().map_or_else(|| page.clone(), |(there, _)| there.and(&page));
            if found.as_ref().is_some_and(|(there, _)| *there == both) {
                return Ok(());
            }
            if self.put_page(user, kinds, last, &both, found.map(|(_, version)| version)).await? {
                return Ok(());
            }
            self.pause(attempt).await;
            found = self.page(user, kinds, last).await?;
        }
        Err(Error::unavailable("remembering what was shown", "too many pulls at once"))
    }

    /// Put it where there is none, or in place of that version. Whether that was done.
    async fn put_page(
        &self,
        user: &UserId,
        kinds: &[Kind],
        last: MessageId,
        page: &Offered,
        version: Option<u64>,
    ) -> Result<bool> {
        let mut item = keys::offered(user, kinds, last).attributes();
        item.insert("floor".to_owned(), item::number(page.floor));
        item.insert("version".to_owned(), item::number(version.map_or(0, |version| version + 1)));
        item.insert("expiresAt".to_owned(), Self::expires_at(self.clock.now_ms(), LIFETIME_MS));
        for (name, ids) in [("ids", &page.ids), ("names", &page.names)] {
            if !ids.is_empty() {
                item.insert(name.to_owned(), AttributeValue::Ss(ids.iter().map(ToString::to_string).collect()));
            }
        }
        let Some(version) = version else { return self.put_if_free(item).await };
        let replace = self
            .put(item)
            .condition_expression("#version = :version")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":version", item::number(version));
        Ok(self.conditionally("PutItem", || replace.clone().send()).await?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(floor: Ms, ids: &[u64], names: &[u64]) -> Offered {
        let ids_of = |times: &[u64]| times.iter().map(|time| MessageId::first_at(*time)).collect();
        Offered { floor, ids: ids_of(ids), names: ids_of(names) }
    }

    #[test]
    fn of_two_pages_that_end_alike_what_both_showed_is_kept() {
        let (one, other) = (page(100, &[110, 150, 200], &[20, 30]), page(120, &[150, 160, 200], &[30]));
        assert_eq!(one.and(&other), page(100, &[110, 150, 200], &[30]), "110 is of a time that the other was shown");
        assert_eq!(one.and(&other), other.and(&one));
        assert_eq!(one.and(&one), one);
    }

    #[test]
    fn a_page_goes_on_from_the_one_before_it() {
        let (before, behind) = (page(100, &[110, 150], &[20]), page(100, &[160, 200], &[170]));
        assert_eq!(behind.clone().behind(before), page(100, &[110, 150, 160, 200], &[20, 170]));
        assert_eq!(behind.up_to(MessageId::first_at(160)), page(100, &[160], &[]));
        assert_eq!(page(100, &[110], &[]).up_to(MessageId::first_at(90)), page(89, &[], &[]));
    }

    #[test]
    fn the_oldest_ids_are_forgotten_first() {
        let many: Vec<u64> = (0..MAX_IDS as u64).collect();
        let all = page(0, &[9_000, 9_001], &[]).behind(page(0, &many, &[]));
        assert_eq!(all.ids.len(), MAX_IDS);
        assert!(all.ids.contains(&MessageId::first_at(9_001)) && !all.ids.contains(&MessageId::first_at(1)));
    }
}
