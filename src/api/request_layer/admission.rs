//! Admission control (load shedding): one concurrency limit for each class of requests,
//! shared fairly between API keys.
//!
//! Separate limits (the bulkhead pattern) let scoring and health checks continue while
//! another class is overloaded. Within a class an API key gets at most its fair share
//! ([`FairShare`]); requests without a key are shared by network address. A permit lasts
//! until the response has been sent.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::Request;
use axum::http::Method;

use crate::api::request::caller::{authenticate, authenticate_if_given};
use crate::api::{ApiError, ApiState, PeerAddress};
use crate::domain::access::Principal;
use crate::service::limits::fair_share::{FairShare, ResourceShare};
use crate::service::limits::rate_limits::LimitedResource;
use crate::service::limits::resource_user::ResourceUser;
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::{RequestClass, ShedReason};

/// `Retry-After` of a shed request. Most requests last less than a second.
const RETRY_AFTER_SECONDS: u64 = 1;

/// The kind of work of a route, declared once for each route. It decides the request class,
/// whether a key is required, and whether the time limit applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteKind {
    Score,
    Ingest,
    /// Segment's tracking endpoints: the API key may be inside the body.
    IngestKeyInBody,
    /// Streaming: lasts as long as the client reads or writes.
    Stream,
    /// Reads with GET, changes with other methods.
    Manage,
    Health,
    /// Requires no key.
    Public,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AuthenticationMode {
    None,
    Header,
    HeaderOrBody,
}

impl RouteKind {
    pub(crate) fn class(self, method: &Method) -> RequestClass {
        match self {
            Self::Score => RequestClass::Scoring,
            Self::Ingest | Self::IngestKeyInBody => RequestClass::Ingestion,
            Self::Stream => RequestClass::Stream,
            Self::Manage if method.is_safe() => RequestClass::Read,
            Self::Manage => RequestClass::Control,
            Self::Health => RequestClass::Health,
            Self::Public => RequestClass::Public,
        }
    }

    fn authentication(self) -> AuthenticationMode {
        match self {
            Self::Health | Self::Public => AuthenticationMode::None,
            Self::IngestKeyInBody => AuthenticationMode::HeaderOrBody,
            Self::Score | Self::Ingest | Self::Stream | Self::Manage => AuthenticationMode::Header,
        }
    }

    pub(crate) fn is_timed(self) -> bool {
        self != Self::Stream
    }
}

/// Concurrency limit of each request class.
#[derive(Debug, Clone, Copy)]
pub struct RequestCapacities {
    pub scoring: usize,
    pub ingestion: usize,
    pub read: usize,
    pub stream: usize,
    pub control: usize,
    pub health: usize,
    pub public: usize,
    pub unidentified: usize,
}

/// A user of capacity: an API key, or the network of a client without a key. Keys are
/// compared by id, as a reload of the keys creates new principals.
#[derive(Debug, Clone)]
pub(crate) enum CapacityUser {
    Key(Arc<Principal>),
    Network(IpAddr),
}

impl CapacityUser {
    fn principal(&self) -> Option<Arc<Principal>> {
        match self {
            Self::Key(principal) => Some(Arc::clone(principal)),
            Self::Network(_) => None,
        }
    }
}

impl PartialEq for CapacityUser {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(one), Self::Key(other)) => one.key_id == other.key_id,
            (Self::Network(one), Self::Network(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for CapacityUser {}

impl Hash for CapacityUser {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Key(principal) => principal.key_id.hash(state),
            Self::Network(network) => network.hash(state),
        }
    }
}

/// The concurrency limits of this process.
#[derive(Debug)]
pub(crate) struct AdmissionControl {
    scoring: FairShare<CapacityUser>,
    ingestion: FairShare<CapacityUser>,
    read: FairShare<CapacityUser>,
    stream: FairShare<CapacityUser>,
    control: FairShare<CapacityUser>,
    health: FairShare<CapacityUser>,
    public: FairShare<CapacityUser>,
    unidentified: FairShare<CapacityUser>,
    metrics: Arc<ServiceMetrics>,
}

/// A permit: part of a class's capacity, released when it is dropped.
#[derive(Debug)]
pub(crate) enum RequestPermit {
    /// The user of the request is final.
    Fixed { share: ResourceShare<CapacityUser> },
    /// The key may still be found in the body; the share is then replaced.
    Replaceable { slot: ShareSlot },
}

