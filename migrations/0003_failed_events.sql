-- Events that were not let in, as they came, to be looked at and replayed after
-- a fix. Their bodies hold personal data, and are kept for a while only.
create table failed_event (
    failed_event_id bigint generated always as identity primary key,
    received_at     timestamptz not null,
    door            text not null,
    -- Whose they are: the key that sent them.
    key_id          text not null,
    -- The first fault, without what was sent: to count by.
    reason          text not null,
    -- Every fault, one a line.
    faults          text not null,
    raw             text not null,
    -- False: cut short, or with unreadable bytes replaced. Not to be replayed.
    whole           boolean not null,
    replayed_at     timestamptz,
    outcome         text check (outcome in ('accepted', 'duplicate')),
    constraint failed_event_replayed check ((replayed_at is null) = (outcome is null))
);
create index failed_event_by_arrival on failed_event (received_at);
