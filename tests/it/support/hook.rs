//! A receiver of webhooks whose mood changes.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How it answers from now on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mood {
    /// After so many milliseconds.
    Takes(u64),
    Says(u16),
    AsksToWait(u64),
    Redirects,
    Hangs,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// Of the message.
    pub(crate) id: String,
    pub(crate) body: Value,
    pub(crate) is_taken: bool,
}

impl Heard {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.body["data"][name].as_str().unwrap_or_default()
    }

    /// Such as `drift.firing of drift:values:spend:rows`.
    pub(crate) fn says(&self) -> String {
        format!("{} of {}", self.body["type"].as_str().unwrap_or_default(), self.field("key"))
    }
}

/// Runs until it is dropped.
pub(crate) struct Hook {
    pub(crate) url: String,
    kept: Kept,
    _running: JoinSet<()>,
}

type Kept = Arc<Mutex<(Mood, Vec<Heard>)>>;

impl Hook {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let kept = Kept::new(Mutex::new((Mood::Takes(0), Vec::new())));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&kept));
        let mut running = JoinSet::new();
        running.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, kept, _running: running }
    }

    pub(crate) fn set(&self, mood: Mood) {
        lock(&self.kept).0 = mood;
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        lock(&self.kept).1.clone()
    }

    /// What was taken, in order.
    pub(crate) fn taken(&self) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.is_taken).collect()
    }

    pub(crate) fn says(&self) -> Vec<String> {
        self.taken().iter().map(Heard::says).collect()
    }
}

fn lock(kept: &Kept) -> MutexGuard<'_, (Mood, Vec<Heard>)> {
    kept.lock().unwrap()
}

async fn answer(State(kept): State<Kept>, headers: HeaderMap, body: Bytes) -> Response {
    let mood = lock(&kept).0;
    if let Mood::Takes(millis) = mood {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let id = headers.get("webhook-id").map(|id| id.to_str().unwrap().to_owned());
    let heard = Heard {
        id: id.unwrap_or_default(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        is_taken: matches!(mood, Mood::Takes(_)),
    };
    lock(&kept).1.push(heard);
    match mood {
        Mood::Takes(_) => StatusCode::NO_CONTENT.into_response(),
        Mood::Says(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Mood::AsksToWait(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response()
        }
        Mood::Redirects => (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
        Mood::Hangs => std::future::pending().await,
    }
}
