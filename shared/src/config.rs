//! The configuration, which is read once from the environment. An empty variable counts as unset.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use aws_credential_types::Credentials;

use crate::clock::Ms;
use crate::rules::timing::MAX_REDELIVER_MS;

/// The secret of a local stack without a `JWT_SECRET`. It is public, so it is refused everywhere else.
pub const DEVELOPMENT_SECRET: &str = "local-development-secret-that-everybody-knows";

/// The shortest secret of HS256 tokens.
pub const MIN_SECRET_BYTES: usize = 32;

/// The configuration of a function.
#[derive(Debug, Clone)]
pub struct Config {
    /// `TABLE_NAME`: the DynamoDB table.
    pub table: String,
    /// `AWS_REGION`.
    pub region: String,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    pub credentials: Credentials,
    /// The addresses at which this process answers itself, so that calls need no signature. No variable sets them.
    pub in_process: Vec<String>,
    /// `AWS_ENDPOINT_URL_DYNAMODB` or `AWS_ENDPOINT_URL`: the address of DynamoDB, if it is not at AWS.
    pub dynamodb_endpoint: Option<String>,
    /// `AWS_ENDPOINT_URL_SQS` or `AWS_ENDPOINT_URL`: the address of SQS, if it is not at AWS.
    pub sqs_endpoint: Option<String>,
    /// `AWS_ENDPOINT_URL_EVENTBRIDGE` or `AWS_ENDPOINT_URL`: the address of EventBridge, if it is not at AWS.
    pub eventbridge_endpoint: Option<String>,
    /// `AWS_ENDPOINT_URL_SECRETS_MANAGER` or `AWS_ENDPOINT_URL`: the address of Secrets Manager, if it is not at AWS.
    pub secrets_endpoint: Option<String>,
    /// `EVENT_BUS_NAME`: the bus on which the back end learns what happens. Without it, there are no events.
    pub event_bus: Option<String>,
    /// `EVENT_CONTENT`: whether events have the content of messages, `true` or `false`; default `false`.
    pub event_content: bool,
    /// `MANAGEMENT_ENDPOINT`: the address of the gateway's management API. Only functions that push have it.
    pub management_endpoint: Option<String>,
    /// The settings of tokens. Only functions that verify tokens have them.
    pub tokens: Option<TokenConfig>,
    /// `ALLOWED_ORIGINS`: the origins of web pages that may open a WebSocket, separated by commas; `*`, the default,
    /// allows all.
    pub allowed_origins: Origins,
    /// `RETENTION_DAYS`: the days after which a message expires, 1 to 365; default 30.
    pub retention: Duration,
    /// `MAX_GROUP_MEMBERS`: the most members of a group, 2 to 100,000; default 1,000.
    pub max_group_members: u32,
    /// `FANOUT_QUEUE_URL`: the queue for messages to large groups. Without it, the sending function delivers them
    /// itself.
    pub fanout_queue: Option<String>,
    /// `FANOUT_MEMBERS`: a group with more receivers is large, 1 to 10,000; default 1,000.
    pub fanout_members: usize,
    /// `ROSTER_SHARD`: a roster with more members is spread over several partitions, 1 to 10,000; default 2,000.
    pub roster_shard: u32,
    /// `MAX_PAGE_MESSAGES`: the most missed messages that one call returns, 1 to 1,000; default 1,000.
    pub max_page_messages: usize,
    /// `MAX_GROUPS`: the most groups that a user may be in, 1 to 1,000; default 500.
    pub max_groups: usize,
    /// `MAX_INVITATIONS`: the most invitations that may wait for a user, 1 to 1,000; default 200.
    pub max_invitations: usize,
    /// `MAX_CONNECTIONS`: the most connections that a user may have open, 1 to 100; default 32.
    pub max_connections: usize,
    /// `MAX_MISSED_NAMES`: the most messages that a user can have missed by name, 1 to 2,000; default 2,000. Beyond it,
    /// pulls repeat more messages.
    pub max_missed_names: usize,
    /// `REDELIVER_SECONDS`: messages of this last part of a connection are delivered again if its client did not close
    /// it, 0 to 15; default 15.
    pub redeliver_ms: Ms,
    /// `RECALL_MINUTES`: for how long a sender may recall a message, 0 to 525,600 minutes; 1,440.
    pub recall_ms: Ms,
    /// `MESSAGES_PER_MINUTE`: how much a user may send in a minute, counted approximately, 0 to 100,000; default 600. 0
    /// is no limit.
    pub messages_per_minute: u32,
    /// `METRICS_NAMESPACE`: the name under which CloudWatch keeps the metrics; default `chat`.
    pub metrics_namespace: String,
    /// `LOG_LEVEL`: `error`, `warn`, `info`, `debug` or `trace`; default `info`.
    pub log_level: String,
}

