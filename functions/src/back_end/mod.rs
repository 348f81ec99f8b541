//! The functions that the business back end calls: the internal HTTP API, and direct invocations.

use crate::function::Function;

pub mod erase_user;
pub mod export_user;
pub mod manage_group;
pub mod manage_user;
pub mod moderate_message;
pub mod notification;
pub mod relationship;
pub mod send_as;

/// The functions of this folder.
pub(crate) static FUNCTIONS: &[&Function] = &[
    &notification::FUNCTION,
    &relationship::FUNCTION,
    &send_as::FUNCTION,
    &moderate_message::FUNCTION,
    &manage_group::FUNCTION,
    &manage_user::FUNCTION,
    &erase_user::FUNCTION,
    &export_user::FUNCTION,
];
