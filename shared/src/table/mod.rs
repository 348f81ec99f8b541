//! The one DynamoDB table: items, queries, transactions. This is the only module that names a key or an attribute, and
//! the file `keys` is the only one that spells keys.
//!
//! Every read is strongly consistent, since the proof that no message is lost needs that. The exceptions are histories and the
//! list of conversations (`conversations`, `marks`), which no drop depends on.

mod calls;
mod connections;
mod conversations;
mod decoy;
mod drops;
mod erasure;
mod export;
mod expression;
mod groups;
mod idempotency;
mod invites;
mod item;
mod keys;
mod kind;
mod making;
mod marks;
mod messages;
mod missed;
mod pages;
mod rates;
mod relations;
mod state;
mod tails;

pub use calls::Table;
pub use connections::{Announced, MAX_KNOWN};
pub use conversations::{GroupPage, HistoryPart, Reading, Stored};
pub use drops::DropPlan;
pub use erasure::ErasureMark;
pub use export::Exported;
pub use groups::{Accepted, Group, Membership, Meta, Roster, RosterMember, Sender};
pub use idempotency::{Digest, SendRecord};
pub use invites::Invitation;
pub use kind::{Author, Held, MAX_HELD, MessageKind, MissedRef};
pub use making::Draft;
pub use messages::{LogPage, Place, Resume, Written};
pub use missed::MissTarget;
pub use pages::ShownPage;
pub use relations::{Relationships, Standing, View};
pub use state::State;
pub use tails::Tails;
