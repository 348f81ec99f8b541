//! The functions: one module per endpoint, named as its Lambda function, its binary and its tests are.
//!
//! Sockets: [`authorize`] · [`connect`] · [`disconnect`] · [`message`]. Missed messages: [`pull_messages`] ·
//! [`drop_messages`]. Groups: [`create_group`] · [`rename_group`] · [`get_group`] · [`list_groups`] · [`leave_group`].
//! Invitations: [`invite`] · [`list_invites`] · [`accept_invite`] · [`decline_invite`]. Internal: [`notification`] ·
//! [`relationship`]. From a queue: [`fanout`].
//!
//! What they stand on: [`App`], the context that each is given; [`Function`], how an event becomes a call of one;
//! `rest`, `socket`, `internal` and `records`, the kinds of call; `delivery`, how a message reaches connections and who
//! missed it; `job`, a part of that which is done later; `missed`, how it is read again.

mod access;
mod app;
mod delivery;
mod event;
mod function;
mod internal;
mod job;
mod missed;
mod records;
mod rest;
mod socket;

pub mod accept_invite;
pub mod authorize;
pub mod connect;
pub mod create_group;
pub mod decline_invite;
pub mod disconnect;
pub mod drop_messages;
pub mod fanout;
pub mod get_group;
pub mod invite;
pub mod leave_group;
pub mod list_groups;
pub mod list_invites;
pub mod message;
pub mod notification;
pub mod pull_messages;
pub mod relationship;
pub mod rename_group;

pub use app::App;
pub use function::{Failure, Function, serve};

/// Every function.
pub static ALL: &[&Function] = &[
    &authorize::FUNCTION,
    &connect::FUNCTION,
    &disconnect::FUNCTION,
    &message::FUNCTION,
    &pull_messages::FUNCTION,
    &drop_messages::FUNCTION,
    &create_group::FUNCTION,
    &rename_group::FUNCTION,
    &get_group::FUNCTION,
    &list_groups::FUNCTION,
    &leave_group::FUNCTION,
    &invite::FUNCTION,
    &list_invites::FUNCTION,
    &accept_invite::FUNCTION,
    &decline_invite::FUNCTION,
    &notification::FUNCTION,
    &relationship::FUNCTION,
    &fanout::FUNCTION,
];
