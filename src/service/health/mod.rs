//! Health of the process: clock, storage, consistency of the database, repair.

pub mod clock_check;
pub mod database_check;
pub mod repair;
pub mod storage;