/// The settings of tokens. At least one of `secret`, `secret_arn` and `key_set_url` is set.
#[derive(Clone)]
pub struct TokenConfig {
    /// `JWT_SECRET`: the secret of HS256 tokens, at least 32 bytes.
    pub secret: Option<String>,
    /// `JWT_SECRET_ARN`: the secret of Secrets Manager with the secret of HS256 tokens, in place of `JWT_SECRET`.
    pub secret_arn: Option<String>,
    /// `JWKS_URL`: the address of the public keys of RS256, ES256 and EdDSA tokens. `http://` is for this machine only:
    /// an attacker who can change its answers can sign in as any user.
    pub key_set_url: Option<String>,
    /// `JWT_ISSUER`: the required value of `iss`, if set.
    pub issuer: Option<String>,
    /// `JWT_AUDIENCE`: a value that `aud` must contain, if set.
    pub audience: Option<String>,
    /// `JWT_LEEWAY_SECONDS`: the tolerated difference of clocks, 0 to 60; default 5.
    pub leeway: Duration,
}

impl std::fmt::Debug for TokenConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenConfig")
            .field("secret", &self.secret.as_ref().map(|_| "(hidden)"))
            .field("secret_arn", &self.secret_arn)
            .field("key_set_url", &self.key_set_url)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("leeway", &self.leeway)
            .finish()
    }
}

/// The origins of web pages that may open a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All origins.
    Any,
    /// The origins of this machine, such as `http://localhost:5173`. The local stack uses it with the development
    /// secret.
    Loopback,
    /// These origins, as browsers write them: `https://chat.example.com`.
    Only(Vec<String>),
}

impl Origins {
    /// Returns whether a page of this origin may open a WebSocket.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback => is_of_loopback(origin),
            Self::Only(list) => list.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)),
        }
    }
}

/// Returns whether an origin is on this machine, with any port.
fn is_of_loopback(origin: &str) -> bool {
    let origin = origin.to_ascii_lowercase();
    let Some(host) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else { return false };
    let is_port = |rest: &str| rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let mut rests = ["localhost", "127.0.0.1", "[::1]"].into_iter().filter_map(|name| host.strip_prefix(name));
    rests.any(|rest| rest.is_empty() || is_port(rest))
}

/// A variable that is missing or wrong, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {why}")]
pub struct ConfigError {
    variable: &'static str,
    why: String,
}

fn wrong(variable: &'static str, why: impl Into<String>) -> ConfigError {
    ConfigError { variable, why: why.into() }
}

impl Config {
    /// Reads the configuration of this process, as Lambda sets it.
    ///
    /// # Errors
    /// Names the variable that is missing or wrong. The development secret is wrong, too.
    pub fn from_env() -> Result<Self, ConfigError> {
        let config = Self::read(|name| std::env::var(name).ok())?;
        match config.tokens.as_ref().and_then(|tokens| tokens.secret.as_deref()) {
            Some(DEVELOPMENT_SECRET) => Err(wrong("JWT_SECRET", "must not be the public secret of the local stack")),
            _ => Ok(config),
        }
    }

