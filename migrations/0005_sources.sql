-- Sources of events, rejected events, and events that no feature uses.

-- Rejected events as received, for inspection and for replay after a fix. Their bodies
-- contain personal data and have a limited retention.
create table failed_event (
    workspace_id    integer not null,
    failed_event_id bigint generated always as identity,
    received_at     timestamptz not null,
    endpoint        text collate "C" not null,
    -- The API key of the sender.
    key_id          text collate "C" not null,
    -- The first fault without the sent value, to group by.
    reason          text collate "C" not null,
    -- Every fault, one per line.
    faults          text collate "C" not null,
    raw             text collate "C" not null,
    -- False if truncated, or if invalid UTF-8 was replaced. Such events are not replayed.
    is_complete     boolean not null,
    replayed_at     timestamptz,
    outcome         text collate "C" check (outcome in ('accepted', 'duplicate')),
    -- Sent by a public key. A replay stays in the namespace of that key.
    is_public       boolean not null default false,
    primary key (workspace_id, failed_event_id),
    constraint failed_event_replayed check ((replayed_at is null) = (outcome is null))
);
create index failed_event_by_arrival on failed_event (workspace_id, received_at);

-- Recent senders of events, by endpoint and API key.
create table event_source (
    workspace_id integer not null,
    endpoint     text collate "C" not null,
    key_id       text collate "C" not null,
    first_at     timestamptz not null,
    last_at      timestamptz not null,
    primary key (workspace_id, endpoint, key_id)
);

-- Volume by UTC hour of arrival. Replicas add to the counts.
create table event_source_hour (
    workspace_id       integer not null,
    endpoint           text collate "C" not null,
    key_id             text collate "C" not null,
    hour               timestamptz not null,
    events             bigint not null check (events >= 0),
    -- The longest time without an event that ended in this hour.
    longest_gap_millis bigint not null check (longest_gap_millis >= 0),
    primary key (workspace_id, endpoint, key_id, hour)
);
create index event_source_hour_by_hour on event_source_hour (workspace_id, hour);

-- Accepted events that no feature uses, by type and name, without any customer. Replicas add to
-- the counts. Names are deleted 35 days after their last event.
create table unused_event (
    workspace_id integer not null,
    reason       text collate "C" not null check (reason in ('unread', 'missing_property')),
    -- Empty in the row that counts all names beyond the maximum number.
    event_type   text collate "C" not null,
    -- Empty if the event has no name, or if its name must not be stored.
    name         text collate "C" not null,
    -- The declared name that was probably meant; empty if none is similar.
    nearest_name text collate "C" not null,
    -- The missing property; empty for 'unread'.
    property     text collate "C" not null,
    events       bigint not null check (events >= 0),
    first_at     timestamptz not null,
    last_at      timestamptz not null,
    -- The warning of the last event.
    warning      text collate "C" not null,
    primary key (workspace_id, reason, event_type, name, nearest_name, property)
);
