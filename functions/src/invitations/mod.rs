//! The functions for invitations: `/api/request`.

pub mod accept_invite;
pub mod decline_invite;
pub mod invite;
pub mod list_invites;

mod rules;
