//! The pages that pulls without a drop have shown, so that a later `DELETE` drops exactly these.
//!
//! One item for each page, `USER#u` / `PAGE#token`, which lives for an hour.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;

use super::calls::Table;
use super::item::{self, Item};
use super::keys;
use super::kind::{Held, MAX_HELD, MessageKind, MissedRef};
use super::tails::read_held;
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::id::{MessageId, PageToken, UserId};
use crate::rules::dropped::Shown;

/// How long a token is good.
const LIFETIME_MS: Ms = 60 * 60 * 1000;

/// How many names a page holds at most: of its messages, and of messages that are no longer there.
const MAX_NAMES: usize = 1_000;

/// How many messages of the millisecond before a page are remembered. With more, the page is dropped message by message.
const MAX_BESIDE: usize = 100;

/// A page that was shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShownPage {
    /// What it shows of each kind that was asked for.
    pub kinds: Vec<(MessageKind, Shown)>,
    /// The names that it drops.
    pub names: BTreeSet<MissedRef>,
    /// The messages that it does not show because of a block that began later.
    pub held: BTreeSet<Held>,
    /// `uncovers` of the state when the page was read. If it is higher since, a message may have appeared within the page, so the
    /// page is dropped message by message.
    pub uncovers: u64,
}

impl ShownPage {
    /// The token of this page. It follows from the messages, so that a client which pulls the same page again makes no new
    /// item. What else differs then is newer, and drops the same messages.
    pub fn token(&self) -> PageToken {
        let mut text = String::new();
        for (kind, shown) in &self.kinds {
            text.push_str(kind.name());
            let after = shown.after.into_iter();
            after.chain(shown.ids.iter().copied()).for_each(|id| text.push_str(&format!("/{id}")));
        }
        self.names.iter().for_each(|name| text.push_str(&format!("/{}", name.encode())));
        PageToken::of(&text)
    }
}

impl Table {
    /// Remembers a page, and returns its token. What does not fit is not dropped by it.
    pub async fn remember_page(&self, user: &UserId, page: &ShownPage) -> Result<PageToken> {
        let token = page.token();
        let mut item = keys::page(user, &token).attributes();
        item.insert("uncovers".to_owned(), item::number(page.uncovers));
        item.insert("expiresAt".to_owned(), Self::expires_at(self.clock.now_ms(), LIFETIME_MS));
        let names = page.names.iter().take(MAX_NAMES).map(MissedRef::encode).collect();
        insert_set(&mut item, "names".to_owned(), names);
        let held = page.held.iter().take(MAX_HELD).map(Held::encode).collect();
        insert_set(&mut item, "held".to_owned(), held);
        for (kind, shown) in &page.kinds {
            item.insert(attribute(*kind, "Floor"), item::number(shown.floor));
            insert_set(&mut item, attribute(*kind, "Ids"), texts(&shown.ids));
            if let Some(after) = shown.after {
                item.insert("after".to_owned(), item::text(after.to_string()));
            }
            match &shown.beside {
                Some(beside) if beside.len() <= MAX_BESIDE => {
                    insert_set(&mut item, attribute(*kind, "Beside"), texts(beside));
                }
                _ => {
                    item.insert(attribute(*kind, "BesideUnknown"), AttributeValue::Bool(true));
                }
            }
        }
        Box::pin(self.put(item).send()).await.map_err(|error| Error::unavailable("PutItem", error))?;
        Ok(token)
    }

    /// Returns the pages of these tokens, or nothing if one of them is not the user's or has expired.
    pub async fn shown_pages(&self, user: &UserId, tokens: &BTreeSet<PageToken>) -> Result<Option<Vec<ShownPage>>> {
        let items = self.get_all(tokens.iter().map(|token| keys::page(user, token)).collect()).await?;
        let mut pages = Vec::with_capacity(items.len());
        for item in &items {
            if self.is_live(item)? {
                pages.push(read(item)?);
            }
        }
        Ok((pages.len() == tokens.len()).then_some(pages))
    }
}

fn attribute(kind: MessageKind, name: &str) -> String {
    format!("{}{name}", kind.name())
}

fn texts(ids: &BTreeSet<MessageId>) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Inserts a set of strings, which DynamoDB does not take without members.
fn insert_set(item: &mut Item, name: String, texts: Vec<String>) {
    if !texts.is_empty() {
        item.insert(name, AttributeValue::Ss(texts));
    }
}

fn read(item: &Item) -> Result<ShownPage> {
    let after = match item.contains_key("after") {
        true => Some(item::parsed("after", MessageId::parse(item::read_text(item, "after")?))?),
        false => None,
    };
    let mut kinds = Vec::new();
    for kind in MessageKind::ALL {
        if let Some(floor) = item::read_optional_number(item, &attribute(kind, "Floor"))? {
            let is_unknown = item.contains_key(&attribute(kind, "BesideUnknown"));
            let beside = item::read_ids(item, &attribute(kind, "Beside"))?;
            let ids = item::read_ids(item, &attribute(kind, "Ids"))?;
            kinds.push((kind, Shown { after, beside: (!is_unknown).then_some(beside), floor, ids }));
        }
    }
    let names = item::read_set(item, "names")?.iter();
    let names = names.map(|name| MissedRef::decode(name).ok_or_else(|| item::corrupt("names")));
    Ok(ShownPage {
        kinds,
        names: names.collect::<Result<_>>()?,
        held: read_held(item)?,
        uncovers: item::read_number(item, "uncovers")?,
    })
}
