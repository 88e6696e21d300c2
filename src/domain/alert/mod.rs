//! Alerts: notification content, routing rules, delivery targets, signatures and retries.
//!
//! A person is notified once when an alert fires, and once when it is resolved. The
//! modules are listed in import order.

mod notice;
mod route;
pub mod schedule;
mod signing;
mod target;

pub use crate::domain::drift::ChartBar;
pub use notice::{AlertChart, AlertFact, AlertPart, AlertState, AlertTopic, Notification};
pub use route::{
    AlertRoute, AlertSilence, ChannelRoute, ChannelTopic, NotificationRecord, NotifiedState,
    RoutedAlert, channel_alert_key, is_notification_due,
};
pub use signing::{SigningKey, encode_webhook_secret};
pub use target::{DeliveryTarget, RedactedTarget, WebhookEnvelope, mail_address_fault};
