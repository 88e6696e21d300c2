-- History of assignments, partitioned by month so that old months are dropped whole, and
-- its positions, by which it is read as a feed of changes.

create sequence change_number;

-- Starts of the numbering of positions.
--
-- A position is a transaction number plus an offset. Transaction numbers belong to one
-- cluster and one timeline: a dump restored into another cluster, point-in-time recovery and
-- failover restart at lower numbers. Each such restart is an epoch with its own offset, so
-- that positions only grow. Existing rows and cursors stay as they are.
create table change_epoch (
    epoch             integer primary key,
    -- Of the cluster (`pg_control_system`); 0 if it may not be read.
    system_identifier bigint not null,
    timeline          bigint not null,
    -- The last surviving change of earlier epochs. A cursor after it and before
    -- `first_position` names a change that no longer exists.
    last_transaction  bigint not null,
    last_change       bigint not null,
    -- Lower bound of all positions of this epoch.
    first_position    bigint not null,
    -- Added to a transaction number.
    position_offset   bigint not null,
    begun_at          timestamptz not null,
    reason            text collate "C" not null
);

-- The offset of the current epoch: a constant that is inlined into statements, so that
-- writing a change costs no lookup. Replaced by `ensure_change_epoch`, after which Postgres
-- plans the statements that contain it anew.
create function change_offset() returns bigint language sql immutable as 'select 0::bigint';

-- One row per change of segment, model or audiences.
create table assignment_history (
    workspace_id        integer not null,
    customer_id         text collate "C" not null,
    assigned_at         timestamptz not null,
    generation          bigint not null,
    fallback            boolean not null,
    segment_id           text collate "C" not null,
    distance            real,
    outlier             boolean not null,
    -- All three null for a first assignment.
    previous_generation bigint,
    previous_fallback   boolean,
    previous_segment_id text collate "C",
    -- Ids of the audiences that the customer entered or left. Null for none.
    audiences_entered   integer[],
    audiences_left      integer[],
    -- Neither the segment nor the model changed.
    audiences_only      boolean not null default false,
    -- Readers page by (transaction, change) up to the oldest running transaction.
    --
    -- The own number alone does not order the changes of one customer: a transaction that
    -- took a number early and then waited for the customer's lock would precede the one it
    -- waited for. The newest completed transaction at the time of writing is at least that
    -- one's number. So the greater of both never decreases for one customer, and `change`
    -- orders equal numbers. It is at least the writer's own number, so a reader that stops
    -- at the oldest running transaction skips no row.
    transaction         xid8 not null default ((
        greatest(pg_current_xact_id()::text::bigint,
                 pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)
        + change_offset())::text::xid8),
    change              bigint not null default nextval('change_number'),
    -- The id was merged into this customer and is not counted any more.
    merged_into         text collate "C"
) partition by range (assigned_at);
create index assignment_history_by_customer on assignment_history
    (workspace_id, customer_id, assigned_at desc);
create index assignment_history_by_change on assignment_history (workspace_id, transaction, change);
-- History is written in the order of time, so block ranges find a period at almost no cost
-- for writers.
create index assignment_history_by_time on assignment_history
    using brin (workspace_id, assigned_at) with (pages_per_range = 32, autosummarize = on);

-- Rows of months without a partition, so that a missing partition refuses nothing.
create table assignment_history_other partition of assignment_history default;

-- Creates the partitions of the month of `at` and the next. Skips a month with rows in the
-- default partition.
create function make_history_partitions(at timestamptz) returns void language plpgsql as $$
declare
    first timestamptz;
    name text;
begin
    for step in 0..1 loop
        first := (date_trunc('month', at at time zone 'UTC') + make_interval(months => step))
                 at time zone 'UTC';
        name := 'assignment_history_' || to_char(first at time zone 'UTC', 'YYYY_MM');
        continue when to_regclass(name) is not null or exists (
            select from assignment_history_other
            where assigned_at >= first and assigned_at < first + interval '1 month');
        execute format('create table %I partition of assignment_history for values from (%L) to (%L)',
            name, first,
            ((first at time zone 'UTC') + interval '1 month') at time zone 'UTC');
    end loop;
end $$;

-- The last change of every dropped month: a reader with an earlier cursor has a gap.
create table history_dropped (
    workspace_id integer not null,
    month        text collate "C" not null,
    transaction  xid8 not null,
    change       bigint not null,
    primary key (workspace_id, month)
);

