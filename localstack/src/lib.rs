//! The whole chat module on one machine: a faithful API Gateway, an embedded DynamoDB, and the functions, in one
//! process.
//!
//! [`Stack`] starts and stops all of it. The modules:
//!
//! - `template` reads routes, authorizer, queues, policies and table from `template.yaml`.
//! - `gateway` holds the state that the listeners share, and runs functions. `turns` says when they begin.
//!   `listener` accepts connections.
//! - `socket` is the WebSocket API, `rest` the HTTP APIs, `management` the `@connections` API.
//! - `invoke` is Lambda's Invoke API, `queue` is SQS, `bus` is EventBridge. `services` chooses between the last two.
//! - `event` builds the events for the functions. `policies` checks the calls that functions make.
//! - `engine` is DynamoDB, `operations` its operations. Functions reach it through `direct`, other programs through
//!   `dynamodb`.
//! - `network` finds the address for other machines of the network, and draws it as a QR code.
//! - `page` serves the page, `documents` serves the API documents, `metrics` serves the counters.

mod answer;
mod bus;
mod connections;
mod direct;
mod documents;
mod dynamodb;
mod engine;
mod event;
mod gateway;
mod invoke;
mod listener;
mod log;
mod management;
mod metrics;
mod network;
mod operations;
mod page;
mod policies;
mod queue;
mod rest;
mod routes;
mod services;
mod socket;
mod stack;
mod template;
mod turns;

pub use network::qr_code;
pub use policies::{Policies, Refusal, run_as, running};
pub use stack::{Options, Stack, StartError};
