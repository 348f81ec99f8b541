//! The keys of the table. Only this file spells them, and only exports and erasures parse them, here.
//!
//! | item | pk | sk |
//! | --- | --- | --- |
//! | state of a user ([`super::state`]) | `USER#u` | `STATE` |
//! | private message, or its recall ([`super::messages`]) | `USER#receiver` | `LOG#ulid` |
//! | the same, withheld from its receiver | `USER#receiver` | `HID#ulid` |
//! | read mark of a user ([`super::marks`]) | `USER#u` | `READ#u#v`, `READ#g#g` |
//! | friend ([`super::relations`]) | `USER#u` | `FRIEND#v` |
//! | u is blocked by v | `USER#u` | `BLOCKER#v` |
//! | u blocks v, or did before | `USER#u` | `VIEW#BLOCK#v` |
//! | u is a member of g ([`super::groups`]) | `USER#u` | `VIEW#GROUP#g` |
//! | invitation to u ([`super::invites`]) | `USER#u` | `INVITE#id` |
//! | idempotency record ([`super::idempotency`]) | `USER#sender` | `SENT#requestId`, `POST#requestId` |
//! | the mark of an erased user ([`super::erasure`]) | `USER#u` | `ERASED` |
//! | a conversation for the second pass of an erasure | `USER#u` | `ERASE#u#v`, `ERASE#g#g` |
//! | what u has sent in a minute ([`super::rates`]) | `USER#u` | `RATE#minute` |
//! | the ban of u | `USER#u` | `BAN` |
//! | the mute of a former member of g ([`super::groups`]) | `USER#u` | `MUTE#g` |
//! | a page that was shown ([`super::pages`]) | `USER#u` | `PAGE#token` |
//! | dropped messages of the last half minute ([`super::tails`]) | `USER#u` | `VIEW#TAIL#mark` |
//! | decoy of a withheld write ([`super::decoy`]) | `USER#receiver` | `HID#STATE#sender`, `HID#INVITE#sender` |
//! | group message, or its recall | `GROUP#g` | `LOG#ulid` |
//! | group | `GROUP#g` | `META` |
//! | a group that is being made ([`super::making`]) | `GROUP#g` | `DRAFT` |
//! | member | `GROUP#g`, or `GROUP#g#shard` from shard 1 on | `ROSTER#u` |
//!
//! The index `conversation` has the private messages of two users, the withheld ones among them: its hash key is the attribute
//! `conversation` ([`conversation`]), its range key the attribute `id`.
//!
//! Two reads depend on the order of these keys:
//! - META sorts between a group's log and its roster. So one query of either also tells whether the group exists.
//! - `VIEW#` begins the keys of a user's groups, blocks and dropped messages of the last half minute. What the user sees of
//!   the logs depends on these three, and one query reads them all.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::kind::Author;
use crate::frame::Address;
use crate::id::{GroupId, InviteId, MessageId, PageToken, RequestId, UserId};

/// The primary key of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) pk: String,
    pub(super) sk: String,
}

impl Key {
    /// Returns whether an item has this key.
    pub(super) fn is_of(&self, item: &HashMap<String, AttributeValue>) -> bool {
        let is = |name: &str, value: &String| item.get(name).and_then(|found| found.as_s().ok()) == Some(value);
        is("pk", &self.pk) && is("sk", &self.sk)
    }

    /// Returns the key as attributes, as DynamoDB expects it.
    pub(super) fn attributes(&self) -> HashMap<String, AttributeValue> {
        let text = |value: &String| AttributeValue::S(value.clone());
        HashMap::from([("pk".to_owned(), text(&self.pk)), ("sk".to_owned(), text(&self.sk))])
    }
}

/// The sort keys of a partition between two, both included.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) pk: String,
    pub(super) from: String,
    pub(super) to: String,
}

impl Range {
    /// Returns the range from one key to another of the same partition, both included.
    pub(super) fn between(from: Key, to: Key) -> Self {
        Self { pk: from.pk, from: from.sk, to: to.sk }
    }
}

