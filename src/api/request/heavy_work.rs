//! Work on a body: at once when it is light, on the threads for heavy work when it
//! would hold an async thread up for more than half a millisecond.

use crate::api::{ApiError, ApiState};
use crate::service::limits::heavy::Cancellation;
use crate::service::limits::resource_user::ResourceUser;

/// A larger body is heavy: 35 kB, 256 feature rows, take 0.3 ms.
pub(crate) const HEAVY_BODY_BYTES: usize = 48 * 1024;

pub(crate) async fn run<T: Send + 'static>(
    state: &ApiState,
    user: ResourceUser,
    heavy: bool,
    work: impl FnOnce(&Cancellation) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if !heavy {
        return work(&Cancellation::never());
    }
    state.heavy.run(user, work).await?
}
