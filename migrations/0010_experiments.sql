-- Experiments: definitions and exposures. Outcomes are read from events.

-- Versions of experiments. The last row of an experiment is in force.
create table experiment (
    workspace_id      integer not null references workspace,
    version           bigint generated always as identity,
    -- The same for all versions of one key.
    experiment_id     integer not null,
    key               text collate "C" not null,
    status            text collate "C" not null check (status in ('draft', 'running', 'stopped')),
    description       text collate "C",
    owner             text collate "C",
    -- `domain/experiment/spec/mod.rs`.
    spec              jsonb not null,
    -- Why the results are shown although the sample ratio is mismatched. Null: they are withheld.
    mismatch_override text collate "C",
    -- First change to the status. Null before it.
    started_at        timestamptz,
    stopped_at        timestamptz,
    changed_at        timestamptz not null,
    changed_by        text collate "C" not null,
    reason            text collate "C" not null,
    primary key (workspace_id, version)
);
create index experiment_by_id on experiment (workspace_id, experiment_id, version);

-- The last version of each experiment.
create view latest_experiment as
    select distinct on (workspace_id, experiment_id) *
    from experiment order by workspace_id, experiment_id, version desc;

-- First exposure of each customer id, as sent, to each experiment, with what it is analysed by. Merges of
-- customers leave it unchanged: ids of one customer are joined when results are read.
create table exposure (
    workspace_id   integer not null,
    experiment_id  integer not null,
    customer_id    text collate "C" not null,
    -- Key of the variation seen first.
    variation      text collate "C" not null,
    exposed_at     timestamptz not null,
    -- At the exposure. Null for none.
    segment_id     text collate "C",
    -- The customer was in the target of the experiment when the exposure was reported.
    is_targeted    boolean not null,
    -- The hash assigns the customer to the variation.
    is_as_assigned boolean not null,
    -- The customer saw another variation too.
    saw_several_variations boolean not null default false,
    primary key (workspace_id, experiment_id, customer_id)
);
-- Exposures of one customer.
create index exposure_by_customer on exposure (workspace_id, customer_id, experiment_id);

-- Exposures by surviving customer: the first one of all ids of the customer.
create view customer_exposure as
    select exposure.workspace_id, exposure.experiment_id,
           coalesce(customer.merged_into, exposure.customer_id) as customer_id,
           (array_agg(variation order by exposed_at, exposure.customer_id))[1] as variation,
           min(exposed_at) as exposed_at,
           (array_agg(exposure.segment_id order by exposed_at, exposure.customer_id))[1]
               as segment_id,
           bool_or(saw_several_variations) or count(distinct variation) > 1
               as saw_several_variations,
           bool_and(is_targeted) as is_targeted,
           bool_and(is_as_assigned) as is_as_assigned
    from exposure left join customer using (workspace_id, customer_id)
    group by exposure.workspace_id, exposure.experiment_id,
             coalesce(customer.merged_into, exposure.customer_id);
