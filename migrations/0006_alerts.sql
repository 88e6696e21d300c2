-- Alerts, notification channels and the transactional outbox of notifications.

-- State of an alarm between checks, before it fires.
create table alarm (
    key        text primary key,
    -- The monitored model; the state of another model starts anew.
    model_id   text not null,
    state      jsonb not null,
    checked_at timestamptz not null
);

-- Last run of each job that one replica does for all.
create table alert_job (
    job    text primary key,
    ran_at timestamptz not null
);

create table alert (
    alert_id          text primary key,
    -- Order of alerts in lists.
    position          bigint generated always as identity unique,
    key               text not null,
    topic             text not null,
    severity          text not null check (severity in ('notice', 'warning', 'critical')),
    owner             text,
    subject           jsonb not null,
    title             text not null,
    description       text not null,
    advice            text not null,
    facts             jsonb not null,
    picture           jsonb,
    started_at        timestamptz not null,
    -- Start of the latest firing: an alert that returns soon keeps its id.
    fired_at          timestamptz not null,
    last_seen_at      timestamptz not null,
    -- The alert returned within the cool-down, so nobody was notified again.
    is_notification_suppressed boolean not null,
    resolved_at       timestamptz,
    resolved_reason   text,
    acknowledged_at   timestamptz,
    acknowledged_by   text,
    acknowledged_note text,
    check ((resolved_at is null) = (resolved_reason is null)),
    check ((acknowledged_at is null) = (acknowledged_by is null))
);
create unique index alert_one_firing on alert (key) where resolved_at is null;
create index alert_by_key on alert (key, position);
create index alert_by_end on alert (resolved_at) where resolved_at is not null;

-- Temporary suppression of notifications. A null column matches every alert.
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
    channel_id               text primary key,
    name                     text not null unique,
    -- Includes secrets.
    target                   jsonb not null,
    owners                   text[] not null,
    topics                   text[] not null,
    min_severity             text not null
                             check (min_severity in ('notice', 'warning', 'critical')),
    escalation_delay_seconds integer not null check (escalation_delay_seconds >= 0),
    created_at               timestamptz not null,
    disabled_at              timestamptz,
    disabled_reason          text,
    check ((disabled_at is null) = (disabled_reason is null))
);

-- Audit trail of changes to channels, silences, alerts and deliveries.
create table alert_decision (
    decision     bigint generated always as identity primary key,
    -- `channel`, `silence`, `alert` or `delivery`.
    subject_kind text not null,
    subject_id   text not null,
    step         text not null,
    decided_at   timestamptz not null,
    decided_by   text not null,
    reason       text not null
);
create index alert_decision_by_subject on alert_decision (subject_kind, subject_id, decision);

-- Transactional outbox: notifications are written in the transaction that changes the alert.
create table delivery (
    delivery_id   text primary key,
    -- Order of deliveries within one channel and key.
    position      bigint generated always as identity unique,
    channel_id    text not null references channel on delete cascade,
    -- A test notification has an id without an alert.
    alert_id      text not null,
    key           text not null,
    notice_state  text not null check (notice_state in ('firing', 'resolved')),
    severity      text not null check (severity in ('notice', 'warning', 'critical')),
    notice        jsonb not null,
    state         text not null check (state in ('pending', 'delivered', 'failed', 'withdrawn')),
    -- Attempts since the delivery was created or sent again.
    attempts      integer not null,
    next_at       timestamptz not null,
    -- The replica that sends it, and the end of its exclusive right to do so.
    claim         text,
    claimed_until timestamptz,
    created_at    timestamptz not null,
    finished_at   timestamptz,
    check ((state = 'pending') = (finished_at is null)),
    check ((claim is null) = (claimed_until is null))
);
create index delivery_due on delivery (channel_id, next_at) where state = 'pending';
create index delivery_in_order on delivery (channel_id, key, position) where state = 'pending';
create index delivery_by_alert on delivery (alert_id, position);
create index delivery_by_channel on delivery (channel_id, position);
create index delivery_by_end on delivery (finished_at) where finished_at is not null;

create table delivery_attempt (
    attempt         bigint generated always as identity primary key,
    delivery_id     text not null references delivery on delete cascade,
    at              timestamptz not null,
    is_accepted     boolean not null,
    -- Null without a response.
    status          integer,
    response        text not null,
    duration_millis bigint not null
);
create index delivery_attempt_by_delivery on delivery_attempt (delivery_id, attempt);
