//! Silences: suppress notifications of matching alerts for a limited time.

use crate::domain::alert::AlertSilence;
use crate::domain::fault::ValidationFaults;
use crate::domain::text::{self, MAX_FREE_TEXT_CHARS, MAX_NAME_CHARS};
use crate::domain::time::MILLIS_PER_DAY;
use crate::service::alerts::{AlertService, ChangeAuthor, DecisionSubject};
use crate::service::{ServiceError, random};
use crate::store::alerting::silences;
use crate::store::alerting::silences::SilenceRow;

/// Longest silence: a permanent one would hide a check that should be removed instead.
const MAX_DAYS: i64 = 366;

impl AlertService {
    /// Creates a silence. Matching alerts are recorded but not sent until it ends.
    pub(crate) async fn create_silence(
        &self,
        silence: AlertSilence,
        by: &ChangeAuthor,
    ) -> Result<SilenceRow, ServiceError> {
        let now = self.clock.now();
        let reason = text::check_required_text("reason", &by.reason, MAX_FREE_TEXT_CHARS)?;
        if silence.until <= now || silence.until > now.plus_millis(MAX_DAYS * MILLIS_PER_DAY) {
            let problem = format!("must be within the next {MAX_DAYS} days: is {}", silence.until);
            return Err(ServiceError::Invalid(ValidationFaults::single("until", problem)));
        }
        for (field, text) in [("owner", &silence.owner), ("key_prefix", &silence.key_prefix)] {
            if let Some(text) = text {
                text::check_free_text(field, text, MAX_NAME_CHARS)?;
            }
        }
        let row = SilenceRow {
            silence_id: random::prefixed_id::<8>("silence")?,
            silence,
            created_at: now,
            created_by: by.name.clone(),
            reason,
        };
        // Commits together: the silence and the record of its creation.
        let mut tx = self.db.begin().await?;
        silences::insert(&mut tx, &row).await?;
        self.record_decision(&mut tx, DecisionSubject::Silence(&row.silence_id), "create", by)
            .await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Ends a silence now. Alerts that fire and were suppressed are sent by the next sweep.
    pub(crate) async fn end_silence(
        &self,
        silence_id: &str,
        by: &ChangeAuthor,
    ) -> Result<(), ServiceError> {
        // Commits together: the end of the silence and the record of it.
        let mut tx = self.db.begin().await?;
        if !silences::end(&mut tx, silence_id, self.clock.now()).await? {
            let what = format!("silence `{silence_id}` in force");
            return Err(ServiceError::NotFound(what));
        }
        self.record_decision(&mut tx, DecisionSubject::Silence(silence_id), "end", by).await?;
        Ok(tx.commit().await?)
    }
}
