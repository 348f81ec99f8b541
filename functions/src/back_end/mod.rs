//! The functions that the business back end calls: the internal HTTP API, and direct invocations.

pub mod erase_user;
pub mod export_user;
pub mod manage_group;
pub mod manage_user;
pub mod moderate_message;
pub mod notification;
pub mod relationship;
pub mod send_as;
