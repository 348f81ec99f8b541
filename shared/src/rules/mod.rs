//! The rules by which no message is lost. They are pure: nothing here reads a clock, a table or a network.
//!
//! - [`timing`]: the times on which the proof depends.
//! - [`coverage`]: a connection covers the time during which it is open.
//! - [`gaps`]: a pull finds a message by its time if no connection took that time.
//! - [`must_be_recorded`]: any other message that was not taken is recorded by name.
//! - [`forget`]: old connections are forgotten once no pull needs them.
//! - [`page`]: a pull returns a page of missed messages.
//! - [`dropped`]: a drop removes the messages of pages.
//! - [`block`]: messages from blocked senders are left out.
//! - [`rate`]: a user who sends too much is stopped. No proof depends on it.

pub mod block;
pub mod coverage;
pub mod dropped;
pub mod forget;
pub mod gaps;
pub mod history;
pub mod must_be_recorded;
pub mod page;
pub mod rate;
pub mod timing;
