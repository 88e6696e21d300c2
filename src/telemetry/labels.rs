//! The values that labels take: closed sets, so that a series can neither be
//! misspelt nor made from data.

/// What a family of counters is divided by.
pub trait Labels: Copy {
    /// Names of the labels.
    fn names() -> Vec<&'static str>;
    /// Every value, in order of [`Labels::index`].
    fn all() -> impl Iterator<Item = Self>;
    /// This value, one text for each name.
    fn values(self) -> Vec<&'static str>;
    /// Position in [`Labels::all`].
    fn index(self) -> usize;
}

/// Declares a label: an enum whose variants are its values.
macro_rules! label {
    ($(#[$doc:meta])* $type:ident($name:literal) {
        $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)+
        }

        impl Labels for $type {
            fn names() -> Vec<&'static str> {
                vec![$name]
            }

            fn all() -> impl Iterator<Item = Self> {
                [$(Self::$variant),+].into_iter()
            }

            fn values(self) -> Vec<&'static str> {
                vec![match self { $(Self::$variant => $value),+ }]
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// What became of an event.
    Outcome("outcome") {
        Accepted = "accepted",
        /// Its message id was known.
        Duplicate = "duplicate",
        Rejected = "rejected",
        /// Right, in a strict request with others that were not.
        NotCounted = "not_counted",
    }
}

label! {
    /// What the policy had done.
    PolicyAction("action") {
        Retrain = "retrain",
        Refresh = "refresh",
        FallBack = "fall_back",
        RollBack = "roll_back",
    }
}

label! {
    /// What is promised.
    Objective("objective") {
        Availability = "availability",
        Latency = "latency",
        Freshness = "freshness",
        Calibration = "calibration",
        Stability = "stability",
    }
}

label! {
    /// How a commit of events went, in the order in which the ways are tried.
    Way("way") {
        /// In one statement: nobody was in the way.
        LockFree = "lock_free",
        Locking = "locking",
        /// Following links between ids.
        Linking = "linking",
    }
}

label! {
    /// How a commit of events knew a customer.
    Known("known") {
        /// From the cache, by the thread of its event's request.
        Ahead = "ahead",
        Cached = "cached",
        /// From the cache, but somebody else had written the customer since, or
        /// another one of the commit: read after all.
        Stale = "stale",
        Read = "read",
    }
}

label! {
    /// Which part of an event was refused. A property's own name never: senders
    /// choose it.
    Part("field") {
        /// The event as such: not JSON, no object, too large.
        Event = "event",
        Type = "type",
        Name = "name",
        CustomerId = "customer_id",
        MessageId = "message_id",
        Timestamp = "timestamp",
        Property = "property",
        /// A field that no event has.
        Unknown = "unknown",
    }
}

label! {
    /// What became of a rejected event.
    Failed("outcome") {
        Kept = "kept",
        /// Its key had sent too many in the same minute.
        NotKept = "not_kept",
        /// Sent in again from where it was kept, and counted now.
        Replayed = "replayed",
    }
}

label! {
    /// What came of a link between two ids that was new.
    Link("outcome") {
        /// The ids are one customer.
        Followed = "followed",
        /// Kept on record: the id belongs to somebody by an earlier link.
        NotFirst = "not_first",
        Circle = "circle",
        /// The customer has as many ids as one may have.
        Full = "full",
        /// Undone by a caller.
        TakenBack = "taken_back",
    }
}

label! {
    /// What an event did to its customer's segment.
    Decision("decision") {
        Kept = "kept",
        /// Kept, although another segment is nearer.
        Held = "held",
        /// To another segment, or by another model to the same one.
        Moved = "moved",
        /// The customer had none.
        First = "first",
    }
}

label! {
    /// How a score was asked for.
    Door("door") {
        /// A feature row in, no database.
        Stateless = "stateless",
        /// From the customer's stored state.
        Stateful = "stateful",
        /// As `Stateless`, over the Open Inference Protocol.
        Inference = "inference",
    }
}

label! {
    /// Which model answered. Never its id: every training run makes a new one.
    Answer("model") {
        Active = "active",
        Fallback = "fallback",
    }
}