pub(super) const FRIEND: &str = "FRIEND#";
pub(super) const BLOCK: &str = "VIEW#BLOCK#";
pub(super) const BLOCKER: &str = "BLOCKER#";
pub(super) const GROUP: &str = "VIEW#GROUP#";
pub(super) const INVITE: &str = "INVITE#";
const TAIL: &str = "VIEW#TAIL#";
/// The common beginning of [`BLOCK`], [`GROUP`] and [`TAIL`].
pub(super) const VIEW: &str = "VIEW#";
pub(super) const LOG: &str = "LOG#";
const META: &str = "META";
pub(super) const READ: &str = "READ#";
pub(super) const ERASE: &str = "ERASE#";
const ROSTER: &str = "ROSTER#";

fn of_user(user: &UserId, sk: String) -> Key {
    Key { pk: format!("USER#{user}"), sk }
}

fn of_group(group: &GroupId, sk: String) -> Key {
    Key { pk: format!("GROUP#{group}"), sk }
}

pub(super) fn state(user: &UserId) -> Key {
    of_user(user, "STATE".to_owned())
}

/// Returns the key of a page that was shown.
pub(super) fn page(user: &UserId, token: &PageToken) -> Key {
    of_user(user, format!("PAGE#{token}"))
}

/// Returns the key of a decoy. It is in the partition of the real write, and each decoy replaces the last one of that kind
/// and sender.
pub(super) fn decoy(receiver: &UserId, kind: &str, sender: &UserId) -> Key {
    of_user(receiver, format!("HID#{kind}#{sender}"))
}

/// Returns the key of a message that is withheld from its receiver. It is in the receiver's partition, and no range that is
/// read for the receiver contains it.
pub(super) fn hidden(receiver: &UserId, id: MessageId) -> Key {
    of_user(receiver, format!("HID#{id}"))
}

/// The name of the index of conversations, and of the attribute that is its hash key.
pub(super) const CONVERSATION: &str = "conversation";

/// Returns the hash key of the conversation of two users, in either order. No id has a '#'.
pub(super) fn conversation(one: &UserId, two: &UserId) -> String {
    let (first, second) = if one <= two { (one, two) } else { (two, one) };
    format!("{first}#{second}")
}

/// Returns the key of a user's read mark of a conversation with another user or a group.
pub(super) fn mark(user: &UserId, with: &Address) -> Key {
    match with {
        Address::User(other) => of_user(user, format!("{READ}u#{other}")),
        Address::Group(group) => of_user(user, format!("{READ}g#{group}")),
    }
}

/// Returns the key of the dropped messages of the last half minute, under the mark that the state names.
pub(super) fn tails(user: &UserId, mark: &str) -> Key {
    of_user(user, format!("{TAIL}{mark}"))
}

pub(super) fn friend(user: &UserId, friend: &UserId) -> Key {
    of_user(user, format!("{FRIEND}{friend}"))
}

pub(super) fn block(user: &UserId, blocked: &UserId) -> Key {
    of_user(user, format!("{BLOCK}{blocked}"))
}

pub(super) fn blocker(user: &UserId, blocker: &UserId) -> Key {
    of_user(user, format!("{BLOCKER}{blocker}"))
}

pub(super) fn joined(user: &UserId, group: &GroupId) -> Key {
    of_user(user, format!("{GROUP}{group}"))
}

/// Returns the key of the mute of a user who has left a group.
pub(super) fn mute(user: &UserId, group: &GroupId) -> Key {
    of_user(user, format!("MUTE#{group}"))
}

/// Returns the key of the count of what a user has sent in a minute.
pub(super) fn rate(user: &UserId, minute: u64) -> Key {
    of_user(user, format!("RATE#{minute}"))
}

/// Returns the key of the ban of a user.
pub(super) fn ban(user: &UserId) -> Key {
    of_user(user, "BAN".to_owned())
}

/// Returns the key of the mark of an erased user.
pub(super) fn erased(user: &UserId) -> Key {
    of_user(user, "ERASED".to_owned())
}

/// Returns the key of a conversation that the second pass of an erasure reads again.
pub(super) fn erase(user: &UserId, with: &Address) -> Key {
    match with {
        Address::User(other) => of_user(user, format!("{ERASE}u#{other}")),
        Address::Group(group) => of_user(user, format!("{ERASE}g#{group}")),
    }
}

