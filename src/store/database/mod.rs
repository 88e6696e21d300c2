//! Database connections and all that is not specific to one table: leases, time limits,
//! epochs, repair, the private server.

pub mod connect;
pub mod dedicated;
pub mod epoch;
pub mod error;
pub mod inspect;
pub mod lease;
pub mod open_error;
pub mod private;
pub mod repair;
pub mod time_limits;
