//! The surroundings of the tests: a deployment, its users and the back end behind it.

pub(crate) mod answer;
pub(crate) mod back_end;
pub(crate) mod call;
pub(crate) mod clock;
pub(crate) mod conversations;
pub(crate) mod deployment;
pub(crate) mod device;
pub(crate) mod document;
pub(crate) mod engine;
pub(crate) mod example;
pub(crate) mod fill;
pub(crate) mod frame;
pub(crate) mod groups;
pub(crate) mod handshake;
pub(crate) mod page;
pub(crate) mod patience;
pub(crate) mod scene;
pub(crate) mod token;
pub(crate) mod user;

pub(crate) use answer::Answer;
pub(crate) use back_end::BackEnd;
pub(crate) use call::Call;
pub(crate) use deployment::Deployment;
pub(crate) use device::Device;
pub(crate) use document::Api;
pub(crate) use frame::Frame;
pub(crate) use handshake::Handshake;
pub(crate) use page::Page;
pub(crate) use patience::{once, within};
pub(crate) use token::Claims;
pub(crate) use user::User;