impl RequestPermit {
    /// The key of the request; `None` if it has none, or if its body has not been read.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        match self {
            Self::Fixed { share } => share.user().principal(),
            Self::Replaceable { slot } => {
                slot.lock().unwrap_or_else(PoisonError::into_inner).user().principal()
            }
        }
    }
}

type ShareSlot = Arc<Mutex<ResourceShare<CapacityUser>>>;

/// In the extensions of a request without an `Authorization` header: moves the request from
/// the shares of its address to those of its key, once the body has been read.
#[derive(Debug, Clone)]
pub(crate) struct UnidentifiedRequest {
    admission: Arc<AdmissionControl>,
    slot: ShareSlot,
}

impl UnidentifiedRequest {
    /// Replaces the share of the address by a share of the key, and takes the request from
    /// the key's rate limit.
    pub(crate) fn identify(
        &self,
        state: &ApiState,
        principal: &Arc<Principal>,
    ) -> Result<(), ApiError> {
        let user = CapacityUser::Key(Arc::clone(principal));
        let share = self.admission.acquire(RequestClass::Ingestion, user)?;
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = share;
        let user = ResourceUser::of_key(&principal.key_id);
        Ok(state.rate_limits.take(user, LimitedResource::Requests, 1)?)
    }
}

impl AdmissionControl {
    pub(crate) fn new(capacities: RequestCapacities, metrics: Arc<ServiceMetrics>) -> Self {
        Self {
            scoring: FairShare::new(capacities.scoring),
            ingestion: FairShare::new(capacities.ingestion),
            read: FairShare::new(capacities.read),
            stream: FairShare::new(capacities.stream),
            control: FairShare::new(capacities.control),
            health: FairShare::new(capacities.health),
            public: FairShare::new(capacities.public),
            unidentified: FairShare::new(capacities.unidentified),
            metrics,
        }
    }

    /// Authenticates a request by its header and takes a share of its class, before a byte
    /// of the body is read. Inserts the principal into the request's extensions, where
    /// [`crate::api::request::AuthorizedCaller`] finds it.
    pub(crate) fn admit(
        self: &Arc<Self>,
        state: &ApiState,
        kind: RouteKind,
        request: &mut Request,
    ) -> Result<RequestPermit, ApiError> {
        let class = kind.class(request.method());
        let principal = match kind.authentication() {
            AuthenticationMode::None => None,
            AuthenticationMode::Header => Some(authenticate(state, request.headers())?),
            AuthenticationMode::HeaderOrBody => authenticate_if_given(state, request.headers())?,
        };
        if let Some(principal) = principal {
            // Before the share is taken: the log line of a refused request names its key.
            request.extensions_mut().insert(Arc::clone(&principal));
            let share = self.acquire(class, CapacityUser::Key(principal))?;
            return Ok(RequestPermit::Fixed { share });
        }
        let network = request.extensions().get::<PeerAddress>().map(|peer| peer.network());
        let user = CapacityUser::Network(network.unwrap_or(Ipv4Addr::UNSPECIFIED.into()));
        if kind != RouteKind::IngestKeyInBody {
            return Ok(RequestPermit::Fixed { share: self.acquire(class, user)? });
        }
        let slot = Arc::new(Mutex::new(self.acquire(RequestClass::Unidentified, user)?));
        let unidentified =
            UnidentifiedRequest { admission: Arc::clone(self), slot: Arc::clone(&slot) };
        request.extensions_mut().insert(unidentified);
        Ok(RequestPermit::Replaceable { slot })
    }

    fn acquire(
        &self,
        class: RequestClass,
        user: CapacityUser,
    ) -> Result<ResourceShare<CapacityUser>, ApiError> {
        let capacity = self.capacity(class);
        capacity.try_acquire(user, 1).ok_or_else(|| {
            let is_full = capacity.used() >= capacity.capacity();
            let (reason, detail) = if is_full {
                (ShedReason::Full, "too many requests in progress")
            } else {
                (
                    ShedReason::Share,
                    "too many requests in progress for this key or address: its fair share is used up",
                )
            };
            self.metrics.http.shed.add((class, reason), 1);
            ApiError::unavailable(detail, RETRY_AFTER_SECONDS)
        })
    }

    fn capacity(&self, class: RequestClass) -> &FairShare<CapacityUser> {
        match class {
            RequestClass::Scoring => &self.scoring,
            RequestClass::Ingestion => &self.ingestion,
            RequestClass::Read => &self.read,
            RequestClass::Stream => &self.stream,
            RequestClass::Control => &self.control,
            RequestClass::Health => &self.health,
            RequestClass::Public => &self.public,
            RequestClass::Unidentified => &self.unidentified,
        }
    }
}
