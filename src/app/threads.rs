//! Threads of their own, beside those on which requests are answered.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::service::limits::heavy;

/// One thread, for a task on which many requests wait. Among the tasks of the common
/// threads it would wait for every request that came before it; between threads the
/// system shares out the cores, first to who has had least of them.
#[derive(Debug)]
pub(super) struct OwnThread {
    handle: Handle,
    /// Until it is dropped.
    runtime: Option<Runtime>,
}

impl OwnThread {
    pub(super) fn start(name: &str) -> io::Result<Self> {
        Self::of(builder(name))
    }

    /// With the priority of heavy work: for tasks that take apart many rows at a time,
    /// for which small requests would wait.
    pub(super) fn start_below(name: &str) -> io::Result<Self> {
        let mut builder = builder(name);
        builder.on_thread_start(heavy::lower_priority);
        Self::of(builder)
    }

    fn of(mut builder: Builder) -> io::Result<Self> {
        let runtime = builder.build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// A runtime of one worker, not of the current thread: what takes long may still hand its
/// thread over (`block_in_place`).
fn builder(name: &str) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name(name).enable_all();
    builder
}

impl Drop for OwnThread {
    /// Cuts off what still runs; to wait for it is not possible on an async thread.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
