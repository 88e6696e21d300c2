//! TLS by nginx with the shipped `config/deploy/nginx.conf`: requests, streams, and a process that
//! is not there.

use std::path::Path;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::clients::{debian_program, has_program};
use crate::support::{TestApp, eventually};

const SHIPPED: &str = include_str!("../../../../config/deploy/nginx.conf");

/// A running nginx, which listens on the socket `nginx.sock` of its folder.
struct Nginx {
    process: Child,
    folder: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGKILL would leave the worker processes.
        let pid = Pid::from_child(&self.process);
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.process.wait();
    }
}

impl Nginx {
    /// Starts nginx with the shipped file, in which only addresses and paths are replaced.
    fn start(program: &Path, app: &TestApp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let certificate =
            rcgen::generate_simple_self_signed(["segmentd.example.com".to_owned()]).unwrap();
        std::fs::write(path("certificate.pem"), certificate.cert.pem()).unwrap();
        std::fs::write(path("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
        let address = app.url.strip_prefix("http://").unwrap();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};", path(kind)))
            .concat();
        let config = SHIPPED
            .replace("listen 443 ssl", &format!("listen unix:{} ssl", path("nginx.sock")))
            .replace("/etc/ssl/segmentd.crt", &path("certificate.pem"))
            .replace("/etc/ssl/segmentd.key", &path("key.pem"))
            .replace("127.0.0.1:8080", address)
            // Nothing listens there: nginx uses the other process.
            .replace("127.0.0.1:8081", "127.0.0.1:1")
            .replace("events {}", "daemon off; events {}")
            .replace("http {", &format!("http {{ access_log off; {temporary}"));
        std::fs::write(path("nginx.conf"), config).unwrap();
        let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
        let process = Command::new(program)
            .args(["-e", &path("error.log"), "-c", &path("nginx.conf")])
            .args(["-g", &format!("pid {}; {user}", path("pid"))])
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    /// Sends a request with curl; returns status and body.
    fn send(&self, app: &TestApp, path: &str, arguments: &[&str]) -> (String, String) {
        let sent = Command::new("curl")
            .args(["--silent", "--insecure", "--max-time", "20", "--unix-socket"])
            .arg(self.folder.path().join("nginx.sock"))
            .args(["--header", &format!("Authorization: Bearer {}", app.key)])
            .args(["--write-out", "\n%{http_code}"])
            .args(arguments)
            .arg(format!("https://segmentd.example.com{path}"))
            .output()
            .unwrap();
        let output = String::from_utf8(sent.stdout).unwrap();
        let (body, status) = output.rsplit_once('\n').unwrap_or_default();
        (status.to_owned(), body.to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_nginx_file_ends_tls_and_passes_streams_through() {
    let Some(program) = debian_program("nginx", "usr/sbin/nginx") else { return };
    if !has_program("curl") {
        return;
    }
    let settings = [("http.allowed_hosts", "segmentd.example.com")];
    let app = TestApp::start_with(&settings).await;
    let nginx = Nginx::start(&program, &app);
    eventually("nginx listens", async || nginx.folder.path().join("nginx.sock").exists()).await;

    // Several, so that some of them are tried at the missing process first.
    for _ in 0..6 {
        let (status, body) = nginx.send(&app, "/v1/segments", &[]);
        assert_eq!(status, "200", "{body}");
    }
    let event = json!({
        "type": "track", "name": "Order Completed", "message_id": "m1", "customer_id": "c1",
        "properties": { "sales_value": 5 },
    });
    let lines = format!("{event}\n");
    let (status, body) = nginx.send(&app, "/v1/events/bulk", &["--data-binary", &lines]);
    assert_eq!(status, "200", "{body}");
    let verdict: Value = serde_json::from_str(body.trim()).unwrap();
    assert_eq!(verdict["status"], "accepted", "{verdict}");
    // An event stream has no end: its first change comes before the time limit.
    let events = ["--header", "Accept: text/event-stream", "--max-time", "3"];
    let (_, body) = nginx.send(&app, "/v1/changes", &events);
    assert!(body.contains("event: change"), "{body}");
    drop(nginx);
    app.stop().await;
}
