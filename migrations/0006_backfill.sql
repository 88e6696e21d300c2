-- What is left of rebuilding every state: a range of customer ids a row, in the
-- database's order, removed when it is done. Whoever works on one holds its
-- lock, so that a range whose worker was killed is free again.
create table backfill_range (
    feature_set_id text not null,
    -- Ids after this one; empty: from the first.
    after_id       text not null,
    -- Up to and with this one; null: to the last.
    upto_id        text,
    begun_at       timestamptz not null,
    primary key (feature_set_id, after_id)
);
