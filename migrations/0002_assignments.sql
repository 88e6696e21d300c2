-- Where a customer stands moves into the customer's own row, so that intake
-- locks, reads and writes one row a customer; its history is partitioned by
-- month, so that old months are dropped whole, and becomes a feed of changes.

-- `generation` says which lineup scored, and so which model. `fallback`: the
-- rules answered, although that lineup may have had a model.
alter table customer
    add column generation  bigint,
    add column fallback    boolean,
    add column segment     text,
    add column distance    real,
    add column p_value     double precision,
    add column confidence  real,
    add column outlier     boolean,
    add column assigned_at timestamptz;

update customer set
    generation = a.generation, fallback = a.model_id is null, segment = a.segment,
    distance = a.distance, p_value = a.p_value, confidence = a.confidence,
    outlier = a.outlier, assigned_at = a.assigned_at
from assignment a where a.customer_id = customer.customer_id;

drop table assignment;

-- Who is to be scored again, and how large the segments are. Nothing in it
-- changes while a customer stays where they are, so such updates stay on their
-- page and leave every index alone.
create index customer_by_segment on customer (generation, fallback, segment, outlier);

alter table assignment_history rename to assignment_history_0001;
drop index assignment_history_by_customer;

create sequence change_number;

-- One row whenever the segment or the model of a customer changes. Readers that
-- follow it page by (transaction, change) up to the oldest transaction still
-- running: numbers alone would let them pass by one that commits late.
create table assignment_history (
    customer_id         text not null,
    assigned_at         timestamptz not null,
    generation          bigint not null,
    fallback            boolean not null,
    segment             text not null,
    distance            real,
    outlier             boolean not null,
    -- All three null: assigned for the first time.
    previous_generation bigint,
    previous_fallback   boolean,
    previous_segment    text,
    transaction         xid8 not null default pg_current_xact_id(),
    change              bigint not null default nextval('change_number')
) partition by range (assigned_at);
create index assignment_history_by_customer on assignment_history (customer_id, assigned_at desc);
create index assignment_history_by_change on assignment_history (transaction, change);

-- Takes what no month has: nothing is ever refused for want of a partition.
create table assignment_history_other partition of assignment_history default;

-- Makes the partitions of the month of `at` and the next. A month that already
-- has rows elsewhere goes without.
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

insert into assignment_history
    (customer_id, assigned_at, generation, fallback, segment, distance, outlier)
select customer_id, assigned_at, generation, model_id is null, segment, distance, outlier
from assignment_history_0001 order by assigned_at;
drop table assignment_history_0001;
