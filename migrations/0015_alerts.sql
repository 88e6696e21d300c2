-- What people are to hear of: alerts, who hears of them, and what was sent to whom.

-- What is remembered of an alarm between the checks that may make it fire.
create table alarm (
    key        text primary key,
    -- What it is about; another model begins anew.
    model_id   text not null,
    state      jsonb not null,
    checked_at timestamptz not null
);

-- When work that one replica does for all was done last.
create table alert_job (
    job    text primary key,
    ran_at timestamptz not null
);

create table alert (
    alert_id          text primary key,
    -- Orders alerts in lists.
    place             bigint generated always as identity unique,
    key               text not null,
    topic             text not null,
    severity          text not null check (severity in ('notice', 'warning', 'critical')),
    owner             text,
    subject           jsonb not null,
    title             text not null,
    what              text not null,
    advice            text not null,
    facts             jsonb not null,
    picture           jsonb,
    started_at        timestamptz not null,
    -- When it began to fire the last time: one that is soon back keeps its id.
    fired_at          timestamptz not null,
    last_seen_at      timestamptz not null,
    -- It is back too soon for anybody to be told.
    is_untold         boolean not null,
    resolved_at       timestamptz,
    resolved_why      text,
    acknowledged_at   timestamptz,
    acknowledged_by   text,
    acknowledged_note text,
    check ((resolved_at is null) = (resolved_why is null)),
    check ((acknowledged_at is null) = (acknowledged_by is null))
);
create unique index alert_one_firing on alert (key) where resolved_at is null;
create index alert_by_key on alert (key, place);
create index alert_by_end on alert (resolved_at) where resolved_at is not null;

-- What is not told for a while; what is null does not matter.
create table silence (
    silence_id text primary key,
    topic      text,
    owner      text,
    key_prefix text,
    until      timestamptz not null,
    created_at timestamptz not null,
    created_by text not null,
    reason     text not null
);

create table channel (
    channel_id     text primary key,
    name           text not null unique,
    -- With its secrets.
    target         jsonb not null,
    owners         text[] not null,
    topics         text[] not null,
    least_severity text not null check (least_severity in ('notice', 'warning', 'critical')),
    after_seconds  integer not null check (after_seconds >= 0),
    created_at     timestamptz not null,
    disabled_at    timestamptz,
    disabled_why   text,
    check ((disabled_at is null) = (disabled_why is null))
);

-- Who changed what of all this, and why.
create table alert_decision (
    decision   bigint generated always as identity primary key,
    -- `channel`, `silence`, `alert` or `delivery`, and which.
    about      text not null,
    about_id   text not null,
    step       text not null,
    decided_at timestamptz not null,
    decided_by text not null,
    reason     text not null
);
create index alert_decision_by_subject on alert_decision (about, about_id, decision);

-- What is to be sent, written in the transaction that finds it (an outbox), and
-- what has been.
create table delivery (
    delivery_id   text primary key,
    -- Of one channel and key, what has a smaller one is sent before.
    place         bigint generated always as identity unique,
    channel_id    text not null references channel on delete cascade,
    -- Of a test there is no alert.
    alert_id      text not null,
    key           text not null,
    notice_state  text not null check (notice_state in ('firing', 'resolved')),
    severity      text not null check (severity in ('notice', 'warning', 'critical')),
    notice        jsonb not null,
    state         text not null check (state in ('waiting', 'delivered', 'dead', 'withdrawn')),
    -- Of this round: sent again by hand, it has all of them again.
    attempts      integer not null,
    next_at       timestamptz not null,
    -- Who is at it, and until when nobody else is.
    claim         text,
    claimed_until timestamptz,
    created_at    timestamptz not null,
    finished_at   timestamptz,
    check ((state = 'waiting') = (finished_at is null)),
    check ((claim is null) = (claimed_until is null))
);
create index delivery_due on delivery (channel_id, next_at) where state = 'waiting';
create index delivery_in_order on delivery (channel_id, key, place) where state = 'waiting';
create index delivery_by_alert on delivery (alert_id, place);
create index delivery_by_channel on delivery (channel_id, place);
create index delivery_by_end on delivery (finished_at) where finished_at is not null;

create table delivery_attempt (
    attempt     bigint generated always as identity primary key,
    delivery_id text not null references delivery on delete cascade,
    at          timestamptz not null,
    is_taken    boolean not null,
    -- Null: there was no answer.
    status      integer,
    answer      text not null,
    took_millis bigint not null
);
create index delivery_attempt_by_delivery on delivery_attempt (delivery_id, attempt);
