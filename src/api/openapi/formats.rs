//! Schemas of domain values that bodies contain as one JSON value.

use std::borrow::Cow;

use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::access::AccessScope;
use crate::domain::alert::{AlertTopic, ChannelTopic};
use crate::domain::deployment::lifecycle::ModelStage;
use crate::domain::drift::Severity;
use crate::domain::event::EventKind;
use crate::domain::event::source_volume::SourceStatus;
use crate::domain::time::Timestamp;
use crate::domain::train::lineage::LineageEvent;
use crate::domain::wire::IngestionEndpoint;

/// Schemas of domain enums as text: one of the texts of `ALL`.
macro_rules! text_choices {
    ($($choice:ty: $name:literal, $description:literal;)+) => {$(
        impl PartialSchema for $choice {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($description))
                    .enum_values(Some(<$choice>::ALL.map(<$choice>::as_str)))
                    .into()
            }
        }

        impl ToSchema for $choice {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        }
    )+};
}

text_choices! {
    AccessScope: "AccessScope", "What an API key may do.";
    EventKind: "TrackingCall", "A call of Segment's tracking spec.";
    IngestionEndpoint: "IngestionEndpoint",
        "The endpoint of events: `events` and `bulk` in the native format, `segment` in Segment's.";
    SourceStatus: "EventSourceStatus",
        "The volume of a source against its usual volume; `learning` while the history is too short.";
    LineageEvent: "LineageEventKind", "What became of a segment in a training. `kept`: the new segment has the id of the old one; `split` and `merged`: part of a divided or joined segment; `moved`: another flow of members.";
    ModelStage: "ModelStage", "Stage of a model: `candidate` is not deployed, `shadow` scores without answering, `canary` answers for a share of the customers, `active` for all others.";
    AlertTopic: "AlertTopic", "What an alert is about.";
    ChannelTopic: "ChannelTopic",
        "A topic of alerts, or `moves`: the moves of customers between segments.";
    Severity: "Severity", "Severity of a finding or an alert, in ascending order.";
}

/// An RFC 3339 instant in UTC. The document has this schema inline wherever it is used.
impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl ToSchema for Timestamp {
    fn name() -> Cow<'static, str> {
        super::INSTANT_SCHEMA.into()
    }
}

/// A body that is written and read while it is transferred, or a file.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "names a schema only")]
pub(in crate::api) struct ByteStream(Vec<u8>);
