//! Metric labels as closed enums, so that a series can neither be misspelt nor created from
//! data.

/// Label set of a family of counters.
pub trait LabelSet: Copy {
    /// Names of the labels.
    fn names() -> Vec<&'static str>;
    /// Every value, in order of [`LabelSet::index`].
    fn all() -> impl Iterator<Item = Self>;
    /// The label values, in the order of the names.
    fn values(self) -> Vec<&'static str>;
    /// Index in [`LabelSet::all`].
    fn index(self) -> usize;
}

/// Declares a label as an enum of its values.
macro_rules! label {
    ($(#[$doc:meta])* $type:ident($name:literal) {
        $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $type {
            /// The label value.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $value),+ }
            }
        }

        impl LabelSet for $type {
            fn names() -> Vec<&'static str> {
                vec![$name]
            }

            fn all() -> impl Iterator<Item = Self> {
                [$(Self::$variant),+].into_iter()
            }

            fn values(self) -> Vec<&'static str> {
                vec![self.name()]
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// Outcome of an event.
    EventOutcome("outcome") {
        Accepted = "accepted",
        /// The event was already counted.
        Duplicate = "duplicate",
        /// The event has the id of another one that was already counted.
        Conflict = "conflict",
        Rejected = "rejected",
        /// Valid, but in a strict request with invalid events.
        NotCounted = "not_counted",
        /// Not counted: another session locked the customer for too long.
        Locked = "locked",
    }
}

label! {
    /// A limit that refuses requests.
    RefusingLimit("limit") {
        /// The share of one key in the memory for requests.
        MemoryShare = "memory_share",
        /// All of the memory for requests.
        Memory = "memory",
        EventsPerRequest = "events_per_request",
        /// Events in the queue for their commit.
        WaitingEvents = "waiting_events",
        /// Requests per second of one key.
        RequestRate = "request_rate",
        /// Events per second of one key.
        EventRate = "event_rate",
        /// Expensive requests per minute of one key.
        ExpensiveRequestRate = "expensive_request_rate",
        /// A bulk upload that sent nothing for too long.
        StreamIdle = "stream_idle",
        QueuedRuns = "queued_runs",
    }
}

label! {
    /// Outcome of a reported exposure to an experiment.
    ExposureOutcome("outcome") {
        /// The first exposure of the customer.
        First = "first",
        /// The customer had been exposed before.
        Repeated = "repeated",
        /// No such experiment is running, or it has no such variation.
        Refused = "refused",
    }
}

label! {
    /// An automatic action of the policy.
    PolicyAction("action") {
        Retrain = "retrain",
        Refresh = "refresh",
        Fallback = "fallback",
        Rollback = "rollback",
    }
}

label! {
    /// A service-level objective.
    ObjectiveName("objective") {
        Availability = "availability",
        Latency = "latency",
        Freshness = "freshness",
        Calibration = "calibration",
        Stability = "stability",
    }
}

label! {
    /// Path of a commit of events, in the order in which the paths are tried.
    CommitPath("path") {
        /// One statement with optimistic concurrency control.
        LockFree = "lock_free",
        Locking = "locking",
        /// Merges identities along links between ids.
        Linking = "linking",
    }
}

label! {
    /// Source of a customer in a lock-free commit.
    CustomerLookup("lookup") {
        /// Precomputed from the cache by the thread of the event's request.
        Precomputed = "precomputed",
        Cached = "cached",
        /// Cached, in a lock-free commit that failed because a customer had changed.
        Stale = "stale",
        Read = "read",
    }
}

label! {
    /// The invalid part of an event. It is never the name of a property, because senders choose
    /// these.
    RejectedField("field") {
        /// The event as a whole: not JSON, not an object, or too large.
        Event = "event",
        Type = "type",
        Name = "name",
        CustomerId = "customer_id",
        MessageId = "message_id",
        Timestamp = "timestamp",
        Property = "property",
        /// A field that the format does not have.
        Unknown = "unknown",
    }
}

label! {
    /// Outcome of a rejected event.
    FailedEventOutcome("outcome") {
        Stored = "stored",
        /// The key exceeded its limit of stored events per minute.
        NotStored = "not_stored",
        /// Sent again from storage, and accepted.
        Replayed = "replayed",
    }
}

label! {
    /// Outcome of a new link between two ids.
    LinkOutcomeLabel("outcome") {
        /// The ids are one customer.
        Applied = "applied",
        /// Stored, but not followed: an earlier link from the id counts.
        Superseded = "superseded",
        Cycle = "cycle",
        /// Not followed: the customer has the maximum number of ids.
        LimitReached = "limit_reached",
        /// Removed by an API call.
        Removed = "removed",
        /// Its source is a known customer, or an anonymous id that the public key did not
        /// introduce.
        Refused = "refused",
        /// Removed because an event named its source as a known customer.
        Ended = "ended",
    }
}

label! {
    /// Effect of an event on the customer's segment.
    AssignmentEffect("decision") {
        Unchanged = "unchanged",
        /// Retained by hysteresis, although another segment is nearer.
        RetainedByHysteresis = "retained_by_hysteresis",
        /// To another segment, or by another model to the same one.
        Moved = "moved",
        /// The customer had no assignment.
        First = "first",
    }
}

label! {
    /// Origin of a scoring request.
    ScoringEndpoint("endpoint") {
        /// A feature row in the request; no database.
        Stateless = "stateless",
        /// As `Stateless`, through the Open Inference Protocol.
        Inference = "inference",
    }
}

label! {
    /// The answering model. It is never a model id, because every training run creates a new
    /// one.
    AnsweringModel("model") {
        Active = "active",
        Fallback = "fallback",
    }
}

label! {
    /// Outcome of a training run.
    TrainingRunOutcome("outcome") {
        /// A model was trained and registered.
        Succeeded = "succeeded",
        Failed = "failed",
        /// Cancelled before its end.
        Cancelled = "cancelled",
    }
}

label! {
    /// A supervised background task.
    BackgroundTask("task") {
        DatabaseCheck = "database_check",
        DiskCheck = "disk_check",
        ChangeFeed = "change_feed",
        ClockCheck = "clock_check",
        HistoryPartitions = "history_partitions",
        /// Deletion of expired rejected events.
        RejectedEvents = "rejected_events",
        /// Notifications of other replicas.
        Notifications = "notifications",
        DeploymentPoll = "deployment_poll",
        KeyRefresh = "key_refresh",
        /// Storage of the last use of each API key.
        KeyUses = "key_uses",
        Rollout = "rollout",
        TrainingQueue = "training_queue",
        TrainingSchedule = "training_schedule",
        ScheduledRescoring = "scheduled_rescoring",
        /// Rescoring after a change of the deployment or of audiences.
        BulkRescoring = "bulk_rescoring",
        Policy = "policy",
        Alerts = "alerts",
        ConsistencyCheck = "consistency_check",
        /// Counts of the customers in each segment.
        SegmentSizes = "segment_sizes",
        /// Snapshots of the value of segments.
        SegmentValue = "segment_value",
        /// The commit workers, one per shard.
        Ingestion = "ingestion",
        Exports = "exports",
        ShadowScoring = "shadow_scoring",
        DriftCounts = "drift_counts",
        EventSources = "event_sources",
        /// Counts of accepted events that no feature uses.
        UnusedEvents = "unused_events",
        Deliveries = "deliveries",
        /// Delivery of moves between segments to webhooks.
        MoveDeliveries = "move_deliveries",
        /// HTTP server of the admin listener.
        AdminListener = "admin_listener",
        /// Supervision of the private Postgres.
        PrivatePostgres = "private_postgres",
    }
}

label! {
    /// Difference of a stored state from a replay of the customer's events.
    StateMismatch("kind") {
        Differs = "differs",
        /// Events without a state.
        Missing = "missing",
        /// A state without events.
        Extra = "extra",
        /// An event that cannot be parsed.
        Unreadable = "unreadable",
    }
}

label! {
    /// Reason why a stored state was not compared.
    UncomparedReason("reason") {
        /// Of another feature set or another format; the customer's next event or a backfill
        /// rebuilds it.
        OtherFeatures = "other_features",
        TooManyEvents = "too_many_events",
    }
}

label! {
    /// A shadow model's score against the response.
    ShadowOutcome("outcome") {
        Agree = "agree",
        Disagree = "disagree",
        /// The models have no segment in common.
        Unmatched = "unmatched",
        /// Not scored because of overload.
        Dropped = "dropped",
    }
}

label! {
    /// Type of a notification channel.
    ChannelKind("kind") {
        Webhook = "webhook",
        Alertmanager = "alertmanager",
        Slack = "slack",
        Email = "email",
    }
}

label! {
    /// Outcome of a delivery attempt.
    DeliveryOutcomeLabel("outcome") {
        Delivered = "delivered",
        /// Not accepted; another attempt follows.
        Failed = "failed",
        /// Not accepted, and no further attempt.
        GivenUp = "given_up",
    }
}

label! {
    /// Outcome of an attempt to deliver moves to a webhook.
    MoveDeliveryOutcome("outcome") {
        Delivered = "delivered",
        /// Not accepted; another attempt follows.
        Failed = "failed",
        /// The receiver answered 410, and the channel was disabled.
        Gone = "gone",
    }
}

label! {
    /// Type of an event about a move.
    MoveEventType("type") {
        Left = "left",
        Entered = "entered",
        Audiences = "audiences",
    }
}

label! {
    /// File format of an exported table.
    TableFormat("format") {
        Csv = "csv",
        Ndjson = "ndjson",
        Parquet = "parquet",
    }
}

label! {
    /// Class of requests; each has its own capacity.
    RequestClass("class") {
        /// Scoring of feature rows.
        Scoring = "scoring",
        /// Events with an identified key.
        Ingestion = "ingestion",
        Read = "read",
        /// Responses and uploads without a time limit: change feed, exports, bulk uploads.
        Stream = "stream",
        /// Changes to models, training runs, channels and policy.
        Control = "control",
        Health = "health",
        /// Documentation, and requests without a matching route or method.
        Public = "public",
        /// Segment messages with the key in a body that has not been read yet.
        Unidentified = "unidentified",
    }
}

label! {
    /// Reason why a request was refused before its work started.
    ShedReason("reason") {
        /// The capacity of the class is in use.
        Full = "full",
        /// The key or the address uses its fair share of the class.
        Share = "share",
    }
}

label! {
    /// Reason why reading a request body was aborted.
    BodyTimeout("reason") {
        /// The body was not complete in time.
        Deadline = "deadline",
        /// The body arrived more slowly than the minimum rate.
        Rate = "rate",
    }
}

label! {
    /// One of the two listeners.
    ListenerName("listener") {
        Api = "api",
        Admin = "admin",
    }
}

label! {
    /// Reason why a new connection was closed immediately.
    ConnectionRefusal("reason") {
        /// The address uses its fair share of connections, and all are active.
        Share = "share",
        /// The listener uses its limit of connections, and all are active.
        Full = "full",
    }
}

label! {
    /// Reason why this process closed an open connection.
    ConnectionClosure("reason") {
        /// The head of a request was not complete in time.
        HeaderTimeout = "header_timeout",
        /// No request arrived in time.
        IdleTimeout = "idle_timeout",
        /// The client did not read the response.
        WriteTimeout = "write_timeout",
        /// Longest idle connection, closed in favour of a new one.
        Evicted = "evicted",
    }
}

impl<A: LabelSet, B: LabelSet> LabelSet for (A, B) {
    fn names() -> Vec<&'static str> {
        [A::names(), B::names()].concat()
    }

    fn all() -> impl Iterator<Item = Self> {
        A::all().flat_map(|a| B::all().map(move |b| (a, b)))
    }

    fn values(self) -> Vec<&'static str> {
        [self.0.values(), self.1.values()].concat()
    }

    fn index(self) -> usize {
        self.0.index() * B::all().count() + self.1.index()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_stands_at_its_index() {
        fn check<L: LabelSet>() {
            assert!(L::all().enumerate().all(|(i, labels)| labels.index() == i));
            assert!(L::all().all(|labels| labels.values().len() == L::names().len()));
        }
        check::<EventOutcome>();
        check::<RejectedField>();
        check::<ExposureOutcome>();
        check::<FailedEventOutcome>();
        check::<LinkOutcomeLabel>();
        check::<AssignmentEffect>();
        check::<TrainingRunOutcome>();
        check::<TableFormat>();
        check::<MoveDeliveryOutcome>();
        check::<MoveEventType>();
        check::<BackgroundTask>();
        check::<(ChannelKind, DeliveryOutcomeLabel)>();
        check::<StateMismatch>();
        check::<UncomparedReason>();
        check::<ShadowOutcome>();
        check::<(ScoringEndpoint, AnsweringModel)>();
        check::<(EventOutcome, ScoringEndpoint)>();
        check::<(RequestClass, ShedReason)>();
        check::<BodyTimeout>();
        check::<(ListenerName, ConnectionRefusal)>();
        check::<(ListenerName, ConnectionClosure)>();
    }
}
