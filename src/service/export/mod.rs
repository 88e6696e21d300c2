//! Bulk export: streams every current assignment as a table, in constant memory.
//!
//! A worker reads a page, encodes it and passes it on before it reads the next page. So a
//! slow client throttles the reads (back-pressure). The worker is a task of its own and
//! not the client's, so that it notices a client that stopped reading, and releases the
//! snapshot and its connection.

mod encode;
mod formula;
mod parquet;
mod row;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::error::ErrorChain;
use crate::service::limits::fair_share::{FairShare, ResourceShare};
use crate::service::limits::heavy::{Cancellation, HeavyWorkPool};
use crate::service::limits::resource_user::ResourceUser;
use crate::service::scoring::serving::ServingState;
use crate::store::ReadOnlyDatabase;
use crate::store::customers::export::{AssignmentSnapshot, ExportedAssignment};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::TableFormat;
use encode::TableEncoder;
pub use formula::CsvEscaping;
use row::{ExportRow, Valuation};

/// Size of a piece. Small, so that a steady client, however slow, receives a piece within
/// the stall timeout.
const MAX_PIECE_BYTES: usize = 64 * 1024;
const RETRY_AFTER_SECONDS: u64 = 10;

/// Entry point of exports.
#[derive(Debug)]
pub struct ExportService {
    db: ReadOnlyDatabase,
    serving: Arc<ServingState>,
    clock: TimeSource,
    /// Concurrent exports, shared fairly between keys.
    slots: FairShare<String>,
    jobs: mpsc::Sender<ExportJob>,
}

/// Worker that runs exports.
#[derive(Debug)]
pub struct ExportWorker {
    jobs: mpsc::Receiver<ExportJob>,
    heavy: Arc<HeavyWorkPool>,
    /// Timeout for a client that reads nothing.
    stall: Duration,
    metrics: Arc<ServiceMetrics>,
}

#[derive(Debug)]
pub struct ExportDependencies {
    pub db: ReadOnlyDatabase,
    pub serving: Arc<ServingState>,
    pub clock: TimeSource,
    pub heavy: Arc<HeavyWorkPool>,
    pub metrics: Arc<ServiceMetrics>,
}

#[derive(Debug, Clone, Copy)]
pub struct ExportSettings {
    /// Concurrent exports; capped at one fewer than the read connections.
    pub max_concurrent: usize,
    pub stall_timeout: Duration,
}

#[derive(Debug)]
struct ExportJob {
    snapshot: AssignmentSnapshot,
    valuation: Valuation,
    format: TableFormat,
    escape: CsvEscaping,
    pieces: mpsc::Sender<ExportPiece>,
    user: ResourceUser,
    slot: ResourceShare<String>,
}

#[derive(Debug)]
enum ExportPiece {
    Bytes(Bytes),
    End,
}

/// A running export.
#[derive(Debug)]
pub(crate) struct RunningExport(mpsc::Receiver<ExportPiece>);

/// The table is incomplete: segmentd stopped, the database became unavailable, or the
/// client stopped reading for too long.
#[derive(Debug, thiserror::Error)]
#[error("the export is incomplete")]
pub(crate) struct IncompleteExport;

impl ExportService {
    pub fn new(dependencies: ExportDependencies, settings: ExportSettings) -> (Self, ExportWorker) {
        let ExportDependencies { db, serving, clock, heavy, metrics } = dependencies;
        // An export occupies a connection for minutes: one always remains for other
        // reads.
        let spare = db.max_connections().saturating_sub(1).max(1);
        let slots = FairShare::new(settings.max_concurrent.min(spare));
        let (sender, jobs) = mpsc::channel(1);
        let worker = ExportWorker { jobs, heavy, stall: settings.stall_timeout, metrics };
        (Self { db, serving, clock, slots, jobs: sender }, worker)
    }

