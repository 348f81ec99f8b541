//! The definition of a function: its name, its trigger, its needs and its handler.

use futures::future::BoxFuture;
use shared::config::Config;

use crate::App;
use crate::app::{Needs, Part};
use crate::call::http::MAX_BODY_BYTES;
use crate::call::internal::Endpoint;
use crate::call::{rest, socket, sqs};
use crate::failure::Failure;

/// One Lambda function.
#[derive(Debug)]
pub struct Function {
    /// The name that its module, binary, resource in the template and tests share.
    pub name: &'static str,
    /// The events that call it.
    pub trigger: Trigger,
    pub(crate) needs: Needs,
    pub(crate) handler: Handler,
}

/// The events that call a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Authorization of connections to the WebSocket API.
    Authorizer,
    /// Events of the WebSocket API with these route keys.
    Socket(&'static [&'static str]),
    /// Requests to the public HTTP API.
    Rest(Route),
    /// Requests to the internal HTTP API, and direct invocations.
    Internal(&'static [Route]),
    /// The jobs of a queue.
    Queue,
}

/// A route of an HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with variables in braces: `/api/group/{groupId}`.
    pub path: &'static str,
}

/// A service that some functions use, besides the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The keys that verify tokens.
    Tokens,
    /// The management API of the WebSocket gateway.
    Connections,
    /// The queue of the fan-out.
    Queue,
    /// The bus of events.
    Bus,
}

/// The code of a function, by the kind of event that it handles.
#[derive(Debug)]
pub(crate) enum Handler {
    Authorizer(for<'a> fn(&'a App, &'a str) -> BoxFuture<'a, Result<String, Failure>>),
    Socket(socket::Handler),
    Rest(rest::Endpoint),
    Internal(Endpoint),
    Queue(sqs::Handler),
}

impl Function {
    /// Defines the authorizer of the WebSocket API.
    pub(crate) const fn authorizer(
        name: &'static str,
        handler: for<'a> fn(&'a App, &'a str) -> BoxFuture<'a, Result<String, Failure>>,
    ) -> Self {
        Self { name, trigger: Trigger::Authorizer, needs: Needs::TABLE, handler: Handler::Authorizer(handler) }
            .verifying()
    }

    /// Defines a function for events of the WebSocket API with these route keys.
    pub(crate) const fn socket(
        name: &'static str,
        route_keys: &'static [&'static str],
        handler: socket::Handler,
    ) -> Self {
        Self { name, trigger: Trigger::Socket(route_keys), needs: Needs::TABLE, handler: Handler::Socket(handler) }
    }

    /// Defines a function for one route of the public HTTP API. It reads these query parameters and the token.
    pub(crate) const fn rest(
        name: &'static str,
        method: &'static str,
        path: &'static str,
        parameters: &'static [&'static str],
        handler: rest::Handler,
    ) -> Self {
        let endpoint = rest::Endpoint { method, parameters, max_body_bytes: MAX_BODY_BYTES, is_gated: false, handler };
        let trigger = Trigger::Rest(Route { method, path });
        Self { name, trigger, needs: Needs::TABLE, handler: Handler::Rest(endpoint) }.verifying()
    }

    /// The same function, which also verifies tokens.
    const fn verifying(mut self) -> Self {
        self.needs.verifier = Some(Part::VERIFIER);
        self
    }

    /// The same function, which also calls the management API of the WebSocket gateway.
    pub(crate) const fn pushing(mut self) -> Self {
        self.needs.pusher = Some(Part::PUSHER);
        self
    }

    /// The same function, which also sends jobs to the queue.
    pub(crate) const fn queueing(mut self) -> Self {
        self.needs.queue = Some(Part::QUEUE);
        self
    }

    /// The same function, which also puts events on the bus.
    pub(crate) const fn announcing(mut self) -> Self {
        self.needs.bus = Some(Part::BUS);
        self
    }

    /// The same function, which refuses a banned user by the state that it reads anyway.
    pub(crate) const fn gated(mut self) -> Self {
        if let Handler::Rest(endpoint) = &mut self.handler {
            endpoint.is_gated = true;
        }
        self
    }

    /// The same function, which takes bodies of so many bytes.
    pub(crate) const fn with_body_of(mut self, max_body_bytes: usize) -> Self {
        if let Handler::Rest(endpoint) = &mut self.handler {
            endpoint.max_body_bytes = max_body_bytes;
        }
        self
    }

    /// Defines a function for routes of the internal HTTP API, and for direct invocations.
    pub(crate) const fn internal(name: &'static str, routes: &'static [Route], endpoint: Endpoint) -> Self {
        Self { name, trigger: Trigger::Internal(routes), needs: Needs::TABLE, handler: Handler::Internal(endpoint) }
    }

    /// Defines a function for the jobs of a queue.
    pub(crate) const fn queue(name: &'static str, handler: sqs::Handler) -> Self {
        Self { name, trigger: Trigger::Queue, needs: Needs::TABLE, handler: Handler::Queue(handler) }
    }

    /// Returns the function's routes of an HTTP API.
    pub fn routes(&self) -> &[Route] {
        match &self.trigger {
            Trigger::Rest(route) => std::slice::from_ref(route),
            Trigger::Internal(routes) => routes,
            Trigger::Authorizer | Trigger::Socket(_) | Trigger::Queue => &[],
        }
    }

    /// Returns the query parameters that the function reads, without the token.
    pub fn parameters(&self) -> &'static [&'static str] {
        match &self.handler {
            Handler::Rest(endpoint) => endpoint.parameters,
            Handler::Internal(endpoint) => endpoint.parameters,
            Handler::Authorizer(_) | Handler::Socket(_) | Handler::Queue(_) => &[],
        }
    }

    /// Returns the largest body or payload that the function takes from a caller, in bytes.
    pub fn max_body_bytes(&self) -> usize {
        match &self.handler {
            Handler::Rest(endpoint) => endpoint.max_body_bytes,
            Handler::Internal(endpoint) => endpoint.max_body_bytes,
            Handler::Authorizer(_) | Handler::Socket(_) | Handler::Queue(_) => usize::MAX,
        }
    }

    /// Returns whether the function uses a service.
    pub fn uses(&self, service: Service) -> bool {
        match service {
            Service::Tokens => self.needs.verifier.is_some(),
            Service::Connections => self.needs.pusher.is_some(),
            Service::Queue => self.needs.queue.is_some(),
            Service::Bus => self.needs.bus.is_some(),
        }
    }

    /// Returns what the configuration lacks for this function.
    pub(crate) fn lacks(&self, config: &Config) -> Option<&'static str> {
        if self.needs.verifier.is_some() && config.tokens.is_none() {
            return Some("JWT_SECRET_ARN, JWT_SECRET or JWKS_URL must be set");
        }
        (self.needs.pusher.is_some() && config.management_endpoint.is_none())
            .then_some("MANAGEMENT_ENDPOINT is not set")
    }
}
