//! Ids. Each is a newtype with a private field, so a value that exists is valid.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::{Generator, Ulid};
use uuid::Uuid;

use crate::clock::Ms;

/// The longest user, group or invitation id, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// The longest request id, in bytes.
pub const MAX_REQUEST_ID_BYTES: usize = 64;

/// The reason why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty, or longer than the limit.
    #[error("must be 1 to {max} bytes long, and is {found}")]
    Length {
        /// The longest that is allowed.
        max: usize,
        /// The length found.
        found: usize,
    },
    /// A byte outside the alphabet.
    #[error("may hold only A-Z a-z 0-9 . _ : @ -")]
    Alphabet,
    /// `.` or `..`. A URL cannot contain them, because clients and proxies treat them as folders.
    #[error("must not be . or ..")]
    Dots,
    /// Not 26 characters of Crockford's base 32.
    #[error("is not a message id (a ULID)")]
    NotAUlid,
}

/// An opaque id: 1 to 128 bytes of `A-Z a-z 0-9 . _ : @ -`, except `.` and `..`. `Kind` separates the ids of users,
/// groups, invitations and pages.
pub struct Id<Kind> {
    text: String,
    kind: PhantomData<fn() -> Kind>,
}

/// The kind of [`UserId`].
pub enum User {}
/// The kind of [`GroupId`].
pub enum Group {}
/// The kind of [`InviteId`].
pub enum Invite {}
/// The kind of [`PageToken`].
pub enum Page {}

/// A user: the `sub` of a token.
pub type UserId = Id<User>;
/// A group.
pub type GroupId = Id<Group>;
/// An invitation, `requestId` in the REST API.
pub type InviteId = Id<Invite>;
/// The token of a page of missed messages that was shown. It is valid only for the user of the page.
pub type PageToken = Id<Page>;

impl<Kind> Id<Kind> {
    /// Parses an id.
    ///
    /// # Errors
    /// [`IdError::Length`], [`IdError::Alphabet`], [`IdError::Dots`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > MAX_ID_BYTES {
            return Err(IdError::Length { max: MAX_ID_BYTES, found: text.len() });
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b)) {
            return Err(IdError::Alphabet);
        }
        if matches!(text, "." | "..") {
            return Err(IdError::Dots);
        }
        Ok(Self::from_valid(text.to_owned()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn from_valid(text: String) -> Self {
        Self { text, kind: PhantomData }
    }
}

impl InviteId {
    /// Returns the id of the invitation of `user` to `group`. It depends only on the two, so a second invitation has
    /// the same id.
    pub fn of(group: &GroupId, user: &UserId) -> Self {
        // A version 5 UUID in a namespace of its own. No id contains '/', so two pairs never have the same name.
        const NAMESPACE: Uuid = Uuid::from_u128(0x6d5f_3c0e_8a57_4f4e_9d0b_27f1_1f0a_6c11);
        Self::from_valid(Uuid::new_v5(&NAMESPACE, format!("{group}/{user}").as_bytes()).to_string())
    }
}

impl GroupId {
    /// Returns the id of the group that a request of the back end makes. A repeat of the request has the same one.
    pub fn of_request(request: &RequestId) -> Self {
        const NAMESPACE: Uuid = Uuid::from_u128(0x2b90_7d4c_61aa_4e0d_8f35_c4a8_19e7_60d2);
        Self::from_valid(Uuid::new_v5(&NAMESPACE, request.as_str().as_bytes()).to_string())
    }
}

impl PageToken {
    /// Returns the token of a page with this content.
    pub fn of(content: &str) -> Self {
        const NAMESPACE: Uuid = Uuid::from_u128(0x81c4_2f6e_0b7d_4a51_9e3c_5d20_7a96_e8b3);
        Self::from_valid(Uuid::new_v5(&NAMESPACE, content.as_bytes()).to_string())
    }
}

impl<Kind> Clone for Id<Kind> {
    fn clone(&self) -> Self {
        Self::from_valid(self.text.clone())
    }
}
impl<Kind> PartialEq for Id<Kind> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl<Kind> Eq for Id<Kind> {}
impl<Kind> PartialOrd for Id<Kind> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<Kind> Ord for Id<Kind> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}
impl<Kind> std::hash::Hash for Id<Kind> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
impl<Kind> fmt::Display for Id<Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<Kind> fmt::Debug for Id<Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<Kind> Serialize for Id<Kind> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
impl<'de, Kind> Deserialize<'de> for Id<Kind> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}
impl<Kind> FromStr for Id<Kind> {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

/// The id of a connection. It is opaque: API Gateway makes it, and it may contain `=` and `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(String);

impl ConnectionId {
    /// Creates the id from the gateway's text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A client's id for a send, which the acknowledgement repeats: 1 to 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestId(String);

impl RequestId {
    /// Parses a request id.
    ///
    /// # Errors
    /// [`IdError::Length`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > MAX_REQUEST_ID_BYTES {
            return Err(IdError::Length { max: MAX_REQUEST_ID_BYTES, found: text.len() });
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id of a message: a ULID, made just before the message is written to its log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Ulid);

impl MessageId {
    /// Parses a message id.
    ///
    /// # Errors
    /// [`IdError::NotAUlid`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        // The decoder also accepts other spellings of an id, but a key must have only one.
        let id = Ulid::from_string(text).map(Self).map_err(|_| IdError::NotAUlid)?;
        if id.to_string() == text { Ok(id) } else { Err(IdError::NotAUlid) }
    }