label! {
    /// How a training run ended.
    RunOutcome("outcome") {
        /// A model was made and registered.
        Succeeded = "succeeded",
        /// Nothing to train on.
        Skipped = "skipped",
        Failed = "failed",
        /// Called off before its end.
        Cancelled = "cancelled",
    }
}

label! {
    /// How a stored state is not what its customer's events say.
    Mismatch("kind") {
        Differs = "differs",
        /// Events, and no state.
        Missing = "missing",
        /// A state, and no events.
        Extra = "extra",
        /// An event that cannot be read back.
        Unreadable = "unreadable",
    }
}

label! {
    /// Why a stored state was not compared.
    Uncompared("reason") {
        /// It is of other features or another format; its customer's next event
        /// or a back-fill rebuilds it.
        OtherFeatures = "other_features",
        TooManyEvents = "too_many_events",
    }
}

label! {
    /// What a shadow said beside what was answered.
    ShadowOutcome("outcome") {
        Agree = "agree",
        Disagree = "disagree",
        /// The models have no segment in common.
        Unmatched = "unmatched",
        /// Not scored: there was too much at once.
        Dropped = "dropped",
    }
}

label! {
    /// Where a channel sends.
    ChannelKind("kind") {
        Webhook = "webhook",
        Alertmanager = "alertmanager",
        Slack = "slack",
        Email = "email",
    }
}

label! {
    /// How an attempt to send a message went.
    DeliveryOutcome("outcome") {
        Delivered = "delivered",
        /// Not taken; there is another attempt.
        Failed = "failed",
        /// Not taken, and given up.
        Dead = "dead",
    }
}

label! {
    /// How a table is written.
    TableFormat("format") {
        Csv = "csv",
        Ndjson = "ndjson",
        Parquet = "parquet",
    }
}

label! {
    /// Kind of work of a request. Each class has a capacity of its own.
    RequestClass("class") {
        /// Scoring of feature rows.
        Scoring = "scoring",
        /// Events, once the key is known.
        Ingestion = "ingestion",
        Read = "read",
        /// Responses and uploads without a time limit: change feed, exports, bulk uploads.
        Stream = "stream",
        /// Changes to models, training runs, channels and policy.
        Control = "control",
        Health = "health",
        /// Documentation, and requests that no route or method takes.
        Public = "public",
        /// Segment messages whose key is inside a body that has not been read yet.
        Unidentified = "unidentified",
    }
}

label! {
    /// Why a request was refused before its work began.
    ShedReason("reason") {
        /// The capacity of the class is in use.
        Full = "full",
        /// The key or the address uses its fair share of the class.
        Share = "share",
    }
}

label! {
    /// Why the reading of a request body was given up.
    BodyTimeout("reason") {
        /// The body was not complete in time.
        Deadline = "deadline",
        /// The body came more slowly than the minimum rate.
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
    /// Why a new connection was closed at once.
    ConnectionRefusal("reason") {
        /// The address has its fair share of connections, all of them in use.
        Share = "share",
        /// The listener has its limit of connections, all of them in use.
        Full = "full",
    }
}

label! {
    /// Why an open connection was closed by this process.
    ConnectionClosure("reason") {
        /// The head of a request was not complete in time.
        HeaderTimeout = "header_timeout",
        /// No request came in time.
        IdleTimeout = "idle_timeout",
        /// The client did not read the response.
        WriteTimeout = "write_timeout",
        /// It had been idle longest when a new connection needed its place.
        Evicted = "evicted",
    }
}

impl<A: Labels, B: Labels> Labels for (A, B) {
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
        fn check<L: Labels>() {
            assert!(L::all().enumerate().all(|(i, labels)| labels.index() == i));
            assert!(L::all().all(|labels| labels.values().len() == L::names().len()));
        }
        check::<Outcome>();
        check::<Part>();
        check::<Failed>();
        check::<Link>();
        check::<Decision>();
        check::<RunOutcome>();
        check::<TableFormat>();
        check::<(ChannelKind, DeliveryOutcome)>();
        check::<Mismatch>();
        check::<Uncompared>();
        check::<ShadowOutcome>();
        check::<(Door, Answer)>();
        check::<(Outcome, Door)>();
        check::<(RequestClass, ShedReason)>();
        check::<BodyTimeout>();
        check::<(ListenerName, ConnectionRefusal)>();
        check::<(ListenerName, ConnectionClosure)>();
    }
}
