-- Counts for drift monitoring.

-- Scored rows of each model by UTC hour: counts on the bins that were fixed at training.
-- Replicas add to the counts; counts of hours and sources can be added.
create table drift_window (
    workspace_id integer not null,
    model_id     text collate "C" not null,
    -- Rows of scoring requests, customers with new events, or stored customers sampled each
    -- hour. The row of an hour of 'customers' also marks that hour as sampled: it is only
    -- ever inserted.
    source       text collate "C" not null check (source in ('rows', 'events', 'customers')),
    hour         timestamptz not null,
    -- Number of counts. Other versions of segmentd may have other layouts; counts of
    -- different layouts are never added.
    width        integer not null check (width > 0),
    counts       bigint[] not null check (cardinality(counts) = width),
    -- API key of the scoring requests, so that a check can leave out any one key. Empty for
    -- counts without a key, and for sums of keys over old hours.
    key_id       text collate "C" not null default '',
    primary key (workspace_id, model_id, width, hour, source, key_id),
    foreign key (workspace_id, model_id) references model
);
create index drift_window_by_hour on drift_window (workspace_id, hour);
create index drift_window_by_key on drift_window (workspace_id, hour) where key_id <> '';

-- Moments of the customers sampled each hour within the segments that they score into: the
-- number of rows, and per encoded column and for the distance, the sum of differences from
-- the mean at training and of their squares. Written with the row of 'customers' in
-- drift_window. Hours can be added.
create table drift_segment_sums (
    workspace_id integer not null,
    model_id     text collate "C" not null,
    hour         timestamptz not null,
    -- Sums per segment: the columns and the distance. Other versions of segmentd may have
    -- others; sums of different widths are never added.
    width        integer not null check (width > 0),
    rows         bigint[] not null,
    sums         float8[] not null check (cardinality(sums) = width * cardinality(rows)),
    squares      float8[] not null check (cardinality(squares) = cardinality(sums)),
    primary key (workspace_id, model_id, width, hour),
    foreign key (workspace_id, model_id) references model
);
create index drift_segment_sums_by_hour on drift_segment_sums (workspace_id, hour);
