-- When time alone may have changed where a customer stands: windows move and
-- recency grows without events. Null is never.

-- Those already there are due at once, from now on: nobody knows better.
alter table customer add column recheck_at timestamptz default now();
alter table customer alter column recheck_at drop default;

-- Who is due, in order, without looking at anybody else. Events leave the
-- column alone unless it gets sooner, so that they seldom touch this.
create index customer_by_recheck on customer (recheck_at) where recheck_at is not null;
