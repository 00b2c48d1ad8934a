//! What both services do with HTTP alike: serving, problems, request ids, and reading what callers send.

mod answers;
mod authorities;
mod body;
mod budget;
mod config;
mod deadline;
mod observe;
mod openapi;
mod operations;
mod parameters;
mod prefer;
mod problem;
mod query;
mod request_context;
mod routes;
mod security_headers;
mod server;
mod tls;

pub use self::answers::{AnswerRoom, Counted};
pub use self::authorities::{SYSTEM_AUTHORITIES, read_authorities};
pub use self::body::{BodyLimits, NotCollected, collect, read_json_body};
pub use self::budget::{ByteBudget, BytePermit};
pub use self::config::HttpConfig;
pub use self::deadline::{TIMEOUT_MS, time_left};
pub use self::observe::{Observer, observe};
pub use self::openapi::CommonParts;
pub use self::operations::{Operations, OperationsListener};
pub use self::parameters::{Cursor, Name, PreferWait};
pub use self::prefer::{WAIT_MAX, WAITING_BUYERS, WAITING_READERS, parse_wait};
pub use self::problem::{Kind, Problem, ProblemBody, kinds, method_not_allowed, not_found};
pub use self::query::Query;
pub use self::request_context::{Caller, RequestContext, Traceparent};
pub use self::routes::Routes;
pub use self::server::{Endless, Server, ServerLimits};
pub use self::tls::{Certificate, Reload, TlsConfig, TlsMetrics};
