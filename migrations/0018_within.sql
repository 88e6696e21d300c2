-- How the customers drawn by the hour lay within the segments that they score into:
-- rows, and how far each encoded column, and the distance, is from where it was at
-- training, and its square, summed. Of the same customers as the hour's counts in
-- drift_window, written with them. Hours add up.
create table drift_within (
    model_id text not null references model,
    hour     timestamptz not null,
    -- Sums of a segment: its columns, and the distance. Another version of segmentd
    -- may have others; sums of different widths never meet.
    width    integer not null check (width > 0),
    rows     bigint[] not null,
    sums     float8[] not null check (cardinality(sums) = width * cardinality(rows)),
    squares  float8[] not null check (cardinality(squares) = cardinality(sums)),
    primary key (model_id, width, hour)
);
create index drift_within_by_hour on drift_within (hour);

-- Who moves between segments is told of a period. History is written in the order of
-- time, so block ranges find a period, and cost those who write it next to nothing.
create index assignment_history_by_time on assignment_history
    using brin (assigned_at) with (pages_per_range = 32, autosummarize = on);
