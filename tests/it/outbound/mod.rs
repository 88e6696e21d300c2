//! Notifications to third-party servers: webhooks, Alertmanager, Slack, email.

mod email;
mod service_client;
mod webhooks;
