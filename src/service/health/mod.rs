//! Health of the process: clock, storage, background tasks, consistency of the database,
//! repair.

pub mod clock_check;
pub mod database_check;
pub mod failed_tasks;
pub mod repair;
pub mod storage;
