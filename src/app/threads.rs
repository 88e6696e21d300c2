//! Dedicated threads, apart from the request threads.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::service::limits::heavy;

/// A dedicated thread for a task that many requests wait for. On the shared threads it
/// would queue behind every earlier request; between threads the operating system schedules
/// fairly.
#[derive(Debug)]
pub(super) struct DedicatedThread {
    handle: Handle,
    /// `Some` until dropped.
    runtime: Option<Runtime>,
}

impl DedicatedThread {
    pub(super) fn start(name: &str) -> io::Result<Self> {
        Self::of(builder(name))
    }

    /// With the lower priority of heavy work: for tasks that process many rows at a time
    /// and would delay small requests.
    pub(super) fn start_below(name: &str) -> io::Result<Self> {
        let mut builder = builder(name);
        builder.on_thread_start(heavy::lower_thread_priority);
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

/// A multi-threaded runtime with one worker. A current-thread runtime would not permit
/// `block_in_place`, with which long work hands its thread over.
fn builder(name: &str) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name(name).enable_all();
    builder
}

impl Drop for DedicatedThread {
    /// Aborts running work: an async thread cannot wait for it.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
