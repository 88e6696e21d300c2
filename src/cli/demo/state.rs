//! What the demo keeps between two starts: its time, its key, and whether the data is loaded.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use crate::cli::demo::sample_data::DATA_ENDS;
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::service::clock::TimeSource;

/// The last weeks of the data, which are replayed.
const REPLAYED_DAYS: i64 = 28;

/// The stored state of the demo.
pub(super) struct DemoState {
    directory: PathBuf,
    stored: StoredState,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredState {
    /// Days by which the data is moved, so that the last weeks begin at the first start.
    shift_days: i64,
    /// The time of the demo.
    now: Timestamp,
    is_loaded: bool,
    key: Option<String>,
}

impl StoredState {
    fn first(now: Timestamp) -> Self {
        let replay_begins = DATA_ENDS.millis() - REPLAYED_DAYS * MILLIS_PER_DAY;
        let shift_days = (now.millis() - replay_begins).div_euclid(MILLIS_PER_DAY);
        Self { shift_days, now, is_loaded: false, key: None }
    }
}

impl DemoState {
    /// Reads the state of an earlier start, or begins now.
    pub(super) async fn open(directory: &Path) -> anyhow::Result<Self> {
        tokio::fs::create_dir_all(directory)
            .await
            .with_context(|| directory.display().to_string())?;
        let file = state_file(directory);
        let stored = match tokio::fs::read(&file).await {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged: delete its folder", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                StoredState::first(TimeSource::System.now())
            }
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        Ok(Self { directory: directory.to_owned(), stored })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn now(&self) -> Timestamp {
        self.stored.now
    }

    pub(super) fn shift_millis(&self) -> i64 {
        self.stored.shift_days * MILLIS_PER_DAY
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.stored.key.as_deref()
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.stored.is_loaded
    }

    pub(super) async fn set_now(&mut self, now: Timestamp) -> anyhow::Result<()> {
        self.stored.now = now;
        self.save().await
    }

    pub(super) async fn set_key(&mut self, key: &str) -> anyhow::Result<()> {
        self.stored.key = Some(key.to_owned());
        self.save().await
    }

    pub(super) async fn set_loaded(&mut self) -> anyhow::Result<()> {
        self.stored.is_loaded = true;
        self.save().await
    }

    /// Replaces the file as a whole. It contains a key, so only its owner may read it.
    async fn save(&self) -> anyhow::Result<()> {
        let file = state_file(&self.directory);
        let new = file.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let saved = async {
            let mut written = tokio::fs::OpenOptions::from(options).open(&new).await?;
            written.write_all(&serde_json::to_vec(&self.stored)?).await?;
            written.flush().await?;
            tokio::fs::rename(&new, &file).await
        };
        saved.await.with_context(|| file.display().to_string())
    }
}

fn state_file(directory: &Path) -> PathBuf {
    directory.join("demo.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_later_start_finds_the_state_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = DemoState::open(folder.path()).await.unwrap();
        let replay_begins = DATA_ENDS.plus_millis(first.shift_millis() - 28 * MILLIS_PER_DAY);
        let since = first.now().millis() - replay_begins.millis();
        assert!((0..MILLIS_PER_DAY).contains(&since), "{since}");
        first.set_key("sgm_1_2").await.unwrap();
        first.set_loaded().await.unwrap();
        first.set_now(first.now().plus_millis(5)).await.unwrap();
        let later = DemoState::open(folder.path()).await.unwrap();
        assert_eq!(later.stored, first.stored);
        assert!(later.is_loaded() && later.key() == Some("sgm_1_2"));
        std::fs::write(folder.path().join("demo.json"), "{").unwrap();
        let damaged = DemoState::open(folder.path()).await.err().unwrap().to_string();
        assert!(damaged.contains("is damaged"), "{damaged}");
    }
}
