-- Audiences: named rules over customers.

-- Versions of audiences. The last row of an audience is in force.
create table audience (
    workspace_id integer not null references workspace,
    version      bigint generated always as identity,
    -- The same for all versions of one name, also after a deletion.
    audience_id  integer not null,
    name         text collate "C" not null,
    expression   text collate "C" not null,
    description  text collate "C",
    owner        text collate "C",
    is_deleted   boolean not null,
    changed_at   timestamptz not null,
    changed_by   text collate "C" not null,
    reason       text collate "C" not null,
    primary key (workspace_id, version)
);
create index audience_by_id on audience (workspace_id, audience_id, version);

-- The last version of each audience, deleted ones included.
create view latest_audience as
    select distinct on (workspace_id, audience_id) *
    from audience order by workspace_id, audience_id, version desc;

-- Evaluation of the stored customers after a change of a rule, in passes over the customers by id.
-- No row: no rule has changed yet.
create table audience_evaluation (
    workspace_id        integer primary key references workspace,
    -- Version of the definitions that customers are evaluated with.
    version             bigint not null,
    -- Latest version that all customers are evaluated with.
    completed_version   bigint not null,
    -- A later pass has found no customer that a replica with earlier definitions has added.
    is_verified         boolean not null default false,
    -- The pass continues after this id; empty at the start of a pass.
    last_customer_id    text collate "C" not null default '',
    -- Customers when the evaluation began.
    customers           bigint not null,
    -- Customers evaluated since then, or found up to date; later passes count some again.
    evaluated_customers bigint not null default 0
);
