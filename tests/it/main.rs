//! Tests of the real program on port 0, each with its own database, through its public
//! interfaces.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

#[path = "../pure/event/identity_oracle.rs"]
mod identity_oracle;
#[path = "../pure/alert/notices.rs"]
mod notices;
mod outbound;
mod routes;
mod scenarios;
mod support;
