//! The functions for groups: `/api/group`.

pub mod create_group;
pub mod get_group;
pub mod leave_group;
pub mod list_groups;
pub mod mute_member;
pub mod rename_group;
pub mod unmute_member;

pub(crate) mod departures;
pub(crate) mod rules;