    /// Reads the configuration. `variable` returns the value of a variable.
    ///
    /// # Errors
    /// Names the variable that is missing or wrong.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = |name: &str| variable(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        Ok(Self {
            table: text("TABLE_NAME").ok_or_else(|| wrong("TABLE_NAME", "is not set"))?,
            region: text("AWS_REGION").unwrap_or_else(|| "us-east-1".to_owned()),
            credentials: credentials(&text)?,
            in_process: Vec::new(),
            dynamodb_endpoint: url("AWS_ENDPOINT_URL_DYNAMODB", &text)?.or(url("AWS_ENDPOINT_URL", &text)?),
            sqs_endpoint: url("AWS_ENDPOINT_URL_SQS", &text)?.or(url("AWS_ENDPOINT_URL", &text)?),
            eventbridge_endpoint: url("AWS_ENDPOINT_URL_EVENTBRIDGE", &text)?.or(url("AWS_ENDPOINT_URL", &text)?),
            secrets_endpoint: url("AWS_ENDPOINT_URL_SECRETS_MANAGER", &text)?.or(url("AWS_ENDPOINT_URL", &text)?),
            event_bus: text("EVENT_BUS_NAME"),
            event_content: flag("EVENT_CONTENT", &text)?,
            management_endpoint: url("MANAGEMENT_ENDPOINT", &text)?,
            tokens: tokens(&text)?,
            allowed_origins: origins(text("ALLOWED_ORIGINS"))?,
            retention: Duration::from_secs(86_400 * number("RETENTION_DAYS", &text, 30, 1, 365)?),
            max_group_members: number("MAX_GROUP_MEMBERS", &text, 1_000, 2, 100_000)?,
            fanout_queue: url("FANOUT_QUEUE_URL", &text)?,
            fanout_members: number("FANOUT_MEMBERS", &text, 1_000, 1, 10_000)?,
            roster_shard: number("ROSTER_SHARD", &text, 2_000, 1, 10_000)?,
            max_page_messages: number("MAX_PAGE_MESSAGES", &text, 1_000, 1, 1_000)?,
            max_groups: number("MAX_GROUPS", &text, 500, 1, 1_000)?,
            max_invitations: number("MAX_INVITATIONS", &text, 200, 1, 1_000)?,
            max_connections: number("MAX_CONNECTIONS", &text, 32, 1, 100)?,
            max_missed_names: number("MAX_MISSED_NAMES", &text, 2_000, 1, 2_000)?,
            redeliver_ms: 1_000 * number("REDELIVER_SECONDS", &text, 15, 0, MAX_REDELIVER_MS / 1_000)?,
            recall_ms: 60_000 * number("RECALL_MINUTES", &text, 1_440, 0, 525_600)?,
            messages_per_minute: number("MESSAGES_PER_MINUTE", &text, 600, 0, 100_000)?,
            metrics_namespace: text("METRICS_NAMESPACE").unwrap_or_else(|| "chat".to_owned()),
            log_level: log_level(text("LOG_LEVEL"))?,
        })
    }
}

fn credentials(text: &impl Fn(&str) -> Option<String>) -> Result<Credentials, ConfigError> {
    let key = text("AWS_ACCESS_KEY_ID").ok_or_else(|| wrong("AWS_ACCESS_KEY_ID", "is not set"))?;
    let secret = text("AWS_SECRET_ACCESS_KEY").ok_or_else(|| wrong("AWS_SECRET_ACCESS_KEY", "is not set"))?;
    Ok(Credentials::new(key, secret, text("AWS_SESSION_TOKEN"), None, "environment"))
}

fn tokens(text: &impl Fn(&str) -> Option<String>) -> Result<Option<TokenConfig>, ConfigError> {
    let (secret, secret_arn, key_set_url) = (text("JWT_SECRET"), text("JWT_SECRET_ARN"), url("JWKS_URL", text)?);
    if key_set_url.as_deref().is_some_and(|url| url.starts_with("http://") && !is_of_this_machine(url)) {
        return Err(wrong("JWKS_URL", NOT_A_URL));
    }
    if secret.as_ref().is_some_and(|secret| secret.len() < MIN_SECRET_BYTES) {
        return Err(wrong("JWT_SECRET", "must be at least 32 bytes long"));
    }
    if secret.is_some() && secret_arn.is_some() {
        return Err(wrong("JWT_SECRET_ARN", "does not go with JWT_SECRET"));
    }
    if secret.is_none() && secret_arn.is_none() && key_set_url.is_none() {
        return Ok(None);
    }
    Ok(Some(TokenConfig {
        secret,
        secret_arn,
        key_set_url,
        issuer: text("JWT_ISSUER"),
        audience: text("JWT_AUDIENCE"),
        leeway: Duration::from_secs(number("JWT_LEEWAY_SECONDS", text, 5, 0, 60)?),
    }))
}

