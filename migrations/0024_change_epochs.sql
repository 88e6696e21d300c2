-- Positions in the feed of changes that survive a restore.
--
-- A position is the number of a transaction plus an offset. Transaction numbers
-- belong to one cluster and one timeline: a dump that is restored into another
-- cluster, point-in-time recovery and failover all begin again at lower numbers.
-- Each such beginning is an epoch with an offset of its own, so that positions only
-- ever grow. Rows already written, and cursors already given out, stay as they are.

create table change_epoch (
    epoch             integer primary key,
    -- Of the cluster (`pg_control_system`); 0 where that may not be read.
    system_identifier bigint not null,
    timeline          bigint not null,
    -- The last change that survived from the epochs before. A cursor behind it and
    -- before `first_position` names a change that no longer exists.
    last_transaction  bigint not null,
    last_change       bigint not null,
    -- Every position of this epoch is at least this.
    first_position    bigint not null,
    -- Added to a transaction number.
    position_offset   bigint not null,
    begun_at          timestamptz not null,
    reason            text not null
);

-- The offset of the current epoch: a constant that is inlined into statements, so
-- that writing a change costs no lookup. Replaced by `ensure_change_epoch`; Postgres
-- then plans statements that contain it anew.
create function change_offset() returns bigint language sql immutable as 'select 0::bigint';

alter table assignment_history alter column transaction set default ((
    greatest(pg_current_xact_id()::text::bigint,
             pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)
    + change_offset())::text::xid8);

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
    -- The first eight hexadecimal digits of a file of the write-ahead log.
    change_cluster.timeline :=
        ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint;
end $$;

-- Why another epoch has to begin; null while the current one holds.
create function change_epoch_ended() returns text language plpgsql as $$
declare
    here record;
    present change_epoch;
    newest bigint;
begin
    if pg_is_in_recovery() then
        return null;
    end if;
    select * into here from change_cluster();
    select * into present from change_epoch order by epoch desc limit 1;
    if present is null then
        return 'first start';
    end if;
    if present.system_identifier <> here.system_identifier then
        return 'restored into another cluster';
    end if;
    if present.timeline <> here.timeline then
        return 'recovered on another timeline';
    end if;
    select transaction::text::bigint into newest
    from assignment_history order by transaction desc, change desc limit 1;
    if newest >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint + present.position_offset
    then
        return 'transaction numbers went back';
    end if;
    return null;
end $$;

-- Begins an epoch for the given reason.
create function begin_change_epoch(why text) returns void language plpgsql as $$
declare
    here record;
    present change_epoch;
    newest record;
    dropped record;
    next_transaction bigint;
    start bigint := 0;
begin
    select * into here from change_cluster();
    select * into present from change_epoch order by epoch desc limit 1;
    select transaction::text::bigint as transaction, change into newest
    from assignment_history order by transaction desc, change desc limit 1;
    select transaction::text::bigint as transaction, change into dropped
    from history_dropped order by transaction desc, change desc limit 1;
    if newest is null or (dropped.transaction, dropped.change) > (newest.transaction, newest.change) then
        newest := dropped;
    end if;
    next_transaction := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
    -- The first epoch of all leaves the numbers as they are, where it can. Any other
    -- begins 2^32 beyond every number that its predecessor can have given out, which
    -- is more than what a restore can have lost.
    if present.epoch is not null or newest.transaction >= next_transaction then
        start := ((greatest(coalesce(newest.transaction, 0), coalesce(present.first_position, 0),
                            next_transaction + coalesce(present.position_offset, 0)) >> 32) + 2) << 32;
    end if;
    insert into change_epoch values (
        coalesce(present.epoch, 0) + 1, here.system_identifier, here.timeline,
        coalesce(newest.transaction, 0), coalesce(newest.change, 0),
        -- Room for transactions that began before this one and write after it.
        case when start = 0 then 0 else start - (1::bigint << 31) end,
        case when start = 0 then 0 else start - next_transaction end, now(), why);
    execute format(
        'create or replace function change_offset() returns bigint language sql immutable as %L',
        'select ' || case when start = 0 then 0 else start - next_transaction end || '::bigint');
end $$;

-- Begins an epoch if the current one has ended; returns why, or null. Called for each
-- new connection that may write, before it is used.
create function ensure_change_epoch() returns text language plpgsql as $$
declare
    why text := change_epoch_ended();
begin
    if why is null then
        return null;
    end if;
    -- One at a time. Each statement from here on sees what others have committed.
    perform pg_advisory_xact_lock(hashtextextended('segmentd change epoch', 0));
    why := change_epoch_ended();
    if why is not null then
        perform begin_change_epoch(why);
    end if;
    return why;
end $$;

-- Sequences that would give a number which is taken: the column, the next number and
-- the greatest that is stored.
create function sequences_behind(out sequence text, out next_value bigint, out greatest_value bigint)
returns setof record language plpgsql as $$
declare
    one record;
    called boolean;
begin
    for one in
        select seq.oid::regclass as name, tab.oid::regclass as owner, att.attname as attribute
        from pg_class seq
             join pg_depend dep on dep.classid = 'pg_class'::regclass and dep.objid = seq.oid
                  and dep.refclassid = 'pg_class'::regclass and dep.deptype in ('a', 'i')
             join pg_class tab on tab.oid = dep.refobjid
             join pg_attribute att on att.attrelid = tab.oid and att.attnum = dep.refobjsubid
        where seq.relkind = 'S' and seq.relnamespace = current_schema()::regnamespace
        union all
        select 'change_number'::regclass, 'assignment_history'::regclass, 'change'
    loop
        execute format('select last_value, is_called from %s', one.name)
            into next_value, called;
        next_value := next_value + called::integer;
        execute format('select coalesce(max(%I), 0) from %s', one.attribute, one.owner)
            into greatest_value;
        sequence := one.name::text;
        if greatest_value >= next_value then
            return next;
        end if;
    end loop;
end $$;
