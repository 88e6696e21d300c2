//! Wire formats: conversion between bytes and domain values. One file or folder per format.

pub mod bounded;
pub mod elements;
mod fields;
mod ids;
pub mod inference;
pub mod lines;
pub mod native;
pub mod original;
pub mod redact;
pub mod rows;
pub mod segment;

use crate::domain::event::unused::UnusedEvent;
use crate::domain::event::{ContentHash, CustomerEvent};
use crate::domain::experiment::spec::ExposureReport;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::id::CustomerKey;
use crate::domain::identity::{IdentityLink, SentinelIds};
use crate::domain::json::JsonSyntaxError;
use crate::domain::wire::original::OriginalMessage;

/// Rules that every event must meet.
#[derive(Debug, Clone)]
pub struct EventLimits {
    /// Maximum milliseconds by which an event may be ahead of the receiver's clock; a later
    /// event is rejected.
    pub max_future_millis: i64,
    /// Maximum nesting of objects in properties; deeper ones are left out.
    pub max_property_depth: usize,
    /// Maximum size as JSON, as received.
    pub max_event_bytes: usize,
    /// Ids that name no customer.
    pub sentinel_ids: SentinelIds,
}

/// A parsed message: the event, and the link between ids that it declares.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedMessage {
    pub event: CustomerEvent,
    /// The hash of the event as sent.
    pub content: ContentHash,
    /// The event names its customer by an anonymous id.
    pub is_anonymous: bool,
    pub link: Option<IdentityLink>,
    /// Parts of the message that were left out.
    pub warnings: Vec<ValidationFault>,
    /// Set if no feature uses the event, or if a property that a feature needs is missing.
    pub unused: Option<Box<UnusedEvent>>,
    /// The exposure to an experiment that the event reports.
    pub exposure: Option<Box<ExposureReport>>,
    /// The message as received, which is stored if its commit refuses the event.
    pub original: Option<OriginalMessage>,
}

/// The fault of an event that is not valid JSON.
pub fn syntax_fault(error: JsonSyntaxError) -> ValidationFaults {
    ValidationFaults::single("event", format!("is not valid JSON; {error}"))
}

/// The ids in a message.
#[derive(Debug)]
struct MessageIdentity {
    customer: CustomerKey,
    /// `customer` is an anonymous id.
    is_anonymous: bool,
    link: Option<IdentityLink>,
}

impl MessageIdentity {
    fn known(customer: CustomerKey, link: Option<IdentityLink>) -> Self {
        Self { customer, is_anonymous: false, link }
    }

    /// The ids of an `alias` event: the customer, and the previous id if it is another one.
    fn of_alias(customer: CustomerKey, previous: Option<CustomerKey>) -> Self {
        let link = IdentityLink::between(previous, &customer);
        Self::known(customer, link)
    }

    fn anonymous(customer: CustomerKey) -> Self {
        Self { customer, is_anonymous: true, link: None }
    }
}

/// The ingestion endpoint of an event, which determines its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IngestionEndpoint {
    /// One event or an array, in the native format.
    Events,
    /// One event per line, in the native format.
    Bulk,
    /// Segment's format.
    Segment,
}

impl IngestionEndpoint {
    pub const ALL: [Self; 3] = [Self::Events, Self::Bulk, Self::Segment];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Bulk => "bulk",
            Self::Segment => "segment",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.as_str() == text)
    }
}
