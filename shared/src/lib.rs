//! The code that the functions share.
//!
//! Without I/O: [`rules`] has the whole proof that no message is lost. [`id`], [`frame`], [`json`], [`content`] and
//! [`name`] define valid input and output.
//!
//! With I/O: [`table`] (DynamoDB), [`push`] (API Gateway's management API), [`queue`] (SQS), [`bus`]
//! (EventBridge), [`token`] (key sets) and [`clock`]. [`aws`] builds the SDK's clients.
//!
//! [`metrics`] counts. Only [`config`] reads the environment. Only [`error`] decides what a client learns of an error.

pub mod aws;
pub mod bus;
pub mod clock;
pub mod config;
pub mod content;
pub mod error;
pub mod frame;
pub mod id;
pub mod json;
pub mod metrics;
pub mod name;
pub mod push;
pub mod queue;
pub mod rules;
pub mod table;
pub mod token;

pub use error::{Error, Result};
