-- API keys. A key is shown once; only its SHA-256 is stored.
create table api_key (
    key_id      text primary key,
    name        text not null,
    secret_hash bytea not null,
    scopes      text[] not null,
    created_at  timestamptz not null,
    revoked_at  timestamptz
);