/// Returns the range of the whole partition of a user. '~' sorts after every sort key.
pub(super) fn whole_user(user: &UserId) -> Range {
    Range { pk: state(user).pk, from: " ".to_owned(), to: "~".to_owned() }
}

/// Returns the range of a user's partition behind a place.
pub(super) fn after_place(user: &UserId, place: &str) -> Range {
    // ' ' sorts before every byte of a sort key.
    Range { from: format!("{place} "), ..whole_user(user) }
}

/// Returns the place of an item in its partition.
pub(super) fn place_of(item: &HashMap<String, AttributeValue>) -> &str {
    item.get("sk").and_then(|sk| sk.as_s().ok()).map_or("", String::as_str)
}

/// Returns the kind of an item, if exports have it.
pub(super) fn exported_kind(item: &HashMap<String, AttributeValue>) -> Option<&'static str> {
    [FRIEND, BLOCK, GROUP, INVITE, READ, LOG].into_iter().find(|kind| place_of(item).starts_with(kind))
}

/// Returns the conversation of a read mark.
pub(super) fn marked(item: &HashMap<String, AttributeValue>) -> Option<Address> {
    let mark = place_of(item).strip_prefix(READ)?;
    match mark.split_once('#')? {
        ("u", user) => UserId::parse(user).ok().map(Address::User),
        ("g", group) => GroupId::parse(group).ok().map(Address::Group),
        _ => None,
    }
}

/// Returns the key of an item of an erased user, if it is deleted with the rest of the partition: it is neither a mark of the
/// erasure or the ban, nor a membership or a block, whose other sides matter.
pub(super) fn erasable(user: &UserId, item: &HashMap<String, AttributeValue>) -> Option<Key> {
    let place = place_of(item);
    let is_kept = [ERASE, GROUP, BLOCK, BLOCKER].iter().any(|kind| place.starts_with(kind))
        || [state(user), ban(user), erased(user)].iter().any(|key| key.sk == place);
    (!is_kept).then(|| of_user(user, place.to_owned()))
}

pub(super) fn invite(user: &UserId, invite: &InviteId) -> Key {
    of_user(user, format!("{INVITE}{invite}"))
}

pub(super) fn send_record(user: &UserId, author: Author, request: &RequestId) -> Key {
    let prefix = match author {
        Author::User => "SENT#",
        Author::BackEnd => "POST#",
    };
    of_user(user, format!("{prefix}{}", request.as_str()))
}

pub(super) fn meta(group: &GroupId) -> Key {
    of_group(group, META.to_owned())
}

/// Returns the key of a group that is being made. It sorts before the log, so no read of the log or the roster covers it.
pub(super) fn draft(group: &GroupId) -> Key {
    of_group(group, "DRAFT".to_owned())
}

/// Returns the key of a member in a shard of the roster. Shard 0 is the group's own partition.
pub(super) fn member(group: &GroupId, shard: u32, user: &UserId) -> Key {
    Key { pk: shard_of(group, shard), sk: format!("{ROSTER}{user}") }
}

fn shard_of(group: &GroupId, shard: u32) -> String {
    if shard == 0 { format!("GROUP#{group}") } else { format!("GROUP#{group}#{shard}") }
}

/// Returns the key of a message in that log.
pub(super) fn message(log: &Address, id: MessageId) -> Key {
    let sk = format!("{LOG}{id}");
    match log {
        Address::User(user) => of_user(user, sk),
        Address::Group(group) => of_group(group, sk),
    }
}

/// Returns the range of a user's friends with ids after `after`.
pub(super) fn friends_after(user: &UserId, after: Option<&UserId>) -> Range {
    match after {
        None => all_of_user(user, FRIEND),
        // '!' sorts before every byte of an id, so the range begins behind that friend.
        Some(after) => Range { from: format!("{FRIEND}{after}!"), ..all_of_user(user, FRIEND) },
    }
}

/// Returns the range of a user's items whose sort keys begin with `prefix`. '~' sorts after every byte of an id.
pub(super) fn all_of_user(user: &UserId, prefix: &str) -> Range {
    Range { pk: format!("USER#{user}"), from: prefix.to_owned(), to: format!("{prefix}~") }
}

