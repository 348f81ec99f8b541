//! The functions for invitations: `/api/request`.

use crate::function::Function;

pub mod accept_invite;
pub mod decline_invite;
pub mod invite;
pub mod list_invites;

mod rules;

/// The functions of this folder.
pub(crate) static FUNCTIONS: &[&Function] =
    &[&invite::FUNCTION, &list_invites::FUNCTION, &accept_invite::FUNCTION, &decline_invite::FUNCTION];
