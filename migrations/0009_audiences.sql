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
