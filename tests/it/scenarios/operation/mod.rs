//! Operation: start-up errors, shutdown, rolling restart, a proxy, the log, training from the
//! command line.

mod repeated_failures;
mod request_log;
mod reverse_proxy;
mod rolling_restart;
mod shutdown;
mod start_errors;
mod training_command;