const NOT_A_URL: &str = "must start with https:// (or http:// on this machine)";

fn url(name: &'static str, text: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, ConfigError> {
    match text(name) {
        Some(url) if !url.starts_with("https://") && !url.starts_with("http://") => Err(wrong(name, NOT_A_URL)),
        url => Ok(url),
    }
}

/// Returns whether the host of a URL is `localhost` or a loopback address.
fn is_of_this_machine(url: &str) -> bool {
    let uri = url.parse::<http::Uri>();
    let host = uri.ok().and_then(|uri| uri.host().map(|host| host.trim_matches(['[', ']']).to_owned()));
    host.is_some_and(|host| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

fn number<N>(
    name: &'static str,
    text: &impl Fn(&str) -> Option<String>,
    default: N,
    min: N,
    max: N,
) -> Result<N, ConfigError>
where
    N: FromStr + PartialOrd + std::fmt::Display + Copy,
{
    let Some(value) = text(name) else { return Ok(default) };
    match value.parse() {
        Ok(number) if min <= number && number <= max => Ok(number),
        _ => Err(wrong(name, format!("must be a whole number from {min} to {max}, and is {value:?}"))),
    }
}

fn flag(name: &'static str, text: &impl Fn(&str) -> Option<String>) -> Result<bool, ConfigError> {
    match text(name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(value) => Err(wrong(name, format!("must be true or false, and is {value:?}"))),
    }
}

fn origins(list: Option<String>) -> Result<Origins, ConfigError> {
    let Some(list) = list else { return Ok(Origins::Any) };
    let origins: Vec<String> = list.split(',').map(|o| o.trim().to_owned()).filter(|o| !o.is_empty()).collect();
    if origins.iter().any(|origin| origin == "*") {
        return Ok(Origins::Any);
    }
    match origins.iter().find(|origin| !origin.contains("://") || origin.ends_with('/')) {
        Some(origin) => {
            Err(wrong("ALLOWED_ORIGINS", format!("holds {origin:?}; an origin is like https://example.com")))
        }
        None => Ok(Origins::Only(origins)),
    }
}

fn log_level(level: Option<String>) -> Result<String, ConfigError> {
    let level = level.unwrap_or_else(|| "info".to_owned()).to_lowercase();
    match level.as_str() {
        "error" | "warn" | "info" | "debug" | "trace" => Ok(level),
        _ => Err(wrong("LOG_LEVEL", format!("must be error, warn, info, debug or trace, and is {level:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        const NEEDED: [(&str, &str); 3] =
            [("TABLE_NAME", "chat"), ("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let find = |name: &str| variables.iter().chain(&NEEDED).find(|(key, _)| *key == name);
        Config::read(|name| find(name).map(|(_, value)| (*value).to_owned())).map_err(|e| e.to_string())
    }

    #[test]
    fn unset_variables_have_defaults() {
        let config = read(&[("JWT_SECRET", ""), ("ALLOWED_ORIGINS", "*")]).unwrap();
        assert!(config.tokens.is_none());
        assert_eq!(config.allowed_origins, Origins::Any);
        assert_eq!(config.retention.as_secs(), 30 * 86_400);
        assert_eq!((config.fanout_queue, config.fanout_members), (None, 1_000));
        assert_eq!((config.redeliver_ms, config.messages_per_minute), (15_000, 600));
        assert_eq!((config.event_bus, config.event_content), (None, false));
        assert_eq!((config.max_group_members, config.max_groups, config.max_invitations), (1_000, 500, 200));
    }

    #[test]
    fn an_error_names_the_variable() {
        assert_eq!(Config::read(|_| None).unwrap_err().to_string(), "TABLE_NAME is not set");
        for (name, value) in [
            ("JWT_SECRET", "short"),
            ("JWKS_URL", "example.com"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "localhost"),
            ("JWKS_URL", "http://example.com/keys"),
            ("JWKS_URL", "http://localhost.example.com/keys"),
            ("JWKS_URL", "http://localhost@example.com/keys"),
            ("JWKS_URL", "http://10.0.0.1/keys"),
            ("MAX_CONNECTIONS", "101"),
            ("RETENTION_DAYS", "0"),
            ("RETENTION_DAYS", "a month"),
            ("MAX_GROUP_MEMBERS", "100001"),
            ("ROSTER_SHARD", "0"),
            ("FANOUT_MEMBERS", "0"),
            ("FANOUT_QUEUE_URL", "chat-fanout"),
            ("MAX_GROUPS", "0"),
            ("REDELIVER_SECONDS", "16"),
            ("REDELIVER_SECONDS", "-1"),
            ("REDELIVER_SECONDS", "1.5"),
            ("RECALL_MINUTES", "525601"),
            ("MESSAGES_PER_MINUTE", "-1"),
            ("EVENT_CONTENT", "yes"),
            ("AWS_ENDPOINT_URL_EVENTBRIDGE", "localhost"),
            ("MAX_INVITATIONS", "many"),
            ("ALLOWED_ORIGINS", "example.com"),
            ("LOG_LEVEL", "loud"),
            ("MANAGEMENT_ENDPOINT", "localhost"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.starts_with(name), "{error}");
        }
        let error = read(&[("JWT_SECRET_ARN", "arn"), ("JWT_SECRET", DEVELOPMENT_SECRET)]).unwrap_err();
        assert!(error.starts_with("JWT_SECRET_ARN"), "{error}");
        let error = read(&[("JWKS_URL", "https://a.b"), ("JWT_LEEWAY_SECONDS", "61")]).unwrap_err();
        assert!(error.starts_with("JWT_LEEWAY_SECONDS"), "{error}");
    }

    #[test]
    fn redeliver_seconds_are_0_to_15() {
        for (text, ms) in [("0", 0), ("2", 2_000), ("15", 15_000)] {
            assert_eq!(read(&[("REDELIVER_SECONDS", text)]).unwrap().redeliver_ms, ms);
        }
    }

    #[test]
    fn key_sets_of_this_machine_may_use_http() {
        for url in ["https://example.com/keys", "http://localhost:1/", "http://127.0.0.1:80/keys", "http://[::1]/"] {
            assert!(read(&[("JWKS_URL", url)]).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let config = read(&[("JWT_SECRET", DEVELOPMENT_SECRET)]).unwrap();
        assert!(!format!("{config:?}").contains(DEVELOPMENT_SECRET));
    }

    #[test]
    fn origins_are_compared_as_browsers_write_them() {
        let config = read(&[("ALLOWED_ORIGINS", "https://a.example, http://localhost:5173")]).unwrap();
        assert!(config.allowed_origins.allows("https://a.example"));
        assert!(config.allowed_origins.allows("http://localhost:5173"));
        assert!(!config.allowed_origins.allows("https://a.example.evil"));
        assert!(!config.allowed_origins.allows("null"));
    }

    #[test]
    fn loopback_origins_have_a_name_of_this_machine() {
        for origin in ["http://localhost", "https://localhost:5173", "http://127.0.0.1:3000", "http://[::1]:8080"] {
            assert!(Origins::Loopback.allows(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "localhost",
            "file://localhost",
            "ws://localhost",
            "https://evil.example",
            "http://localhost.evil.example",
            "http://localhost:80.evil.example",
            "http://localhost@evil.example",
            "http://localhost:99999",
            "http://localhost:",
            "http://localhost/",
            "http://localhost, https://evil.example",
            "http://127.0.0.1.evil.example",
            "http://[::1].evil.example",
        ] {
            assert!(!Origins::Loopback.allows(origin), "{origin}");
        }
    }
}
