//! The rules by which no message is lost. Pure: nothing here reads a clock, a table or a network.
//!
//! [`timing`] has the times that everything rests on. A connection covers the time that it is open ([`coverage`]). What no
//! connection took is found by its time ([`gaps`]), or is recorded by name ([`must_be_recorded`]). Old connections are
//! forgotten when they say nothing any more ([`forget`]). A pull returns a [`page`]; what it drops is [`dropped`]. What a
//! user blocks is left out ([`block`]).

pub mod block;
pub mod coverage;
pub mod dropped;
pub mod forget;
pub mod gaps;
pub mod must_be_recorded;
pub mod page;
pub mod timing;
