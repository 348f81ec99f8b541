//! What the functions have in common.
//!
//! [`rules`] has the whole proof that no message is lost. [`id`], [`frame`], [`json`], [`content`] and [`name`] say what may
//! come in and go out. These are pure. What reaches outside: [`table`] (DynamoDB), [`push`] (API Gateway's management API),
//! [`queue`] (SQS), [`token`] (key sets), [`clock`]; [`aws`] builds the SDK's clients. [`metrics`] counts, [`config`] is
//! the only place that reads the environment, and [`error`] the only one that says what a client may know.

pub mod aws;
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
