//! Postgres: the only part that names sqlx, and the only part with SQL in it.

pub mod private;
