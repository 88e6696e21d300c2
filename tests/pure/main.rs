//! Tests that need nothing but this program: no database, no network.
#![expect(clippy::expect_used, reason = "a helper that fails is a test that fails")]

mod telemetry;
mod tidy;
