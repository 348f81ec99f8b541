//! The protocol as one test suite that can run against any deployment.
//!
//! By default it starts the local stack in this process. With `CHAT_PUBLIC_URL`, `CHAT_WS_URL`, `CHAT_INTERNAL_URL` and
//! `JWT_SECRET` set, it runs against the deployment at those addresses. `CHAT_LAMBDA_URL` (default: the internal
//! address) and `CHAT_FUNCTION_PREFIX` say where functions are invoked directly. `CHAT_ORIGIN` is an origin from which
//! browsers may call. With `DYNAMODB_URL`, the local stack uses the engine there (`tests/engine.py`). Some tests bring their own deployment and are skipped then: those in `stack`, `binary`, `books`,
//! `rfc6455`, `faults`, `simulation`, `parity`, `player`, `cost`, `attacks`, `instructions`, `limits`, `fanout`, `jobs`, `fuzz`,
//! `keys`, `gate`, `metrics`, `places`, `policies`, `ports`, `skew`, `roster`, `standing`, `storage`, `notices` and `pressure`, and some in
//! `forgery`, `smuggling`, `enumeration` and `paging`.
//!
//! Each module is a section of the protocol, and each test is a sentence of it. A test creates its own users, so tests
//! run in parallel and in any order. No test waits for an absence. To show that nothing comes, a test sends something
//! else later and asserts that this comes first.

mod fragile;
mod inside;
mod world;

mod back_end;
mod bans;
mod bus;
mod erasure;
mod identity;
mod making;
mod notices;
mod notification;
mod original;
mod rate;
mod relationship;

mod fanout;
mod groupchat;
mod private;
mod socket;

mod missed;
mod paging;
mod places;

mod conversations;
mod held;
mod history;
mod recall;
mod version;

mod groups;
mod invitations;
mod moderation;
mod rest;
mod roster;

mod attacks;
mod cost;
mod enumeration;
mod forgery;
mod fuzz;
mod impersonation;
mod instructions;
mod jobs;
mod limits;
mod parity;
mod player;
mod policies;
mod pressure;
mod smuggling;
mod timing;

mod binary;
mod books;
mod documents;
mod events;
mod faults;
mod gate;
mod keys;
mod metrics;
mod ports;
mod rfc6455;
mod simulation;
mod skew;
mod stack;
mod standing;
mod storage;
