-- Feature sets, models, deployments and training runs.

-- Feature sets by the SHA-256 of their normal form. Rows are never changed.
create table feature_set (
    workspace_id   integer not null references workspace,
    feature_set_id text collate "C" not null,
    normal_form    text collate "C" not null,
    created_at     timestamptz not null,
    primary key (workspace_id, feature_set_id)
);

-- The properties that the serving feature set stores with events, and since when; null for all
-- events. Properties of events that arrived before were dropped. An empty kind or name means
-- every one; an empty property, which every set has, that a set was recorded.
create table stored_property (
    workspace_id integer not null references workspace,
    event_kind   text collate "C" not null,
    event_name   text collate "C" not null,
    property     text collate "C" not null,
    since        timestamptz,
    primary key (workspace_id, event_kind, event_name, property)
);

-- Artifacts by their SHA-256. Immutable except for `stage`.
create table model (
    workspace_id   integer not null,
    model_id       text collate "C" not null,
    feature_set_id text collate "C" not null,
    artifact       bytea not null,
    stage          text collate "C" not null
                   check (stage in ('candidate', 'shadow', 'canary', 'active', 'retired')),
    run_id         text collate "C",
    report         jsonb not null,
    created_at     timestamptz not null,
    primary key (workspace_id, model_id),
    foreign key (workspace_id, feature_set_id) references feature_set
);
create unique index model_one_active on model (workspace_id, stage) where stage = 'active';
create unique index model_one_canary on model (workspace_id, stage) where stage = 'canary';

-- Deployments. The row with the greatest generation serves; earlier rows are the history.
--
-- A generation has one model, so that the generation of an assignment identifies its model.
-- A deployment with a canary therefore has two rows: its own, and before it the row for
-- customers of the canary, whose active model is the canary.
create table deployment (
    workspace_id      integer not null references workspace,
    generation        bigint not null,
    active_model_id   text collate "C",
    previous_model_id text collate "C",
    changed_at        timestamptz not null,
    changed_by        text collate "C" not null,
    reason            text collate "C" not null,
    canary_generation bigint,
    -- Share of customers, selected by a hash of the id.
    canary_share      double precision,
    primary key (workspace_id, generation),
    foreign key (workspace_id, active_model_id) references model,
    foreign key (workspace_id, previous_model_id) references model,
    foreign key (workspace_id, canary_generation) references deployment,
    constraint deployment_complete_canary
        check ((canary_generation is null) = (canary_share is null))
);
insert into deployment values (1, 0, null, null, now(), 'migration', 'no model trained yet');

-- Every requested step of a model's life cycle, taken or refused.
create table model_decision (
    workspace_id integer not null,
    decision     bigint generated always as identity,
    model_id     text collate "C" not null,
    step         text collate "C" not null check (step in
                 ('shadow', 'canary', 'promote', 'retire', 'reject', 'rollback', 'fallback')),
    from_stage   text collate "C" not null,
    -- Null if the step was refused.
    to_stage     text collate "C",
    forced       boolean not null,
    decided_at   timestamptz not null,
    decided_by   text collate "C" not null,
    reason       text collate "C" not null,
    -- Each gate with its threshold and the measured value.
    gates        jsonb not null,
    primary key (workspace_id, decision),
    foreign key (workspace_id, model_id) references model
);
create index model_decision_by_model on model_decision (workspace_id, model_id, decision);

-- Correspondence of a model's segments to those of its predecessor, one row per relation.
-- Written with the model and never changed. All segments of a first model are born.
create table segment_lineage (
    workspace_id   integer not null,
    model_id       text collate "C" not null,
    line           integer not null,
    -- The model that served at training; null if there was none.
    predecessor_id text collate "C",
    event          text collate "C" not null
                   check (event in ('kept', 'born', 'died', 'split', 'merged', 'moved')),
    old_segment_id text collate "C",
    old_name       text collate "C",
    new_segment_id text collate "C",
    new_name       text collate "C",
    members        bigint not null,
    share_of_old   double precision,
    share_of_new   double precision,
    primary key (workspace_id, model_id, line),
    foreign key (workspace_id, model_id) references model,
    foreign key (workspace_id, predecessor_id) references model
);
create index segment_lineage_by_old on segment_lineage (workspace_id, old_segment_id);
create index segment_lineage_by_new on segment_lineage (workspace_id, new_segment_id);
create unique index segment_lineage_by_model
    on segment_lineage (workspace_id, model_id, new_segment_id) where event in ('kept', 'born');
