-- Customers, their events, their states; models and what is live; runs and keys.
-- Primary keys carry their table's name; instants are timestamptz in UTC.

-- Every feature set that ever was, by the SHA-256 of its normal form.
create table feature_set (
    feature_set_id text primary key,
    normal_form    text not null,
    created_at     timestamptz not null
);

-- One row an accepted event. The primary key is what makes intake idempotent.
create table event (
    message_id  text primary key,
    customer_id text not null,
    kind        text not null,
    name        text not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    properties  jsonb not null
);
-- Replay of one customer (a state of another feature set is rebuilt from events).
create index event_by_customer on event (customer_id, occurred_at);

-- What is kept so that features update with each event, in any order of
-- arrival. `state` is compact and tagged with its format and feature set.
create table customer (
    customer_id   text primary key,
    state         bytea not null,
    last_event_at timestamptz,
    updated_at    timestamptz not null
) with (fillfactor = 70);

-- A sealed artifact, addressed by its SHA-256; immutable. Only `stage` moves.
create table model (
    model_id       text primary key,
    feature_set_id text not null references feature_set,
    artifact       bytea not null,
    stage          text not null check (stage in ('candidate', 'active', 'retired')),
    run_id         text,
    report         jsonb not null,
    created_at     timestamptz not null
);
create unique index model_one_active on model (stage) where stage = 'active';

-- What is live: always the row with the greatest generation. Earlier rows are
-- the record of who changed what, when and why.
create table lineup (
    generation        bigint primary key,
    active_model_id   text references model,
    previous_model_id text references model,
    changed_at        timestamptz not null,
    changed_by        text not null,
    reason            text not null
);
insert into lineup values (0, null, null, now(), 'migration', 'nothing trained yet');

-- Where each customer stands now. No model: the rule-based fallback answered.
create table assignment (
    customer_id text primary key references customer on delete cascade,
    model_id    text references model,
    segment     text not null,
    distance    real,
    p_value     double precision,
    confidence  real,
    outlier     boolean not null,
    generation  bigint not null,
    assigned_at timestamptz not null
) with (fillfactor = 80);
create index assignment_by_generation on assignment (generation);
create index assignment_by_segment on assignment (model_id, segment);

-- One row whenever the segment or the model of a customer changes.
create table assignment_history (
    customer_id text not null references customer on delete cascade,
    assigned_at timestamptz not null,
    model_id    text,
    segment     text not null,
    distance    real,
    outlier     boolean not null,
    generation  bigint not null
);
create index assignment_history_by_customer on assignment_history (customer_id, assigned_at desc);

-- Training runs are their own queue: queued, then claimed under a lease.
create table training_run (
    run_id       text primary key,
    status       text not null check (status in ('queued', 'running', 'succeeded', 'failed')),
    trigger      text not null,
    -- The scheduled instant: replicas that tick together ask for one run.
    due_at       timestamptz unique,
    spec         jsonb not null,
    stage        text not null default 'queued',
    done         bigint not null default 0,
    total        bigint not null default 0,
    model_id     text references model,
    report       jsonb,
    error        text,
    requested_at timestamptz not null,
    started_at   timestamptz,
    finished_at  timestamptz
);
create index training_run_queued on training_run (requested_at) where status in ('queued', 'running');

-- Keys are shown once; only their SHA-256 is kept.
create table api_key (
    key_id     text primary key,
    name       text not null,
    secret_hash bytea not null,
    scopes     text[] not null,
    created_at timestamptz not null,
    revoked_at timestamptz
);
