//! What the functions have in common.
//!
//! Pure rules, with their unit and property tests beside them: [`id`], [`frame`], [`json`], [`content`], [`name`],
//! [`coverage`], [`block`], [`page`]. Parts that reach outside: [`table`] (DynamoDB), [`push`] (API Gateway's management API), [`token`] (key
//! sets), [`queue`] (SQS), [`clock`]. [`metrics`] counts, [`config`] is the one place that reads the environment,
//! [`error`] the one that knows what a client may be told.

pub mod aws;
pub mod block;
pub mod clock;
pub mod config;
pub mod content;
pub mod coverage;
pub mod error;
pub mod frame;
pub mod id;
pub mod json;
pub mod metrics;
pub mod name;
pub mod page;
pub mod push;
pub mod queue;
pub mod table;
pub mod token;

pub use error::{Error, Result};