-- Versions of personas: name, summary, owner and strategy that users give a segment. The last row
-- of a segment is in force.
create table persona (
    workspace_id integer not null references workspace,
    version      bigint generated always as identity,
    segment_id   text collate "C" not null,
    -- Null: the name from training applies.
    name         text collate "C",
    document     jsonb not null,
    -- The standout features of the segment at this change, to detect an outdated persona.
    standouts    jsonb not null,
    changed_at   timestamptz not null,
    changed_by   text collate "C" not null,
    reason       text collate "C" not null,
    primary key (workspace_id, version)
);
create index persona_by_segment on persona (workspace_id, segment_id, version);

-- The latest version of each persona.
create view current_persona as
    select distinct on (workspace_id, segment_id) *
    from persona order by workspace_id, segment_id, version desc;

-- The segments of each deployment, with their names: of the persona, else from training. A name from
-- training that is also another persona's gets the suffix ` (draft)`.
create view deployed_segment as
    select deployment.workspace_id, generation, new_segment_id as segment_id,
           coalesce(own.name, new_name || case when other.name is null then '' else ' (draft)' end)
               as name
    from deployment join segment_lineage using (workspace_id)
        left join current_persona as own
            on own.workspace_id = deployment.workspace_id and own.segment_id = new_segment_id
        left join current_persona as other
            on other.workspace_id = deployment.workspace_id and other.name = new_name
    where model_id = active_model_id and event in ('kept', 'born');

-- Training runs, which are their own queue: queued, then claimed under a lease.
create table training_run (
    workspace_id integer not null references workspace,
    run_id       text collate "C" not null,
    status       text collate "C" not null
                 check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    trigger      text collate "C" not null,
    -- The scheduled instant. Unique, so that replicas queue a scheduled run once.
    due_at       timestamptz,
    spec         jsonb not null,
    stage        text collate "C" not null default 'queued',
    done         bigint not null default 0,
    total        bigint not null default 0,
    model_id     text collate "C",
    report       jsonb,
    error        text collate "C",
    requested_at timestamptz not null,
    started_at   timestamptz,
    finished_at  timestamptz,
    -- Never deployed automatically.
    what_if      boolean not null default false,
    reason       text collate "C",
    -- Start of the current stage, from which the remaining time is estimated.
    stage_since  timestamptz,
    primary key (workspace_id, run_id),
    unique (workspace_id, due_at),
    foreign key (workspace_id, model_id) references model
);
create index training_run_queued on training_run (workspace_id, requested_at)
    where status in ('queued', 'running');

-- Agreement of shadow models with the responses. Replicas add to the counts.
create table shadow_count (
    workspace_id    integer not null,
    shadow_model_id text collate "C" not null,
    -- Empty for the rule-based fallback.
    live_model_id   text collate "C" not null,
    live_segment_id text collate "C" not null,
    shadow_segment_id  text collate "C" not null,
    -- Whether both are the same segment; null if the models share no segment.
    is_same         boolean,
    customers       bigint not null,
    live_outliers   bigint not null,
    shadow_outliers bigint not null,
    primary key (workspace_id, shadow_model_id, live_model_id, live_segment_id, shadow_segment_id),
    foreign key (workspace_id, shadow_model_id) references model
);

-- Versions of the automatic policy; the last row is in force. Without a row, the settings
-- apply.
create table policy (
    workspace_id integer not null references workspace,
    version      bigint generated always as identity,
    document     jsonb not null,
    changed_at   timestamptz not null,
    changed_by   text collate "C" not null,
    reason       text collate "C" not null,
    primary key (workspace_id, version)
);

-- Actions of the automatic policy.
create table policy_action (
    workspace_id integer not null,
    action_id    bigint generated always as identity,
    action       text collate "C" not null check (action in ('retrain', 'refresh', 'fallback', 'rollback')),
    -- The alert, for which an action happens once, or the model.
    subject      text collate "C" not null,
    taken_at     timestamptz not null,
    reason       text collate "C" not null,
    primary key (workspace_id, action_id)
);
create index policy_action_by_subject on policy_action (workspace_id, action, subject, taken_at);
