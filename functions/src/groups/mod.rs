//! The functions for groups: `/api/group`.

use crate::function::Function;

pub mod create_group;
pub mod get_group;
pub mod leave_group;
pub mod list_groups;
pub mod mute_member;
pub mod rename_group;
pub mod unmute_member;

pub(crate) mod departures;
pub(crate) mod rules;

/// The functions of this folder.
pub(crate) static FUNCTIONS: &[&Function] = &[
    &create_group::FUNCTION,
    &rename_group::FUNCTION,
    &get_group::FUNCTION,
    &list_groups::FUNCTION,
    &leave_group::FUNCTION,
    &mute_member::FUNCTION,
    &unmute_member::FUNCTION,
];
