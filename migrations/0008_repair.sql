-- Functions that find and repair wrong data: instants written by a process whose clock was
-- wrong, and sequences behind their columns after a restore.

-- Every column with an instant, and the treatment of a value in the future: 'clamp' sets it
-- to now, 'delete' deletes the row, 'rebuild' is repaired with the events, 'future' is valid.
-- `slack` is the normal distance into the future.
create function stored_instants()
returns table (table_name text, column_name text, treatment text, slack interval)
language sql immutable as $$
    values ('alarm', 'checked_at', 'clamp', interval '0'),
           ('alert', 'acknowledged_at', 'clamp', '0'),
           ('alert', 'announced_at', 'clamp', '0'),
           ('alert', 'fired_at', 'clamp', '0'),
           ('alert', 'last_seen_at', 'clamp', '0'),
           ('alert', 'resolved_at', 'clamp', '0'),
           ('alert', 'started_at', 'clamp', '0'),
           ('alert_decision', 'decided_at', 'clamp', '0'),
           ('alert_job', 'ran_at', 'clamp', '0'),
           ('api_key', 'created_at', 'clamp', '0'),
           ('api_key', 'expires_at', 'future', '0'),
           ('api_key', 'last_used_at', 'clamp', '0'),
           ('api_key', 'previous_secret_ends_at', 'future', '0'),
           ('api_key', 'revoked_at', 'clamp', '0'),
           ('api_key', 'rotated_at', 'clamp', '0'),
           ('assignment_history', 'assigned_at', 'clamp', '0'),
           ('audience', 'changed_at', 'clamp', '0'),
           ('backfill_range', 'begun_at', 'clamp', '0'),
           ('change_epoch', 'begun_at', 'clamp', '0'),
           ('channel', 'created_at', 'clamp', '0'),
           ('channel', 'disabled_at', 'clamp', '0'),
           ('customer', 'assigned_at', 'clamp', '0'),
           ('customer', 'last_event_at', 'rebuild', '0'),
           ('customer', 'moved_at', 'clamp', '0'),
           ('customer', 'next_rescore_at', 'future', '0'),
           ('customer', 'updated_at', 'clamp', '0'),
           ('customer_link', 'happened_at', 'clamp', '1 day'),
           ('customer_link', 'ignored_until', 'clamp', '1 day'),
           ('delivery', 'claimed_until', 'clamp', '27 hours'),
           ('delivery', 'created_at', 'clamp', '0'),
           ('delivery', 'finished_at', 'clamp', '0'),
           ('delivery', 'next_at', 'clamp', '27 hours'),
           ('delivery_attempt', 'at', 'clamp', '0'),
           ('deployment', 'changed_at', 'clamp', '0'),
           ('drift_segment_sums', 'hour', 'delete', '0'),
           ('drift_window', 'hour', 'delete', '0'),
           ('event', 'occurred_at', 'rebuild', '0'),
           ('event', 'received_at', 'rebuild', '0'),
           ('event_source', 'first_at', 'clamp', '0'),
           ('event_source', 'last_at', 'clamp', '0'),
           ('event_source_hour', 'hour', 'delete', '0'),
           ('experiment', 'changed_at', 'clamp', '0'),
           ('experiment', 'started_at', 'clamp', '0'),
           ('experiment', 'stopped_at', 'clamp', '0'),
           ('exposure', 'exposed_at', 'clamp', '1 day'),
           ('failed_event', 'received_at', 'clamp', '0'),
           ('failed_event', 'replayed_at', 'clamp', '0'),
           ('feature_set', 'created_at', 'clamp', '0'),
           ('model', 'created_at', 'clamp', '0'),
           ('model_decision', 'decided_at', 'clamp', '0'),
           ('move_delivery', 'claimed_until', 'clamp', '27 hours'),
           ('move_delivery', 'next_at', 'clamp', '27 hours'),
           ('persona', 'changed_at', 'clamp', '0'),
           ('policy', 'changed_at', 'clamp', '0'),
           ('policy_action', 'taken_at', 'clamp', '0'),
           ('segment_value', 'taken_at', 'delete', '0'),
           ('segment_value_flow', 'since', 'delete', '0'),
           ('segment_value_flow', 'taken_at', 'delete', '0'),
           ('silence', 'created_at', 'clamp', '0'),
           ('silence', 'until', 'future', '0'),
           ('stored_property', 'since', 'clamp', '0'),
           ('training_run', 'due_at', 'future', '0'),
           ('training_run', 'finished_at', 'clamp', '0'),
           ('training_run', 'requested_at', 'clamp', '0'),
           ('training_run', 'stage_since', 'clamp', '0'),
           ('training_run', 'started_at', 'clamp', '0'),
           ('unused_event', 'first_at', 'clamp', '0'),
           ('unused_event', 'last_at', 'clamp', '0')
$$;

-- Columns with instants of a workspace later than `at` plus the tolerance, with their number
-- of rows. With `mend`, they are clamped or deleted, and customers assigned in the future
-- become due.
create function future_instants(workspace integer, at timestamptz, tolerance interval, mend boolean)
returns table (instant text, late bigint)
language plpgsql as $$
declare
    column_of record;
    -- The condition of rows to find: of the workspace, or of the whole database.
    late_rows text;
begin
    if mend then
        update customer set next_rescore_at = at
        where workspace_id = workspace and assigned_at > at + tolerance;
    end if;
    for column_of in
        select * from stored_instants() where treatment in ('clamp', 'delete')
    loop
        instant := column_of.table_name || '.' || column_of.column_name;
        late_rows := format('%I > $1', column_of.column_name);
        if column_of.table_name <> 'change_epoch' then
            late_rows := format('workspace_id = %L and ', workspace) || late_rows;
        end if;
        if not mend then
            execute format('select count(*) from %I where ', column_of.table_name) || late_rows
            into late using at + tolerance + column_of.slack;
        else
            if column_of.treatment = 'clamp' then
                execute format('update %I set %I = $2 where ', column_of.table_name,
                               column_of.column_name) || late_rows
                using at + tolerance + column_of.slack, at;
            else
                execute format('delete from %I where ', column_of.table_name) || late_rows
                using at + tolerance + column_of.slack;
            end if;
            get diagnostics late = row_count;
        end if;
        if late > 0 then
            return next;
        end if;
    end loop;
end
$$;

-- Sequences whose next value is already stored, with that value and the greatest stored one.
create function sequences_behind(out sequence text, out next_value bigint, out greatest_value bigint)
returns setof record language plpgsql as $$
declare
    owned record;
    called boolean;
begin
    for owned in
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
        execute format('select last_value, is_called from %s', owned.name)
            into next_value, called;
        next_value := next_value + called::integer;
        execute format('select coalesce(max(%I), 0) from %s', owned.attribute, owned.owner)
            into greatest_value;
        sequence := owned.name::text;
        if greatest_value >= next_value then
            return next;
        end if;
    end loop;
end $$;
