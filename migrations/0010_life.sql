-- The life of a model: shadow and canary between candidate and active, what was
-- decided about it and why, and what a shadow would have answered.

alter table model drop constraint model_stage_check;
alter table model add constraint model_stage_check
    check (stage in ('candidate', 'shadow', 'canary', 'active', 'retired'));
create unique index model_one_canary on model (stage) where stage = 'canary';

-- A generation names one model. A lineup with a canary has two: its own, and the
-- one before it for those whom the canary answers, a row whose active model is the
-- canary. So `generation` alone says of every assignment which model made it.
alter table lineup
    add column canary_generation bigint references lineup,
    -- Of the customers, by hash.
    add column canary_share double precision,
    add constraint lineup_whole_canary
        check ((canary_generation is null) = (canary_share is null));

-- Every step asked of a model, taken or refused.
create table model_decision (
    decision   bigint generated always as identity primary key,
    model_id   text not null references model,
    step       text not null check (step in ('shadow', 'canary', 'promote', 'retire', 'reject', 'rollback')),
    from_stage text not null,
    -- Null: refused.
    to_stage   text,
    forced     boolean not null,
    decided_at timestamptz not null,
    decided_by text not null,
    reason     text not null,
    -- Each gate with what it asked and what it found.
    gates      jsonb not null
);
create index model_decision_by_model on model_decision (model_id, decision);

-- How often a shadow's answer stood beside which live one; replicas add to it.
create table shadow_count (
    shadow_model_id text not null references model,
    -- Empty: the fallback answered.
    live_model_id   text not null,
    live_segment    text not null,
    shadow_segment  text not null,
    -- Whether both are one segment; null where the models have none in common.
    is_same         boolean,
    customers       bigint not null,
    live_outliers   bigint not null,
    shadow_outliers bigint not null,
    primary key (shadow_model_id, live_model_id, live_segment, shadow_segment)
);
