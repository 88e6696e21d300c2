//! segmentd: online customer segmentation. Events go in over HTTP; the response says which
//! learned segment the customer is in now and whether the behaviour is unusual.
//!
//! This page is the map: the words, the levels, the data, the flows, and where a change
//! goes. A test checks that every file that it names exists.
//!
//! # Glossary
//!
//! One word per concept, in code, API, settings and metrics.
//!
//! | term | meaning |
//! |---|---|
//! | event | one behavioural fact about a customer, in the field names of the Segment tracking spec |
//! | ingestion | accepting, deduplicating, committing and scoring events |
//! | feature | a declared number or category about one customer, computed from events; all declarations together are the feature set, versioned by hash |
//! | feature row | the values of all features for one customer at one instant; a missing value is explicit |
//! | customer state | the compact aggregate per customer from which feature rows are computed; independent of the order of arrival |
//! | encoder | fitted imputation, transformation, scaling and one-hot encoding: feature row to `f32` vector |
//! | prototype | a vector that represents a segment or a part of it; a centroid for k-means |
//! | segment | a group of customers with a stable id and a lineage over trainings |
//! | value | forecasts for one customer: churn probability, expected orders and spend, lifetime value, next order |
//! | audience | a named rule over customers, evaluated with every stored score |
//! | experiment, variation, exposure, outcome | controlled test; compared treatment; first contact with it; measured result |
//! | persona | name, summary, owner and strategy that users give a segment; kept over trainings |
//! | model | an immutable artifact, addressed by its SHA-256: feature set, encoder, prototypes, outlier reference, drift baseline, self-test |
//! | deployment | the models that serve now: active, fallback, canary, shadow; numbered by a generation |
//! | score | the answer for one row: segment, distance, confidence, outlier p-value and flag, model |
//! | assignment | the stored score of one customer; the previous assignment matters for hysteresis |
//! | rescoring | scoring stored customers again, because time passed or the deployment changed |
//! | training run, candidate, leaderboard, gate | one training; one fitted model in it; their ranking; a condition that a model must meet before it serves |
//! | drift baseline, window, finding, alarm, detector | distribution at training; counts to compare; a significant and relevant difference; a debounced finding; a sequential test |
//! | alert, notification, channel, delivery | what an owner must know; its message; where it goes; one chain of attempts |
//! | principal, API key, scope | authenticated caller; credential; what it may do |
//!
//! # Levels
//!
//! A folder imports only from smaller levels; equal levels do not import each other
//! (`tests/pure/tidy.rs`). No files import each other in circles (`tests/pure/circles.rs`).
//!
//! | level | folder | content |
//! |---|---|---|
//! | 7 | `main.rs` | the process |
//! | 6 | [`cli`] | commands |
//! | 5 | [`app`] | wiring: builds everything once, starts and drains it |
//! | 4 | [`api`] | JSON over HTTP |
//! | 3 | [`service`] | use cases and background work |
//! | 2 | [`store`], [`outbound`] | Postgres, the only SQL; requests to other servers |
//! | 1 | [`config`], [`telemetry`] | settings; metrics and logs |
//! | 0 | [`domain`] | segmentation itself: pure, no I/O, no clock |
//!
//! # Data
//!
//! | table | content | written by |
//! |---|---|---|
//! | `workspace` | workspaces; a database handle is the handle of one ([`domain::workspace`]) | `migrations/0001_workspaces.sql` |
//! | `event` | accepted events, with a hash of their content | `store/customers/lock_free.rs`, `store/customers/events.rs` |
//! | `customer` | state, assignment, audiences and identity of each customer | `store/customers/columns.rs`, `store/customers/lock_free.rs`, `store/customers/identity.rs` |
//! | `assignment_history` | changes of assignment and audiences, partitioned by month | `store/customers/assignments.rs`, `store/customers/lock_free.rs` |
//! | `customer_link` | which ids belong to one customer | `store/customers/links.rs`, `store/customers/link_sources.rs` |
//! | `failed_event` | rejected events with their reason | `store/failed_events.rs` |
//! | `event_source`, `event_source_hour` | counts of events by key and endpoint | `store/sources.rs` |
//! | `unused_event` | accepted events that no feature uses, by type and name | `store/unused_events.rs` |
//! | `model`, `deployment` | artifacts; deployments by generation | `store/models/mod.rs` |
//! | `model_decision`, `segment_lineage` | steps of the life cycle; what became of each segment | `store/models/decisions.rs`, `store/models/lineage.rs` |
//! | `persona` | personas of segments, by version | `store/models/personas.rs` |
//! | `experiment`, `exposure` | definitions of experiments, by version; first exposures of customers | `store/experiments/mod.rs`, `store/experiments/exposures.rs` |
//! | `audience`, `audience_evaluation` | definitions of audiences, by version; progress of the evaluation of stored customers | `store/audiences.rs`, `store/audience_evaluation.rs` |
//! | `stored_property` | properties that the serving feature set stores, and since when | `store/models/stored_properties.rs` |
//! | `training_run`, `feature_set` | runs and their reports; feature sets by hash | `store/models/runs.rs`, `store/models/feature_sets.rs` |
//! | `shadow_count`, `policy`, `policy_action` | agreement of shadow models; automatic policy and its actions | `store/models/shadow.rs`, `store/models/policy.rs` |
//! | `drift_window`, `drift_segment_sums` | counts by model and hour | `store/drift.rs` |
//! | `alert`, `alarm`, `alert_job`, `alert_decision`, `silence` | alerts and their state | `store/alerting/mod.rs`, `store/alerting/alarms.rs`, `store/alerting/decisions.rs`, `store/alerting/silences.rs` |
//! | `move_delivery` | position of each channel with the topic `moves` in the change feed | `store/alerting/move_deliveries.rs` |
//! | `channel`, `delivery`, `delivery_attempt` | transactional outbox of notifications | `store/alerting/channels.rs`, `store/alerting/deliveries.rs` |
//! | `segment_value`, `segment_value_flow` | daily figures of each segment; customers who moved between segments, with their predicted spend | `store/segment_values.rs` |
//! | `api_key` | hashed keys and their scopes | `store/api_keys.rs` |
//! | `change_epoch`, `backfill_range` | positions of the change feed across restores; progress of a backfill | `store/database/epoch.rs`, `store/customers/backfill.rs` |
//!
//! # Flows
//!
//! **Request.**
//! 1. `app/serve/mod.rs` accepts the connection within limits per listener and address, and
//!    closes connections that send nothing.
//! 2. `api/request_layer/mod.rs` authenticates by the headers, acquires a share of the
//!    capacity of the request's class for its key (`service/limits/fair_share.rs`), and takes
//!    the request from the key's rate limits (`service/limits/rate_limits.rs`).
//! 3. `api/request/body.rs` reads the body within a deadline and a minimum rate, from the
//!    memory budget (`service/limits/memory.rs`).
//! 4. Large bodies are parsed on threads of lower priority (`service/limits/heavy.rs`).
//! 5. The request is logged with its route, status and key (`api/request_layer/log.rs`).
//!
//! **Event to stored assignment.**
//! 1. `api/events/mod.rs`, `api/events/bulk.rs` or `api/events/segment/mod.rs` split the body into
//!    elements (`domain/wire/elements.rs`) and parse them (`domain/wire`) by a reader that keeps
//!    every digit (`domain/json/mod.rs`).
//! 2. `service/ingestion/accept.rs` checks messages; rejected ones and conflicts go to
//!    `service/failed_events.rs`.
//! 3. `service/ingestion/queue/scheduler.rs` queues events by the shard of their customer and
//!    by key; `service/ingestion/queue/worker.rs` takes a batch.
//! 4. `service/ingestion/commit/mod.rs` takes customers from the cache
//!    (`service/ingestion/commit/cache.rs`) or the database.
//! 5. `service/ingestion/commit/fold.rs` folds the events into the states and scores them by
//!    the current deployment (`service/scoring/deployment.rs`).
//! 6. `store/customers/lock_free.rs` writes everything in one statement with optimistic
//!    concurrency control; after conflicts `store/customers/events.rs` locks first.
//!    An event with the id of another one is compared by the hash of its content: it is a
//!    duplicate or a conflict (`service/ingestion/commit/contents.rs`).
//! 7. The answer is sent after the commit is on disk.
//!
//! **Identity.** An event can link two ids of one customer.
//! 1. `service/ingestion/links/mod.rs` decides which links are new.
//! 2. `service/ingestion/commit/linking.rs` merges the states under the surviving id
//!    ([`domain::identity`]); other ids refer to it (`store/customers/identity.rs`).
//! 3. An anonymous id that logs in many people is reported
//!    (`service/ingestion/links/shared_ids.rs`).
//! 4. Two known customers are merged by an alias alone; public keys link only ids that they
//!    introduced (`service/ingestion/links/permissions.rs`).
//!
//! **Feature row to score.**
//! 1. `api/score/mod.rs` reads the body straight into feature rows (`domain/wire/rows.rs`).
//! 2. `service/scoring/deployment.rs` scores them by the model (`domain/model/artifact.rs`,
//!    kernel in `domain/model/kernel/mod.rs`). No database is involved.
//! 3. `api/inference/mod.rs` does the same for tensors.
//!
//! **Training run to deployment.**
//! 1. `service/training/run.rs` acquires the lease; `service/training/snapshot.rs` reads all
//!    states as of one instant. `service/training/past_assignments.rs` joins them with the changes
//!    of their assignments, for the back-test of earlier models
//!    (`domain/train/backtest/tally.rs`).
//! 2. `service/training/fit.rs` calls `domain/train/run.rs` on idle-priority threads.
//! 3. `domain/train/selection/candidates.rs` fits candidates
//!    (`domain/train/clustering/algorithm.rs`), `domain/train/selection/leaderboard.rs` ranks
//!    them, `domain/train/assembly/finish.rs` assembles the model,
//!    `domain/train/assembly/value.rs` adds customer value (`domain/value/mod.rs`), and
//!    `domain/train/lineage/mod.rs` keeps segment ids.
//! 4. `service/models/registry.rs` registers the model, checks gates
//!    ([`domain::deployment::lifecycle`]) and publishes a new generation.
//! 5. Every replica opens and self-tests it, and swaps one pointer
//!    (`service/scoring/serving.rs`).
//! 6. `service/rescoring/on_deployment_change.rs` scores stored customers again.
//!
//! **Audience rule to members.** `service/rescoring/on_audience_change.rs` evaluates stored
//! customers in order of their ids, and stores its position with each transaction.
//!
//! **Time.** Each assignment has an instant until which time alone cannot change it
//! ([`domain::rescore_schedule`]); `service/rescoring/on_time.rs` rescores customers after it.
//!
//! **Value of segments.** `service/segment_value/mod.rs` takes a snapshot once a day on the replica with
//! the lease: it reads customers in pages with the changes of their segment
//! (`store/customers/past_assignments.rs`), forecasts their orders now and at earlier snapshots, and adds
//! them up by segment and flow (`domain/segment_value/tally.rs`). A request explains the change
//! (`service/segment_value/series.rs`, `domain/segment_value/change.rs`).
//!
//! **Drift finding to delivery.**
//! 1. `service/scoring/observations.rs` counts every score on the bins of training;
//!    `service/drift/sampling.rs` counts stored customers.
//! 2. `service/drift/mod.rs` writes windows by the hour; `service/drift/monitor/mod.rs`
//!    checks them.
//! 3. `domain/drift/check/mod.rs` tests every feature, at the effective
//!    sample size of `domain/drift/dependence.rs`; `domain/drift/alerts/alarm.rs` debounces
//!    findings, and `domain/drift/alerts/grouping.rs` groups those of one cause into one alert.
//! 4. `service/alerts/mod.rs` writes the alert and one notification per channel in the same
//!    transaction.
//! 5. `service/alerts/deliver.rs` claims due deliveries; `outbound/mod.rs` sends it; the result is
//!    recorded.
//!
//! **Move to webhook.** `service/alerts/moves/mod.rs` claims channels that are behind the change
//! feed; `service/alerts/moves/batch.rs` reads the next moves; `outbound/moves.rs` renders them;
//! `service/alerts/moves/outcome.rs` advances the position once the receiver has accepted them.
//!
//! **Automatic policy.** `service/automation/probation.rs` returns to the previous model when
//! a new one answers badly; `service/automation/actions.rs` trains, freezes or falls back while
//! drift alerts fire ([`domain::deployment::policy`]).
//!
//! **Database of a command.** `app/database.rs` uses the private server that the service runs
//! (`store/database/private/shared.rs`), else runs it.
//!
//! **Database failure.** `app/supervise.rs` restarts the private server with back-off;
//! `service/health/storage.rs` watches the connection and the disk. Scoring of feature rows
//! continues.
//!
//! **Shutdown.** `app/mod.rs` runs the steps: not ready, delay (`app/shutdown.rs`), no more
//! connections, requests in progress, background tasks, workers, last counts, admin listener,
//! database.
//!
//! # Background tasks
//!
//! `app/tasks.rs` starts the periodic ones: database and disk checks, change feed, clock check,
//! segment sizes, month partitions, clean-up of failed events, notifications of the database,
//! deployment poll, key refresh, last uses of keys, rollout, training queue and schedule, both
//! rescorings, policy, alerts, consistency check, value of segments. `app/workers.rs` starts the workers: ingestion
//! shards and exports on threads of their own, shadow scoring, drift counts, event sources,
//! deliveries of notifications and of moves.
//!
//! `app/task_supervisor.rs` supervises all of them. A task that panics is logged by its name,
//! counted and restarted with exponential back-off (`app/backoff.rs`). A task whose state is
//! lost with it, such as an ingestion shard, is not restarted: the process is not ready any
//! more (`service/health/failed_tasks.rs`). At shutdown, late tasks are named and aborted.
//! A failure that repeats is logged once a minute with its count
//! (`telemetry/repeated_failures.rs`).
//!
//! # Where a change goes
//!
//! | to add or change | touch |
//! |---|---|
//! | a feature fold | `domain/feature/source.rs`, `domain/feature/parse/source.rs`, `domain/feature/slot.rs`, `domain/feature/time_change.rs`, `domain/feature/canonical_json.rs`; `domain/feature/fold.rs` if no present aggregate fits; `config/features.retail.toml` |
//! | a fold over orders | `domain/feature/orders/folds.rs`, and the places of a feature fold |
//! | a condition on properties | `domain/feature/reading/filter.rs`, `domain/feature/parse/filter.rs`, `domain/feature/canonical_json.rs` |
//! | a conversion of properties | `domain/feature/validation/convert.rs` |
//! | a built-in feature set | a file in `config`, `app/mod.rs`, `config/mod.rs`, `config/default.toml` |
//! | a rule for ids in events | `domain/wire/ids.rs`, `domain/wire/fields.rs` |
//! | a field of an event | `domain/wire/native.rs`, `api/events/event_body.rs`; in Segment's format `domain/wire/segment.rs`, `api/events/segment/bodies.rs` |
//! | a field of a score | `api/score/answer.rs`, `api/score/body.rs` |
//! | a part of an event's content, which tells duplicates from conflicts | `domain/event/content.rs`, `domain/wire/native.rs`, `domain/wire/segment.rs` |
//! | a content encoding | `api/request/content_encoding.rs`, `api/error.rs` |
//! | a table format | a file in `cli/table`, `cli/table/mod.rs`, `cli/table/settings.rs`, `cli/table/source.rs`, `config/load.example.toml` |
//! | a key of a mapping | `cli/mapping/file.rs`, `cli/mapping/property.rs` or `cli/mapping/condition.rs`, `config/load.example.toml` |
//! | a known table format | a file in `config/mappings`, `cli/mapping/builtin.rs`, `tests/data/golden/tables.py`, `tests/pure/tables/known_formats.rs` |
//! | a clustering algorithm | a file in `domain/train/clustering`, `domain/train/clustering/algorithm.rs`, `api/training_runs/algorithm.rs` |
//! | a family of value models | a file in `domain/value`, `domain/value/purchase_model.rs`, `domain/value/posterior.rs`, `api/models/value.rs`, `config/guides/value.md` |
//! | a forecast of a customer | `domain/value/customer_value.rs`, `api/customers/value.rs`, `config/guides/value.md`; in exports `service/export/encode.rs`, `service/export/parquet.rs`, `api/customers/export.rs` |
//! | a figure of the value of segments over time | `domain/segment_value/totals.rs`, `migrations/0011_segment_value.sql`, `store/segment_values.rs`, `api/segments/value.rs`, `config/guides/value.md` |
//! | an operand of audience rules | `domain/audience/resolve.rs`, `domain/audience/condition.rs`, for one that time changes `domain/audience/time_change.rs`, `config/guides/audiences.md` |
//! | a drift test | a file in `domain/drift/statistics`, `domain/drift/figures.rs`, `domain/drift/check/uncorrected.rs`, `domain/drift/finding.rs`, `domain/drift/report/finding_text.rs`, `domain/drift/report/alert_facts.rs`, `api/drift/features.rs`, `api/drift/findings.rs`; for thresholds of its own `domain/drift/limits.rs`, `config/drift.rs` |
//! | a setting of a training run | `domain/train/spec.rs`, `api/training_runs/spec.rs` |
//! | a figure in the report of a training run | its place in `domain/train`, `api/models/report.rs` or `api/models/leaderboard.rs` |
//! | an outcome of the back-test | `domain/feature/orders/period.rs`, `domain/train/backtest/report.rs`, `domain/train/backtest/tally.rs`, `api/models/backtest.rs`, `cli/train/backtest.rs`, `config/guides/training.md` |
//! | a setting of the automation policy | `domain/deployment/policy.rs`, `config/models/policy.rs`, `api/policy/settings.rs`, `config/default.toml` |
//! | an outlier rule | `domain/model/score.rs`, a file in `domain/model/outlier`, `domain/model/outlier/mod.rs`, `domain/model/outlier/invariance.rs`, `domain/model/conformal.rs`, `domain/model/document.rs`, a file in `domain/train/assembly/outlier_reference`, `domain/train/assembly/outlier_reference/mod.rs` |
//! | an alert channel | `domain/alert/target.rs`, a file in `outbound`, `outbound/mod.rs`, `service/alerts/delivery_outcome.rs`, `telemetry/labels.rs`, `api/alerting/channel_target.rs` |
//! | a field of an event about a move | `domain/customer_move.rs`, `service/alerts/moves/batch.rs`, `outbound/moves.rs`, `api/alerting/moves.rs` |
//! | an endpoint | a file in `api`, its route in `routes()` of the folder's `mod.rs` |
//! | an API scope | `domain/access/mod.rs`, `api/request/caller.rs` |
//! | a rate limit per key | `config/limits.rs`, `domain/access/api_key.rs`, `service/limits/rate_limits.rs`, `api/request_layer/rate_limit.rs`, `api/keys.rs`, `cli/keys.rs`, `store/api_keys.rs`, `app/parts.rs`, `telemetry/labels.rs` |
//! | a property of an API key | `domain/access/api_key.rs`, `migrations/0001_workspaces.sql` (for an instant also `stored_instants` in `migrations/0008_repair.sql`), `store/api_keys.rs`, `service/api_keys/registry.rs`, `service/api_keys/authenticator.rs`, `api/keys.rs`, `cli/keys.rs` |
//! | an export format | a file in `service/export`, `service/export/encode.rs`, `telemetry/labels.rs`, `api/customers/export.rs`, `cli/export.rs` |
//! | a setting | `config/default.toml`, its section in `config` |
//! | a metric | its area in `telemetry` |
//! | a column of `customer` | a migration (for an instant also `stored_instants` in `migrations/0008_repair.sql`), `store/customers/columns.rs` (a column shifts the later parameters), `store/customers/lock_free.rs`, `service/ingestion/commit/fold.rs`, `service/rescoring/mod.rs`, `service/backfill/batch.rs` |
//! | a dashboard page | HTML: a file in `api` with `api/html_page.rs`, its route in `api/mod.rs`; Grafana: `config/grafana/segmentd.json` |
//! | erasure of a customer | not implemented; by id: `event`, `customer`, `assignment_history`, `customer_link`, `backfill_range` (`store/customers`), `exposure` (`store/experiments/exposures.rs`), `audience_evaluation` (`store/audience_evaluation.rs`); by its text: `failed_event` (`store/failed_events.rs`); in memory: `service/ingestion/commit/cache.rs`, `service/ingestion/links/mod.rs`; how an id is detached from a customer: `service/ingestion/links/unlink.rs` |
pub mod domain;

pub mod config;
pub mod telemetry;

pub mod outbound;
pub mod store;

pub mod service;

pub mod api;

pub mod app;

pub mod cli;
