-- Rows that are sent to be scored are counted by API key, so that a check can leave any
-- one key out. '': not counted by key. The counts of hours too long ago are summed up
-- under ''.
alter table drift_window add column key_id text not null default '';
alter table drift_window drop constraint drift_window_pkey;
alter table drift_window add primary key (model_id, width, hour, source, key_id);
create index drift_window_by_key on drift_window (hour) where key_id <> '';

-- Instants written by a process whose clock was wrong.
--
-- Every column with an instant, and what becomes of one that is later than now: 'clamp'
-- sets it to now, 'delete' deletes the row, 'rebuild' belongs to events and what is made
-- of them, 'future' may be later than now. `slack` is how much later than now is normal.
create function stored_instants()
returns table (table_name text, column_name text, treatment text, slack interval)
language sql immutable as $$
    values ('alarm', 'checked_at', 'clamp', interval '0'),
           ('alert', 'acknowledged_at', 'clamp', '0'),
           ('alert', 'fired_at', 'clamp', '0'),
           ('alert', 'last_seen_at', 'clamp', '0'),
           ('alert', 'resolved_at', 'clamp', '0'),
           ('alert', 'started_at', 'clamp', '0'),
           ('alert_decision', 'decided_at', 'clamp', '0'),
           ('alert_job', 'ran_at', 'clamp', '0'),
           ('api_key', 'created_at', 'clamp', '0'),
           ('api_key', 'revoked_at', 'clamp', '0'),
           ('assignment_history', 'assigned_at', 'clamp', '0'),
           ('backfill_range', 'begun_at', 'clamp', '0'),
           ('change_epoch', 'begun_at', 'clamp', '0'),
           ('channel', 'created_at', 'clamp', '0'),
           ('channel', 'disabled_at', 'clamp', '0'),
           ('customer', 'assigned_at', 'clamp', '0'),
           ('customer', 'last_event_at', 'rebuild', '0'),
           ('customer', 'moved_at', 'clamp', '0'),
           ('customer', 'recheck_at', 'future', '0'),
           ('customer', 'updated_at', 'clamp', '0'),
           ('customer_link', 'happened_at', 'clamp', '1 day'),
           ('customer_link', 'void_until', 'clamp', '1 day'),
           ('delivery', 'claimed_until', 'clamp', '27 hours'),
           ('delivery', 'created_at', 'clamp', '0'),
           ('delivery', 'finished_at', 'clamp', '0'),
           ('delivery', 'next_at', 'clamp', '27 hours'),
           ('delivery_attempt', 'at', 'clamp', '0'),
           ('drift_window', 'hour', 'delete', '0'),
           ('drift_within', 'hour', 'delete', '0'),
           ('event', 'occurred_at', 'rebuild', '0'),
           ('event', 'received_at', 'rebuild', '0'),
           ('event_source', 'first_at', 'clamp', '0'),
           ('event_source', 'last_at', 'clamp', '0'),
           ('event_source_hour', 'hour', 'delete', '0'),
           ('failed_event', 'received_at', 'clamp', '0'),
           ('failed_event', 'replayed_at', 'clamp', '0'),
           ('feature_set', 'created_at', 'clamp', '0'),
           ('lineup', 'changed_at', 'clamp', '0'),
           ('model', 'created_at', 'clamp', '0'),
           ('model_decision', 'decided_at', 'clamp', '0'),
           ('policy', 'changed_at', 'clamp', '0'),
           ('policy_action', 'taken_at', 'clamp', '0'),
           ('silence', 'created_at', 'clamp', '0'),
           ('silence', 'until', 'future', '0'),
           ('training_run', 'due_at', 'future', '0'),
           ('training_run', 'finished_at', 'clamp', '0'),
           ('training_run', 'requested_at', 'clamp', '0'),
           ('training_run', 'stage_since', 'clamp', '0'),
           ('training_run', 'started_at', 'clamp', '0')
$$;

-- The columns with instants later than `at` and the tolerance, and how many; with `mend`
-- they are clamped or deleted. Customers that were assessed later than now become due.
create function future_instants(at timestamptz, tolerance interval, mend boolean)
returns table (instant text, late bigint)
language plpgsql as $$
declare
    column_of record;
begin
    if mend then
        update customer set recheck_at = at where assigned_at > at + tolerance;
    end if;
    for column_of in
        select * from stored_instants() where treatment in ('clamp', 'delete')
    loop
        instant := column_of.table_name || '.' || column_of.column_name;
        if not mend then
            execute format('select count(*) from %I where %I > $1', column_of.table_name,
                           column_of.column_name)
            into late using at + tolerance + column_of.slack;
        else
            if column_of.treatment = 'clamp' then
                execute format('update %I set %I = $2 where %I > $1', column_of.table_name,
                               column_of.column_name, column_of.column_name)
                using at + tolerance + column_of.slack, at;
            else
                execute format('delete from %I where %I > $1', column_of.table_name,
                               column_of.column_name)
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