/// Returns the range of the members in a shard of a roster. In shard 0 META comes first, so one read returns the members
/// and whether the group exists.
pub(super) fn roster(group: &GroupId, shard: u32) -> Range {
    Range { pk: shard_of(group, shard), from: META.to_owned(), to: format!("{ROSTER}~") }
}

/// Returns the range of the members in a shard of a roster from one user to another, both included.
pub(super) fn members(group: &GroupId, shard: u32, from: &UserId, to: &UserId) -> Range {
    Range::between(member(group, shard, from), member(group, shard, to))
}

/// Returns the range of a log from one message to another, both included.
pub(super) fn messages(log: &Address, from: MessageId, to: MessageId) -> Range {
    Range::between(message(log, from), message(log, to))
}

/// Returns the range of a group's log from a message to its end, and META behind it. So one read returns the messages and
/// whether the group exists.
pub(super) fn messages_and_meta(group: &GroupId, from: MessageId) -> Range {
    let from = message(&Address::Group(group.clone()), from);
    Range { pk: from.pk, from: from.sk, to: META.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_its_own_kind_only() {
        let (user, group) = (UserId::parse("u").unwrap(), GroupId::parse("g").unwrap());
        let holds = |range: &Range, key: &Key| range.pk == key.pk && range.from <= key.sk && key.sk <= range.to;
        let longest = UserId::parse(&"z".repeat(128)).unwrap();
        let widest = GroupId::parse(&"z".repeat(128)).unwrap();
        assert!(holds(&all_of_user(&user, VIEW), &block(&user, &longest)));
        assert!(holds(&all_of_user(&user, VIEW), &joined(&user, &widest)));
        assert!(!holds(&all_of_user(&user, VIEW), &blocker(&user, &longest)));
        assert!(!holds(&all_of_user(&user, BLOCK), &joined(&user, &widest)));
        assert!(!holds(&all_of_user(&user, GROUP), &block(&user, &longest)));
        assert!(holds(&all_of_user(&user, BLOCK), &block(&user, &longest)));
        assert!(!holds(&all_of_user(&user, BLOCK), &blocker(&user, &longest)));
        assert!(holds(&all_of_user(&user, VIEW), &tails(&user, "01")));
        assert!(!holds(&all_of_user(&user, BLOCK), &tails(&user, "01")));
        assert!(!holds(&all_of_user(&user, GROUP), &tails(&user, "01")));
        assert!(!holds(&all_of_user(&user, VIEW), &decoy(&user, "STATE", &longest)));
        let whole_log = messages(&Address::User(user.clone()), MessageId::first_at(0), MessageId::last_at(u64::MAX));
        assert!(!holds(&whole_log, &hidden(&user, MessageId::first_at(5))));
        for shard in [0, 1, 12] {
            assert!(holds(&roster(&group, shard), &member(&group, shard, &longest)));
            assert!(!holds(&roster(&group, shard), &member(&group, shard + 1, &longest)));
        }
        assert!(holds(&roster(&group, 0), &meta(&group)));
        assert!(!holds(&roster(&group, 1), &meta(&group)));
        let [b, d] = ["b", "d"].map(|id| UserId::parse(id).unwrap());
        for (id, is_held) in [("a", false), ("b", true), ("bb", true), ("d", true), ("da", false)] {
            let id = UserId::parse(id).unwrap();
            assert_eq!(holds(&members(&group, 3, &b, &d), &member(&group, 3, &id)), is_held, "{id}");
            assert!(!holds(&members(&group, 3, &b, &d), &member(&group, 0, &id)), "{id}");
        }
        let (early, late) = (MessageId::first_at(5), MessageId::last_at(6));
        let log = Address::Group(group.clone());
        assert!(!holds(&roster(&group, 0), &message(&log, MessageId::last_at(u64::MAX))));
        let behind = messages_and_meta(&group, late);
        assert!(holds(&behind, &message(&log, late)) && !holds(&behind, &message(&log, early)));
        assert!(holds(&behind, &message(&log, MessageId::last_at(u64::MAX))) && holds(&behind, &meta(&group)));
        assert!(!holds(&behind, &member(&group, 0, &UserId::parse("-").unwrap())));
        assert!(holds(
            &messages(&log, MessageId::first_at(5), MessageId::last_at(6)),
            &message(&log, MessageId::last_at(6))
        ));
    }
}
