//! CPU-bound work on a body: light work runs inline. Work that would block an async thread
//! for more than half a millisecond runs on the pool for heavy work.

use crate::api::{ApiError, ApiState};
use crate::service::limits::heavy::Cancellation;
use crate::service::limits::resource_user::ResourceUser;

/// Size above which a body is heavy. 35 kB (256 feature rows) take 0.3 ms.
pub(crate) const HEAVY_BODY_BYTES: usize = 48 * 1024;

/// Runs `work` inline, or on the pool for heavy work, where users share the threads fairly.
pub(crate) async fn run<T: Send + 'static>(
    state: &ApiState,
    user: ResourceUser,
    heavy: bool,
    work: impl FnOnce(&Cancellation) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if !heavy {
        return work(&Cancellation::never());
    }
    state.heavy.run_job(user, work).await?
}
