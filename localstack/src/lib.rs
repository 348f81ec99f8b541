//! The whole chat module on one machine: a faithful API Gateway, an embedded DynamoDB, and the functions, in one
//! process.
//!
//! [`Stack`] is all of it. `template` reads routes, authorizer and table from `template.yaml`; `gateway` is what the
//! three listeners share; `listener` takes connections, `socket` is the WebSocket API, `rest` the HTTP APIs,
//! `management` the `@connections` API, `invoke` Lambda's, `queue` SQS; `documents` describe them,
//! `metrics` count; `event` builds the events that the functions get, `engine` is DynamoDB, `operations` what it does,
//! `direct` the functions' way to it, `policies` what they may call, and `dynamodb` the way of other programs.

mod answer;
mod connections;
mod direct;
mod documents;
mod dynamodb;
mod engine;
mod event;
mod gateway;
mod invoke;
mod listener;
mod management;
mod metrics;
mod operations;
mod page;
mod policies;
mod queue;
mod rest;
mod routes;
mod socket;
mod stack;
mod template;

pub use policies::{Policies, Refusal, run_as, running};
pub use stack::{Options, Stack, StartError};