    /// Starts an export for the key `key_id`, of all customers or of those in `segment`.
    /// `escape` applies to CSV only.
    pub(crate) async fn start_export(
        &self,
        key_id: &str,
        format: TableFormat,
        escape: CsvEscaping,
        segment: Option<String>,
    ) -> Result<RunningExport, ServiceError> {
        let slot = self
            .slots
            .try_acquire(key_id.to_owned(), 1)
            .ok_or(ServiceError::Busy { retry_after_seconds: RETRY_AFTER_SECONDS })?;
        let snapshot = AssignmentSnapshot::open(&self.db, segment).await?;
        let (pieces, export) = mpsc::channel(1);
        let user = ResourceUser::of_key(key_id);
        let valuation = Valuation { deployment: self.serving.snapshot(), now: self.clock.now() };
        let job = ExportJob { snapshot, valuation, format, escape, pieces, user, slot };
        self.jobs
            .send(job)
            .await
            .map_err(|_| ServiceError::Unavailable("segmentd is stopping".into()))?;
        Ok(RunningExport(export))
    }
}

impl RunningExport {
    /// The next bytes; `None` at the end of a complete table.
    pub(crate) async fn next_bytes(&mut self) -> Option<Result<Bytes, IncompleteExport>> {
        match self.0.recv().await {
            Some(ExportPiece::Bytes(bytes)) => Some(Ok(bytes)),
            Some(ExportPiece::End) => None,
            None => Some(Err(IncompleteExport)),
        }
    }
}

impl ExportWorker {
    /// Works until `stopped`; running exports are then cut off. May run again after a panic,
    /// which cuts off the running exports too.
    pub async fn run(&mut self, stopped: impl Future<Output = ()>) {
        let Self { jobs, heavy, stall, metrics } = self;
        let jobs = stream::unfold(jobs, async |jobs| Some((jobs.recv().await?, jobs)));
        let work = jobs.for_each_concurrent(None, async |job| {
            if let Err(error) = job.run(*stall, heavy, metrics).await {
                tracing::warn!(error = %ErrorChain(&error), "assignment export cut off");
            }
        });
        tokio::select! {
            () = work => {}
            () = stopped => {}
        }
    }
}

impl ExportJob {
    async fn run(
        mut self,
        stall: Duration,
        heavy: &HeavyWorkPool,
        metrics: &ServiceMetrics,
    ) -> Result<(), ServiceError> {
        let mut encoder = TableEncoder::new(self.format, self.escape)?;
        loop {
            let page = self.snapshot.next_page().await?;
            let rows = page.as_ref().map_or(0, Vec::len) as u64;
            let is_last = page.is_none();
            // On the threads for heavy work: a thousand rows take some milliseconds with their
            // forecasts, and a Parquet row group about ten more.
            let valuation = self.valuation.clone();
            let encoding = heavy
                .run_job(self.user, move |_: &Cancellation| encode_page(encoder, page, &valuation));
            let (returned, bytes) = encoding.await??;
            encoder = returned;
            metrics.output.export_rows.add(self.format, rows);
            let mut bytes = Bytes::from(bytes);
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(MAX_PIECE_BYTES));
                if !send_piece(&self.pieces, ExportPiece::Bytes(piece), stall).await? {
                    return Ok(());
                }
            }
            // An explicit end mark: a closed channel without it means that the table is
            // incomplete.
            if is_last {
                // Released before the end mark: a client that starts its next export as soon
                // as this one is complete finds the slot free.
                drop((self.snapshot, self.slot));
                send_piece(&self.pieces, ExportPiece::End, stall).await?;
                return Ok(());
            }
        }
    }
}

/// Sends a piece. Returns whether the client is still connected.
async fn send_piece(
    pieces: &mpsc::Sender<ExportPiece>,
    piece: ExportPiece,
    stall: Duration,
) -> Result<bool, ServiceError> {
    match tokio::time::timeout(stall, pieces.send(piece)).await {
        Ok(sent) => Ok(sent.is_ok()),
        Err(_) => Err(ServiceError::Unavailable("the client stopped reading the export".into())),
    }
}

/// Encodes a page, or the end of the table after the last one. The encoder moves through the
/// heavy-work thread and back.
fn encode_page(
    mut encoder: TableEncoder,
    page: Option<Vec<ExportedAssignment>>,
    valuation: &Valuation,
) -> Result<(TableEncoder, Vec<u8>), ServiceError> {
    let bytes = match page {
        Some(page) => {
            let rows: Vec<ExportRow> = page.into_iter().map(|one| valuation.row(one)).collect();
            encoder.add(&rows)?
        }
        None => encoder.finish()?,
    };
    Ok((encoder, bytes))
}
