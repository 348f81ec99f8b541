//! The functions for groups: `/api/group`.

pub mod create_group;
pub mod get_group;
pub mod leave_group;
pub mod list_groups;
pub mod rename_group;

pub(crate) mod rules;
