-- Alerts, notification channels, the transactional outbox of notifications, and the delivery of
-- moves.

-- State of an alarm between checks, before it fires.
create table alarm (
    workspace_id integer not null,
    key          text collate "C" not null,
    -- The monitored model; the state of another model starts anew.
    model_id     text collate "C" not null,
    state        jsonb not null,
    -- The alert of which it is a part; null before it first fires.
    alert_key    text collate "C",
    checked_at   timestamptz not null,
    primary key (workspace_id, key)
);

-- Last run of each job that one replica does for all.
create table alert_job (
    workspace_id integer not null,
    job          text collate "C" not null,
    ran_at       timestamptz not null,
    primary key (workspace_id, job)
);

create table alert (
    workspace_id               integer not null,
    alert_id                   text collate "C" not null,
    -- Order of alerts in lists.
    position                   bigint generated always as identity,
    key                        text collate "C" not null,
    topic                      text collate "C" not null,
    severity                   text collate "C" not null check (severity in ('notice', 'warning', 'critical')),
    owner                      text collate "C",
    subject                    jsonb not null,
    title                      text collate "C" not null,
    description                text collate "C" not null,
    advice                     text collate "C" not null,
    facts                      jsonb not null,
    -- The findings of one cause; empty for an alert about one problem.
    parts                      jsonb not null,
    picture                    jsonb,
    started_at                 timestamptz not null,
    -- Start of the latest firing: an alert that returns soon keeps its id.
    fired_at                   timestamptz not null,
    -- Channels that were notified before this instant are notified again.
    announced_at               timestamptz not null,
    last_seen_at               timestamptz not null,
    -- The alert returned within the cool-down, so nobody was notified again.
    is_notification_suppressed boolean not null,
    resolved_at                timestamptz,
    resolved_reason            text collate "C",
    acknowledged_at            timestamptz,
    acknowledged_by            text collate "C",
    acknowledged_note          text collate "C",
    primary key (workspace_id, alert_id),
    unique (workspace_id, position),
    check ((resolved_at is null) = (resolved_reason is null)),
    check ((acknowledged_at is null) = (acknowledged_by is null))
);
create unique index alert_one_firing on alert (workspace_id, key) where resolved_at is null;
create index alert_by_key on alert (workspace_id, key, position);
create index alert_by_end on alert (workspace_id, resolved_at) where resolved_at is not null;

-- Temporary suppression of notifications. A null column matches every alert.
create table silence (
    workspace_id integer not null references workspace,
    silence_id   text collate "C" not null,
    topic        text collate "C",
    owner        text collate "C",
    key_prefix   text collate "C",
    until        timestamptz not null,
    created_at   timestamptz not null,
    created_by   text collate "C" not null,
    reason       text collate "C" not null,
    primary key (workspace_id, silence_id)
);

create table channel (
    workspace_id             integer not null references workspace,
    channel_id               text collate "C" not null,
    name                     text collate "C" not null,
    -- Includes secrets.
    target                   jsonb not null,
    owners                   text[] collate "C" not null,
    topics                   text[] collate "C" not null,
    min_severity             text collate "C" not null
                             check (min_severity in ('notice', 'warning', 'critical')),
    escalation_delay_seconds integer not null check (escalation_delay_seconds >= 0),
    created_at               timestamptz not null,
    disabled_at              timestamptz,
    disabled_reason          text collate "C",
    primary key (workspace_id, channel_id),
    unique (workspace_id, name),
    check ((disabled_at is null) = (disabled_reason is null))
);

-- Audit trail of changes to channels, silences, alerts and deliveries.
create table alert_decision (
    workspace_id integer not null,
    decision     bigint generated always as identity,
    -- `channel`, `silence`, `alert` or `delivery`.
    subject_kind text collate "C" not null,
    subject_id   text collate "C" not null,
    step         text collate "C" not null,
    decided_at   timestamptz not null,
    decided_by   text collate "C" not null,
    reason       text collate "C" not null,
    primary key (workspace_id, decision)
);
create index alert_decision_by_subject
    on alert_decision (workspace_id, subject_kind, subject_id, decision);

-- Transactional outbox: notifications are written in the transaction that changes the alert.
create table delivery (
    workspace_id  integer not null,
    delivery_id   text collate "C" not null,
    -- Order of deliveries within one channel and key.
    position      bigint generated always as identity,
    channel_id    text collate "C" not null,
    -- A test notification has an id without an alert.
    alert_id      text collate "C" not null,
    key           text collate "C" not null,
    notice_state  text collate "C" not null check (notice_state in ('firing', 'resolved')),
    severity      text collate "C" not null check (severity in ('notice', 'warning', 'critical')),
    notice        jsonb not null,
    state         text collate "C" not null check (state in ('pending', 'delivered', 'failed', 'withdrawn')),
    -- Attempts since the delivery was created or sent again.
    attempts      integer not null,
    next_at       timestamptz not null,
    -- The replica that sends it, and the end of its exclusive right to do so.
    claim         text collate "C",
    claimed_until timestamptz,
    created_at    timestamptz not null,
    finished_at   timestamptz,
    primary key (workspace_id, delivery_id),
    unique (workspace_id, position),
    foreign key (workspace_id, channel_id) references channel on delete cascade,
    check ((state = 'pending') = (finished_at is null)),
    check ((claim is null) = (claimed_until is null))
);
create index delivery_due on delivery (workspace_id, channel_id, next_at) where state = 'pending';
create index delivery_in_order on delivery (workspace_id, channel_id, key, position)
    where state = 'pending';
create index delivery_by_alert on delivery (workspace_id, alert_id, position);
create index delivery_by_channel on delivery (workspace_id, channel_id, position);
create index delivery_by_end on delivery (workspace_id, finished_at)
    where finished_at is not null;

create table delivery_attempt (
    workspace_id    integer not null,
    attempt         bigint generated always as identity,
    delivery_id     text collate "C" not null,
    at              timestamptz not null,
    is_accepted     boolean not null,
    -- Null without a response.
    status          integer,
    response        text collate "C" not null,
    duration_millis bigint not null,
    primary key (workspace_id, attempt),
    foreign key (workspace_id, delivery_id) references delivery on delete cascade
);
create index delivery_attempt_by_delivery on delivery_attempt (workspace_id, delivery_id, attempt);

-- Delivery of moves between segments to the channels with the topic `moves`: a position in the
-- change feed for each channel, which advances after the receiver has accepted the changes.
create table move_delivery (
    workspace_id  integer not null,
    channel_id    text collate "C" not null,
    -- The last change (`assignment_history`) that needs no delivery any more.
    transaction   xid8 not null,
    change        bigint not null,
    -- Epoch of the feed in which the position was set: a restore since then may have lost changes.
    epoch         integer not null,
    -- Changes before the position were lost, and the receiver does not know it yet.
    has_gap       boolean not null,
    -- Failed attempts since the last accepted message.
    attempts      integer not null,
    next_at       timestamptz not null,
    -- The replica that sends the next message, and the end of its exclusive right to do so.
    claim         text collate "C",
    claimed_until timestamptz,
    primary key (workspace_id, channel_id),
    foreign key (workspace_id, channel_id) references channel on delete cascade,
    check ((claim is null) = (claimed_until is null))
);
