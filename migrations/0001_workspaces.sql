-- Workspaces and their API keys.
--
-- Conventions of all migrations:
--
-- - Every row belongs to a workspace, and every key and index begins with it. Tables about
--   customers continue with the id of the customer, so that they can be hash-partitioned, or
--   distributed over a cluster, by customer. Exceptions are `workspace` and `change_epoch`,
--   which describe the database.
-- - Every text is in byte order (`collate "C"`), as Rust compares it, whatever the default
--   of the database.
-- - A primary key carries the name of its table, and every instant is a timestamptz.
-- - Comments give what the names and constraints do not.

-- Isolated tenants or brands: each has its own feature set, models, keys and customers.
-- Tables with many writes do not reference it: the check would lock its row for every event.
create table workspace (
    workspace_id integer primary key,
    name         text collate "C" not null unique
);
insert into workspace (workspace_id, name) values (1, 'default');

-- A key is shown once; only its SHA-256 is stored. Retention: the keys revoked most recently.
create table api_key (
    workspace_id            integer not null references workspace,
    key_id                  text collate "C" not null,
    name                    text collate "C" not null,
    secret_hash             bytea not null,
    -- The secret before the last rotation, accepted until the end of the overlap.
    previous_secret_hash    bytea,
    previous_secret_ends_at timestamptz,
    scopes                  text[] collate "C" not null,
    -- Web origins that may send requests with the key; empty: all.
    allowed_origins         text[] collate "C" not null,
    -- Rate limits of this key. Null: the configured limit; 0: none.
    requests_per_second           integer,
    events_per_second             integer,
    expensive_requests_per_minute integer,
    created_at              timestamptz not null,
    expires_at              timestamptz,
    rotated_at              timestamptz,
    -- Within about a minute.
    last_used_at            timestamptz,
    revoked_at              timestamptz,
    primary key (workspace_id, key_id),
    constraint api_key_previous_secret
        check ((previous_secret_hash is null) = (previous_secret_ends_at is null))
);
