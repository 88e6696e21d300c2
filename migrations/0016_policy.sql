-- What the service does by itself, and from when on what is told as drift: each change
-- is a row, and the last one is in force. None: the settings are.
create table policy (
    version    bigint generated always as identity primary key,
    document   jsonb not null,
    changed_at timestamptz not null,
    changed_by text not null,
    reason     text not null
);

-- What it did, and why.
create table policy_action (
    action_id  bigint generated always as identity primary key,
    action     text not null check (action in ('retrain', 'refresh', 'fall_back', 'roll_back')),
    -- The alert that it was done for once, or the model.
    about      text not null,
    taken_at   timestamptz not null,
    reason     text not null
);
create index policy_action_by_about on policy_action (action, about, taken_at);

-- A model is taken out, and rules answer.
alter table model_decision drop constraint model_decision_step_check;
alter table model_decision add constraint model_decision_step_check check
    (step in ('shadow', 'canary', 'promote', 'retire', 'reject', 'rollback', 'fall_back'));