    /// Returns the least id of a millisecond. No id with this time or a later one is below it.
    pub fn first_at(time_ms: Ms) -> Self {
        Self(Ulid::from_parts(time_ms.min(MAX_ULID_MS), 0))
    }

    /// Returns the greatest id of a millisecond.
    pub fn last_at(time_ms: Ms) -> Self {
        Self(Ulid::from_parts(time_ms.min(MAX_ULID_MS), u128::MAX))
    }

    /// Returns the id before this one.
    #[must_use]
    pub fn before(self) -> Self {
        Self(Ulid(self.0.0.saturating_sub(1)))
    }

    /// Returns the id after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(Ulid(self.0.0.saturating_add(1)))
    }

    /// Returns the id of the entry that recalls this message at that time. A repeat of the recall has the same entry.
    #[must_use]
    pub fn of_recall(self, at: Ms) -> Self {
        Self(Ulid::from_parts(at.min(MAX_ULID_MS), self.0.random()))
    }

    /// Returns the time of the id, which all rules of delivery use.
    pub fn time_ms(self) -> Ms {
        self.0.timestamp_ms()
    }
}

/// The latest time of a ULID, which has 48 bits.
const MAX_ULID_MS: Ms = (1 << 48) - 1;

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}
impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Makes ids and random numbers for one function instance. A seed lets a test control them.
#[derive(Debug)]
pub struct Ids(Mutex<(Generator, StdRng)>);

impl Ids {
    /// Creates a source of unpredictable ids.
    pub fn unpredictable() -> Self {
        Self::from_rng(rand::make_rng())
    }

    /// Creates a source that makes the same ids for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self::from_rng(StdRng::seed_from_u64(seed))
    }

    fn from_rng(rng: StdRng) -> Self {
        Self(Mutex::new((Generator::new(), rng)))
    }

    /// Makes the id of a message. It is greater than all ids that this source has made before.
    pub fn message(&self, now_ms: Ms) -> MessageId {
        let mut guard = self.lock();
        let (generator, rng) = &mut *guard;
        let now = UNIX_EPOCH + Duration::from_millis(now_ms);
        MessageId(
            generator
                .generate_from_datetime_with_source(now, rng)
                .unwrap_or_else(|overflow| overflow.commit_overflow_increment()),
        )
    }

    /// Makes the id of a group: a random UUID.
    pub fn group(&self) -> GroupId {
        let mut bytes = [0; 16];
        self.lock().1.fill_bytes(&mut bytes);
        Id::from_valid(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
    }

    /// Returns a random number below `bound`, for jitter.
    pub fn below(&self, bound: u64) -> u64 {
        self.lock().1.next_u64() % bound.max(1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Generator, StdRng)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_1_to_128_bytes_of_its_alphabet() {
        assert!(UserId::parse("Az09._:@-").is_ok());
        assert!(UserId::parse(&"a".repeat(128)).is_ok());
        assert_eq!(UserId::parse(""), Err(IdError::Length { max: 128, found: 0 }));
        assert_eq!(UserId::parse(&"a".repeat(129)), Err(IdError::Length { max: 128, found: 129 }));
        for foreign in ["a b", "a/b", "a#b", "ä", "a\n", "a%2f"] {
            assert_eq!(UserId::parse(foreign), Err(IdError::Alphabet), "{foreign:?}");
        }
        for dots in [".", ".."] {
            assert_eq!(UserId::parse(dots), Err(IdError::Dots), "{dots:?}");
        }
        assert!(UserId::parse("...").is_ok() && UserId::parse(".a").is_ok());
    }

    #[test]
    fn a_second_invitation_has_the_same_id() {
        let (group, user) = (GroupId::parse("g").unwrap(), UserId::parse("u").unwrap());
        assert_eq!(InviteId::of(&group, &user), InviteId::of(&group, &user));
        assert_ne!(InviteId::of(&group, &user), InviteId::of(&group, &UserId::parse("v").unwrap()));
    }

    #[test]
    fn ids_of_one_millisecond_increase() {
        let ids = Ids::seeded(7);
        let made: Vec<_> = (0..1000).map(|_| ids.message(1_000)).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
        assert!(made.iter().all(|id| id.time_ms() == 1_000));
    }

    #[test]
    fn a_message_id_parses_to_the_same_id() {
        let id = Ids::seeded(1).message(1_764_000_000_123);
        assert_eq!(MessageId::parse(&id.to_string()), Ok(id));
        assert_eq!(id.to_string().len(), 26);
        for wrong in
            ["", "abc", "0123456789012345678901234567", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01J0000000000000000000000U"]
        {
            assert_eq!(MessageId::parse(wrong), Err(IdError::NotAUlid), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn text_order_is_time_order(a in 0..1u64 << 48, b in 0..1u64 << 48) {
            let (x, y) = (MessageId::first_at(a), MessageId::last_at(b));
            prop_assert_eq!(x.to_string().cmp(&y.to_string()), x.cmp(&y));
            prop_assert_eq!(a <= b, x <= y);
        }
    }
}
