-- The history as a feed: one customer's changes in the order in which they were
-- made, and a mark that tells a reader what it has missed.

-- By its number alone, a transaction that took it early, then waited for a
-- customer's lock, would stand before the one that it waited for. What had
-- completed when the line was written cannot be less than that one's number, so
-- the greater of both is never less than it was for an earlier line of the same
-- customer, and `change` settles the rest. It is never less than the writer's own
-- number either, so a reader who stops at the oldest transaction still running
-- passes no line by.
alter table assignment_history alter column transaction set default greatest(
    pg_current_xact_id(),
    (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8);

-- The last line of every month that was dropped: who asks for what comes after
-- an earlier one has missed something.
create table history_dropped (
    month       text primary key,
    transaction xid8 not null,
    change      bigint not null
);

-- Drops the months that ended before `before`; returns how many.
create function drop_history_partitions(before timestamptz) returns integer
language plpgsql as $$
declare
    name text;
    dropped integer := 0;
begin
    for name in
        select relname from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = 'assignment_history'::regclass
          and relname ~ '^assignment_history_\d{4}_\d{2}$'
          and to_date(right(relname, 7), 'YYYY_MM') + interval '1 month' <= before at time zone 'UTC'
    loop
        execute format(
            'insert into history_dropped select %L, transaction, change from %I
             order by transaction desc, change desc limit 1
             on conflict (month) do update
                 set transaction = excluded.transaction, change = excluded.change',
            right(name, 7), name);
        execute format('drop table %I', name);
        dropped := dropped + 1;
    end loop;
    return dropped;
end $$;
