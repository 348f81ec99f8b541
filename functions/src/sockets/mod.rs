//! The functions of the WebSocket API.

pub mod authorize;
pub mod connect;
pub mod disconnect;
pub mod message;
pub mod typing;
