//! Rules of the functions for invitations.

use shared::Error;

/// The refusal of a caller who has no invitation with this id.
pub(crate) fn not_yours() -> Error {
    Error::Forbidden("no such invitation is addressed to you".to_owned())
}
