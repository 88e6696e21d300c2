-- Sources of events, and rejected events.

-- Rejected events as received, for inspection and for replay after a fix. Their bodies
-- contain personal data and have a limited retention.
create table failed_event (
    failed_event_id bigint generated always as identity primary key,
    received_at     timestamptz not null,
    endpoint        text not null,
    -- The API key of the sender.
    key_id          text not null,
    -- The first fault without the sent value, to group by.
    reason          text not null,
    -- Every fault, one per line.
    faults          text not null,
    raw             text not null,
    -- False if truncated, or if invalid UTF-8 was replaced. Such events are not replayed.
    is_complete     boolean not null,
    replayed_at     timestamptz,
    outcome         text check (outcome in ('accepted', 'duplicate')),
    -- Sent by a public key. A replay stays in the namespace of that key.
    is_public       boolean not null default false,
    constraint failed_event_replayed check ((replayed_at is null) = (outcome is null))
);
create index failed_event_by_arrival on failed_event (received_at);

-- Recent senders of events, by endpoint and API key.
create table event_source (
    endpoint text not null,
    key_id   text not null,
    first_at timestamptz not null,
    last_at  timestamptz not null,
    primary key (endpoint, key_id)
);

-- Volume by UTC hour of arrival. Replicas add to the counts.
create table event_source_hour (
    endpoint           text not null,
    key_id             text not null,
    hour               timestamptz not null,
    events             bigint not null check (events >= 0),
    -- The longest time without an event that ended in this hour.
    longest_gap_millis bigint not null check (longest_gap_millis >= 0),
    primary key (endpoint, key_id, hour)
);
create index event_source_hour_by_hour on event_source_hour (hour);
