//! Alerts: notification content, routing rules, delivery targets, signatures and retries.
//!
//! A person is notified once when an alert fires, and once when it is resolved. The
//! modules are listed in import order.

mod notice;
mod route;
pub mod schedule;
mod signing;
mod target;

pub use crate::domain::drift::Bar;
pub use notice::{Fact, Notice, Picture, State, Topic};
pub use route::{
    AlertRoute, ChannelRoute, NotificationRecord, NotifiedState, RoutedAlert, Silence, channel_key,
    is_owed,
};
pub use signing::{SigningKey, webhook_secret};
pub use target::{Shown, Target, WebhookEnvelope, mail_problem};
