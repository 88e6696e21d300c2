//! Notifications to third-party servers: webhooks, Alertmanager, Slack, email.

mod email;
mod webhooks;