-- Drops the months that ended before `before`; returns their number.
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
            'insert into history_dropped
             select distinct on (workspace_id) workspace_id, %L, transaction, change from %I
             order by workspace_id, transaction desc, change desc
             on conflict (workspace_id, month) do update
                 set transaction = excluded.transaction, change = excluded.change',
            right(name, 7), name);
        execute format('drop table %I', name);
        dropped := dropped + 1;
    end loop;
    return dropped;
end $$;

-- The cluster and the timeline of this connection.
create function change_cluster(out system_identifier bigint, out timeline bigint)
language plpgsql as $$
begin
    begin
        select control.system_identifier into change_cluster.system_identifier
        from pg_control_system() as control;
    exception when insufficient_privilege or undefined_function then
        change_cluster.system_identifier := 0;
    end;
    -- The first eight hexadecimal digits of the name of a write-ahead log file.
    change_cluster.timeline :=
        ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint;
end $$;

-- The newest change of all workspaces that has not been dropped.
create function newest_change(out transaction bigint, out change bigint) language sql stable as $$
    select newest.transaction::text::bigint, newest.change
    from workspace cross join lateral (
        select history.transaction, history.change from assignment_history as history
        where history.workspace_id = workspace.workspace_id
        order by history.transaction desc, history.change desc limit 1) as newest
    order by newest.transaction desc, newest.change desc limit 1
$$;

-- The reason why a new epoch must begin; null while the current one is valid.
create function change_epoch_ended() returns text language plpgsql as $$
declare
    cluster record;
    current_epoch change_epoch;
    newest bigint;
begin
    if pg_is_in_recovery() then
        return null;
    end if;
    select * into cluster from change_cluster();
    select * into current_epoch from change_epoch order by epoch desc limit 1;
    if current_epoch is null then
        return 'first start';
    end if;
    if current_epoch.system_identifier <> cluster.system_identifier then
        return 'restored into another cluster';
    end if;
    if current_epoch.timeline <> cluster.timeline then
        return 'recovered on another timeline';
    end if;
    select transaction into newest from newest_change();
    if newest >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint + current_epoch.position_offset
    then
        return 'transaction numbers went back';
    end if;
    return null;
end $$;

-- Begins an epoch.
create function begin_change_epoch(begin_reason text) returns void language plpgsql as $$
declare
    cluster record;
    current_epoch change_epoch;
    newest record;
    dropped record;
    next_transaction bigint;
    start bigint := 0;
begin
    select * into cluster from change_cluster();
    select * into current_epoch from change_epoch order by epoch desc limit 1;
    select * into newest from newest_change();
    select transaction::text::bigint as transaction, change into dropped
    from history_dropped order by transaction desc, change desc limit 1;
    if newest.transaction is null or (dropped.transaction, dropped.change) > (newest.transaction, newest.change) then
        newest := dropped;
    end if;
    next_transaction := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
    -- The first epoch uses transaction numbers without an offset, if possible. Every other
    -- epoch begins 2^32 beyond all positions that its predecessor can have issued, which is
    -- more than a restore can have lost.
    if current_epoch.epoch is not null or newest.transaction >= next_transaction then
        start := ((greatest(coalesce(newest.transaction, 0), coalesce(current_epoch.first_position, 0),
                            next_transaction + coalesce(current_epoch.position_offset, 0)) >> 32) + 2) << 32;
    end if;
    insert into change_epoch values (
        coalesce(current_epoch.epoch, 0) + 1, cluster.system_identifier, cluster.timeline,
        coalesce(newest.transaction, 0), coalesce(newest.change, 0),
        -- Transactions that began before this one may still write after it.
        case when start = 0 then 0 else start - (1::bigint << 31) end,
        case when start = 0 then 0 else start - next_transaction end, now(), begin_reason);
    execute format(
        'create or replace function change_offset() returns bigint language sql immutable as %L',
        'select ' || case when start = 0 then 0 else start - next_transaction end || '::bigint');
end $$;

-- Begins an epoch if the current one has ended; returns the reason, or null. Called on each
-- new connection with write access, before its first use.
create function ensure_change_epoch() returns text language plpgsql as $$
declare
    end_reason text := change_epoch_ended();
begin
    if end_reason is null then
        return null;
    end if;
    -- One at a time. Each later statement of this transaction sees what others committed.
    perform pg_advisory_xact_lock(hashtextextended('segmentd change epoch', 0));
    end_reason := change_epoch_ended();
    if end_reason is not null then
        perform begin_change_epoch(end_reason);
    end if;
    return end_reason;
end $$;
