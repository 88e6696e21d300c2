-- A third source: stored customers, some each hour. The row of an hour is also the mark
-- that its customers are counted: it is only ever inserted.
alter table drift_window drop constraint drift_window_source_check;
alter table drift_window add constraint drift_window_source_check
    check (source in ('rows', 'events', 'customers'));

-- Each hour takes a range of it. What a hash is made of never changes, so that updates
-- leave it alone.
create index customer_by_hash on customer (hashtextextended(customer_id, 0));

-- Who sends events, by the door and the id of the key: of those that sent any of late.
create table event_source (
    door     text not null,
    key_id   text not null,
    first_at timestamptz not null,
    last_at  timestamptz not null,
    primary key (door, key_id)
);

-- How much, by UTC hour of arrival; replicas add to it.
create table event_source_hour (
    door               text not null,
    key_id             text not null,
    hour               timestamptz not null,
    events             bigint not null check (events >= 0),
    -- The longest time without an event that ended in this hour.
    longest_gap_millis bigint not null check (longest_gap_millis >= 0),
    primary key (door, key_id, hour)
);
create index event_source_hour_by_hour on event_source_hour (hour);
