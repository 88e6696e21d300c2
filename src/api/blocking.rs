//! Work on a body: at once when it is light, beside the async threads when it
//! would hold one up for more than half a millisecond.

use crate::api::ApiError;
use crate::service::ServiceError;

/// A larger body is heavy: 35 kB, 256 feature rows, take 0.3 ms.
pub(super) const HEAVY_BODY_BYTES: usize = 48 * 1024;

pub(super) async fn run<T: Send + 'static>(
    heavy: bool,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if !heavy {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::from(ServiceError::internal(error)))?
}
