-- A run may be called off, may be only a question (it is never made live by
-- itself), and may say what it is for.
alter table training_run drop constraint training_run_status_check;
alter table training_run add constraint training_run_status_check
    check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled'));
alter table training_run
    add column what_if boolean not null default false,
    add column reason text,
    -- Since when it has been at its stage: what the time left is estimated from.
    add column stage_since timestamptz;
