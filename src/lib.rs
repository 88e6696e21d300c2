//! segmentd: which segment a customer is in, the moment an event arrives.
//!
//! An event goes in over HTTP. In one transaction it is stored once, folded
//! into its customer's state, and the customer's features are scored against
//! the live model; the answer carries the score. Models are trained from the
//! same states by the same code, sealed as one document named by its SHA-256,
//! and swapped in while requests flow.
//!
//! # Bounded resources
//!
//! What a request takes is bounded before it is made, and shared between keys
//! ([`service::fair_share`]): memory ([`service::memory`]: bodies, what they unpack to and
//! are parsed into, queued events, answers), the queue of intake, the threads for large
//! bodies ([`service::heavy`], one less than there are cores, where keys take turns), a
//! quota of events per second ([`service::event_quota`]), and training runs. Arrays are
//! bounded while they are parsed (`domain::wire::bounded`).
//!
//! # Levels
//!
//! A folder imports only from smaller levels; equal levels never see each
//! other. `tests/pure/tidy.rs` holds this.
//!
//! | level | folder | what |
//! |---|---|---|
//! | 7 | `main.rs` | the process |
//! | 6 | [`cli`] | commands |
//! | 5 | [`app`] | wiring: builds everything once, starts and drains it |
//! | 4 | [`api`] | JSON over HTTP |
//! | 3 | [`service`] | use cases and background work |
//! | 2 | [`store`], [`outbound`] | Postgres, the only SQL; other people's servers |
//! | 1 | [`config`], [`telemetry`] | settings; metrics and logs |
//! | 0 | [`domain`] | what segments are: pure, no I/O, no clock |
//!
//! One noun has the same name in every level: events are `domain::event`,
//! `store::events`, `service::intake`, `api::events`.
//!
//! # Flows
//!
//! **A request.** `app::serve` accepts the connection, within limits by listener and by
//! address, and closes those that send nothing. `api::gate` authenticates by the head,
//! takes a share of the capacity of the request's class for its key
//! (`service::fair_share`), and only then calls the handler, which reads the body within
//! a deadline and a minimum rate (`api::body`). The share is given back when the
//! response has been sent. Where a key may be inside the body (`api::segment`), the body
//! is read from a small capacity of its own.
//!
//! **An event.** `api::events` or `api::segment` → `domain::wire` →
//! `service::intake`: the shard of its customer gathers what comes while its
//! last commit is on its way, a queue for each key (`service::round_robin`). A worker, on a thread and a connection of its own so
//! that it waits for no request, makes one transaction of it: customers written
//! lately are known (`service::intake::cache`), the others are read;
//! `domain::feature` folds, the [`service::live::Lineup`] scores. For a request of one
//! event its own thread does so while it waits (`service::intake::ahead`). One statement
//! (`store::optimistic`) inserts the new events, writes each row that is still what
//! was known, all or none, and records who moved, for `api::changes` to tell. Where
//! somebody else was in the way, `store::events` inserts and locks the customers
//! first, in key order. The answer is given once the commit is on disk. What is
//! rejected is kept by `service::failed`.
//!
//! **Somebody logs in.** An event may carry a link: two ids are one customer.
//! What it says is recorded by `store::links`; [`domain::identity`] tells from all
//! links which ids are one; `service::intake` then keeps the customer's state under
//! the last of the chain, and the rows of the other ids point there
//! (`store::identity`). `DELETE …/links/{from}` goes the same way back.
//! A public key, as it stands in web pages, links only what it introduced
//! (`service::intake::public`), and its message ids are a namespace of their own
//! ([`domain::access::Sender`]).
//!
//! **A retrain.** `service::training` takes the lease, reads every state as of
//! one instant, and calls `domain::train` on threads of its own at the lowest
//! priority; `domain::train::lineage` gives its segments the names that they have
//! in the live model. The sealed model is registered, promoted by
//! `service::registry` (one row of the lineup, one NOTIFY), opened and self-tested
//! by `service::live` on every replica, and published with one pointer swap.
//! `service::reassign` then scores every stored customer again. Gates
//! ([`domain::lifecycle`]) may refuse it. On its way a model may stand in shadow
//! (`service::shadow` scores what was committed, and answers nobody) or in canary:
//! a lineup within the lineup, with a generation of its own, for some customers.
//!
//! **Time.** Windows move and recency grows without events. Whoever scores a
//! stored customer also notes until when that holds (`domain::recheck`, in the
//! customer's row), and `service::recheck` scores again those whose time has
//! come: by the same code, into the same history.
//!
//! **Drift.** What is answered is counted on the bins that the model was trained on
//! (`service::observe`), and written down by the hour (`service::drift`,
//! `store::drift`), where replicas add up; stored customers are drawn by the hour, each
//! once a day, and looked at within their segments too. `domain::drift` tells what is
//! certain and matters from what chance explains, and whose it is; its detectors add up
//! hour by hour what is too small for that, and lasts; who moves between segments it
//! tells from the history of assignments. Who sends events is counted too
//! (`service::sources`): [`domain::volume`] tells who has gone quiet or sends unlike
//! other weeks.
//!
//! **An alert.** `service::watch` checks for drift by the hour, and
//! [`domain::drift::Alarm`] tells what comes back from what comes once. Whoever finds
//! something calls `service::alerts` in its own transaction, which writes the alert and
//! a message to each channel that is to hear of it ([`domain::alert`]). The deliverer
//! claims what is due, [`outbound`] sends it, and a second transaction writes down what
//! came of it: at least once, and in order by channel and key.
//!
//! **A policy.** [`domain::policy`] is what is done about it without anybody:
//! `service::probation` takes back a model that has just gone live and answers badly
//! ([`domain::probation`]), `service::react` trains or falls back while drift is told,
//! and `service::registry` asks `service::policy` whether promotion is frozen. People
//! change it while it runs; each version and each deed is kept.
//!
//! **The database ends.** With a private server, `app::supervise` waits on its process
//! and starts it again with back-off ([`store::private`]); pools connect again by
//! themselves. `service::storage` checks every second whether Postgres answers and its
//! disk has room: `/readyz` and the metrics show it, and events are refused before the
//! disk is full. Scoring of feature rows needs none of it.
//!
//! **A score.** `api::score` → `domain::wire::rows` reads the body straight
//! into feature rows → the lineup scores them. No database on the path.
//! `api::inference` does the same for tensors, by `domain::wire::inference`.
pub mod domain;

pub mod config;
pub mod telemetry;

pub mod outbound;
pub mod store;

pub mod service;

pub mod api;

pub mod app;

pub mod cli;
