//! `POST /v1/events/bulk`: slow and stalled uploads.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::{TestApp, eventually, nothing_is_reserved, orders};

/// A bulk upload; the test sends its lines, and a task collects the verdicts.
struct Upload {
    lines: mpsc::UnboundedSender<Result<String, std::io::Error>>,
    verdicts: JoinSet<(u16, String)>,
}

fn upload(app: &TestApp) -> Upload {
    let (lines, sent) = mpsc::unbounded_channel();
    let body =
        futures_util::stream::unfold(
            sent,
            |mut sent| async move { Some((sent.recv().await?, sent)) },
        );
    let request = reqwest::Client::new()
        .post(format!("{}/v1/events/bulk", app.url))
        .bearer_auth(&app.key)
        .body(reqwest::Body::wrap_stream(body));
    let mut verdicts = JoinSet::new();
    verdicts.spawn(async move {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.text().await.unwrap_or_default())
    });
    Upload { lines, verdicts }
}

/// Lines are committed after a time, not only when a batch is full.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_slow_upload_are_committed_before_the_next_ones_arrive() {
    let app = TestApp::start_with(&[("limits.stream_flush_milliseconds", "50")]).await;
    let mut slow = upload(&app);
    for (count, event) in orders(3, 0).into_iter().enumerate() {
        slow.lines.send(Ok(event.to_string() + "\n")).unwrap();
        let name = r#"segmentd_events_total{outcome="accepted"}"#;
        eventually("the line is committed", async || app.metric(name).await == count as u64 + 1)
            .await;
    }
    drop(slow.lines);
    let (status, verdicts) = slow.verdicts.join_next().await.unwrap().unwrap();
    assert_eq!((status, verdicts.matches("accepted").count()), (200, 3), "{verdicts}");
    nothing_is_reserved(&app).await;
    app.stop().await;
}

/// Without this limit 60 stalled uploads of rejected lines hold 2 GB.
#[tokio::test(flavor = "multi_thread")]
async fn stalled_uploads_are_committed_and_closed() {
    let settings = [
        ("limits.stream_idle_seconds", "1"),
        ("limits.stream_flush_milliseconds", "100"),
        ("limits.buffer_bytes", "150000000"),
    ];
    let app = TestApp::start_with(&settings).await;
    let uploads: Vec<Upload> = (0..60).map(|_| upload(&app)).collect();
    let rubbish = format!("\"{}\"\n", "x".repeat(32_000));
    for upload in &uploads {
        for _ in 0..20 {
            upload.lines.send(Ok(rubbish.clone())).unwrap();
        }
        // The start of a line that never ends.
        upload.lines.send(Ok("[".repeat(40_000))).unwrap();
    }
    let mut ended = 0;
    for mut upload in uploads {
        let verdicts = tokio::time::timeout(Duration::from_mins(1), upload.verdicts.join_next());
        let answer = verdicts.await.expect("a stalled upload is ended");
        let (status, text) = answer.unwrap().unwrap();
        // An upload beyond the memory budget is refused at once.
        if status == 200 {
            assert!(text.contains("limits.stream_idle_seconds"), "{text}");
            assert_eq!(text.matches("\"rejected\"").count(), 20);
            ended += 1;
        } else {
            assert!(status == 429 || status == 503, "{status} {text}");
        }
    }
    assert!(ended >= 20, "{ended}");
    nothing_is_reserved(&app).await;
    app.stop().await;
}
