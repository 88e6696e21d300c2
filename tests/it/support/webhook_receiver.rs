//! A webhook receiver whose behaviour the test chooses; it records every request.

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

/// How the receiver answers from now on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    /// 204, after this many milliseconds.
    Accepts(u64),
    /// This status.
    Answers(u16),
    /// 500 to every other request, beginning with the next one.
    FailsHalfOfTheTime,
    /// 429 with `Retry-After`, in seconds.
    AsksToWait(u64),
    Redirects,
    Hangs,
}

/// One request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedMessage {
    /// The message id, of the `webhook-id` header.
    pub(crate) id: String,
    pub(crate) body: Value,
    pub(crate) headers: HeaderMap,
    /// The body as received, which is signed.
    pub(crate) payload: Bytes,
    pub(crate) is_accepted: bool,
}

impl ReceivedMessage {
    /// A text field of the notification.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.body["data"][name].as_str().unwrap_or_default()
    }

    /// Type and alert key, such as `drift.firing of drift:values:spend:rows`.
    pub(crate) fn summary(&self) -> String {
        format!("{} of {}", self.body["type"].as_str().unwrap_or_default(), self.field("key"))
    }
}

/// Runs until it is dropped.
pub(crate) struct WebhookReceiver {
    pub(crate) url: String,
    shared: Shared,
    _running: JoinSet<()>,
}

type Shared = Arc<Mutex<(Behaviour, Vec<ReceivedMessage>)>>;

impl WebhookReceiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let shared = Shared::new(Mutex::new((Behaviour::Accepts(0), Vec::new())));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let mut running = JoinSet::new();
        running.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, _running: running }
    }

    pub(crate) fn set(&self, behaviour: Behaviour) {
        lock(&self.shared).0 = behaviour;
    }

    /// Every request so far, accepted or not.
    pub(crate) fn received(&self) -> Vec<ReceivedMessage> {
        lock(&self.shared).1.clone()
    }

    /// The accepted messages, in order.
    pub(crate) fn accepted(&self) -> Vec<ReceivedMessage> {
        self.received().into_iter().filter(|message| message.is_accepted).collect()
    }

    /// The summaries of the accepted messages, in order.
    pub(crate) fn summaries(&self) -> Vec<String> {
        self.accepted().iter().map(ReceivedMessage::summary).collect()
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, (Behaviour, Vec<ReceivedMessage>)> {
    shared.lock().unwrap()
}

async fn answer(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let behaviour = {
        let (behaviour, received) = &*lock(&shared);
        match behaviour {
            Behaviour::FailsHalfOfTheTime => match received.last() {
                Some(last) if !last.is_accepted => Behaviour::Accepts(0),
                _ => Behaviour::Answers(500),
            },
            other => *other,
        }
    };
    if let Behaviour::Accepts(millis) = behaviour {
        // Not a wait of the test: the receiver is to be slow.
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let id = headers.get("webhook-id").map(|id| id.to_str().unwrap().to_owned());
    let message = ReceivedMessage {
        id: id.unwrap_or_default(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        headers,
        payload: body,
        is_accepted: matches!(behaviour, Behaviour::Accepts(_)),
    };
    lock(&shared).1.push(message);
    match behaviour {
        Behaviour::Accepts(_) => StatusCode::NO_CONTENT.into_response(),
        Behaviour::FailsHalfOfTheTime => unreachable!("is one of the others for each request"),
        Behaviour::Answers(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Behaviour::AsksToWait(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response()
        }
        Behaviour::Redirects => (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
        Behaviour::Hangs => std::future::pending().await,
    }
}
