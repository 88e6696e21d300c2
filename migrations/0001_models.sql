-- Feature sets, models, deployments and training runs.
--
-- Conventions of all migrations: a primary key carries the name of its table, and every
-- instant is a timestamptz. Comments give what the names and constraints do not.

-- Feature sets by the SHA-256 of their normal form. Rows are never changed.
create table feature_set (
    feature_set_id text primary key,
    normal_form    text not null,
    created_at     timestamptz not null
);

-- Artifacts by their SHA-256. Immutable except for `stage`.
create table model (
    model_id       text primary key,
    feature_set_id text not null references feature_set,
    artifact       bytea not null,
    stage          text not null
                   check (stage in ('candidate', 'shadow', 'canary', 'active', 'retired')),
    run_id         text,
    report         jsonb not null,
    created_at     timestamptz not null
);
create unique index model_one_active on model (stage) where stage = 'active';
create unique index model_one_canary on model (stage) where stage = 'canary';

-- Deployments. The row with the greatest generation serves; earlier rows are the history.
--
-- A generation has one model, so that the generation of an assignment identifies its model.
-- A deployment with a canary therefore has two rows: its own, and before it the row for
-- customers of the canary, whose active model is the canary.
create table deployment (
    generation        bigint primary key,
    active_model_id   text references model,
    previous_model_id text references model,
    changed_at        timestamptz not null,
    changed_by        text not null,
    reason            text not null,
    canary_generation bigint references deployment,
    -- Share of customers, selected by a hash of the id.
    canary_share      double precision,
    constraint deployment_complete_canary
        check ((canary_generation is null) = (canary_share is null))
);
insert into deployment values (0, null, null, now(), 'migration', 'no model trained yet');

-- Every requested step of a model's life cycle, taken or refused.
create table model_decision (
    decision   bigint generated always as identity primary key,
    model_id   text not null references model,
    step       text not null check (step in
               ('shadow', 'canary', 'promote', 'retire', 'reject', 'rollback', 'fallback')),
    from_stage text not null,
    -- Null if the step was refused.
    to_stage   text,
    forced     boolean not null,
    decided_at timestamptz not null,
    decided_by text not null,
    reason     text not null,
    -- Each gate with its threshold and the measured value.
    gates      jsonb not null
);
create index model_decision_by_model on model_decision (model_id, decision);

-- Correspondence of a model's segments to those of its predecessor, one row per relation.
-- Written with the model and never changed. All segments of a first model are born.
create table segment_lineage (
    model_id       text not null references model,
    line           integer not null,
    -- The model that served at training; null if there was none.
    predecessor_id text references model,
    event          text not null
                   check (event in ('kept', 'born', 'died', 'split', 'merged', 'moved')),
    old_segment_id text,
    old_key        text,
    new_segment_id text,
    new_key        text,
    members        bigint not null,
    share_of_old   double precision,
    share_of_new   double precision,
    primary key (model_id, line)
);
create index segment_lineage_by_old on segment_lineage (old_segment_id);
create index segment_lineage_by_new on segment_lineage (new_segment_id);

-- Training runs, which are their own queue: queued, then claimed under a lease.
create table training_run (
    run_id       text primary key,
    status       text not null
                 check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    trigger      text not null,
    -- The scheduled instant. Unique, so that replicas queue a scheduled run once.
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
    finished_at  timestamptz,
    -- Never deployed automatically.
    what_if      boolean not null default false,
    reason       text,
    -- Start of the current stage, from which the remaining time is estimated.
    stage_since  timestamptz
);
create index training_run_queued on training_run (requested_at)
    where status in ('queued', 'running');

-- Agreement of shadow models with the responses. Replicas add to the counts.
create table shadow_count (
    shadow_model_id text not null references model,
    -- Empty for the rule-based fallback.
    live_model_id   text not null,
    live_segment    text not null,
    shadow_segment  text not null,
    -- Whether both are the same segment; null if the models share no segment.
    is_same         boolean,
    customers       bigint not null,
    live_outliers   bigint not null,
    shadow_outliers bigint not null,
    primary key (shadow_model_id, live_model_id, live_segment, shadow_segment)
);

-- Versions of the automatic policy; the last row is in force. Without a row, the settings
-- apply.
create table policy (
    version    bigint generated always as identity primary key,
    document   jsonb not null,
    changed_at timestamptz not null,
    changed_by text not null,
    reason     text not null
);

-- Actions of the automatic policy.
create table policy_action (
    action_id bigint generated always as identity primary key,
    action    text not null check (action in ('retrain', 'refresh', 'fallback', 'rollback')),
    -- The alert, for which an action happens once, or the model.
    subject   text not null,
    taken_at  timestamptz not null,
    reason    text not null
);
create index policy_action_by_subject on policy_action (action, subject, taken_at);
