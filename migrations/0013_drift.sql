-- What each model met while it answered, by UTC hour: counts on the bins that were
-- fixed when it was trained. Replicas add to it, and hours and sources add up.
create table drift_window (
    model_id text not null references model,
    -- Who was answered: rows as they were sent, or customers with new events.
    source   text not null check (source in ('rows', 'events')),
    hour     timestamptz not null,
    -- How many counts there are. Another version of segmentd may lay them out
    -- otherwise; counts of different layouts never meet.
    width    integer not null check (width > 0),
    counts   bigint[] not null check (cardinality(counts) = width),
    primary key (model_id, width, hour, source)
);
create index drift_window_by_hour on drift_window (hour);
