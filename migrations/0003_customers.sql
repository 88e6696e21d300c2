-- Customers with their events, states, assignments and identities.

-- Accepted events. The primary key makes ingestion idempotent, and finds the events of one
-- customer. It is the only index: each further one costs a write per event.
create table event (
    workspace_id integer not null,
    -- As sent: merges of customers leave it unchanged.
    customer_id  text collate "C" not null,
    message_id   text collate "C" not null,
    -- Namespace of the message id: the key id of a public key; empty for trusted senders,
    -- which share a namespace, so that an event sent again through another server key is a
    -- duplicate. Last in the key, because nearly every comparison ends before it.
    sender       text collate "C" not null,
    kind         text collate "C" not null,
    name         text collate "C" not null,
    occurred_at  timestamptz not null,
    received_at  timestamptz not null,
    -- Digest of the content as sent, 128 bits: an event with the same key is a duplicate if
    -- it has the same content, else a conflict.
    content_hash bytea not null,
    -- Only properties that a feature reads.
    properties   jsonb not null,
    primary key (workspace_id, customer_id, message_id, sender)
);

create table customer (
    workspace_id           integer not null,
    customer_id            text collate "C" not null,
    -- Aggregates from which features are computed, independent of the order of arrival;
    -- tagged with format and feature set.
    state                  bytea not null,
    last_event_at          timestamptz,
    updated_at             timestamptz not null,
    -- The assignment, all null before the first. The generation identifies the model.
    generation             bigint,
    -- The rule-based fallback answered, although the deployment may have a model.
    fallback               boolean,
    segment_id              text collate "C",
    distance               real,
    p_value                double precision,
    confidence             real,
    outlier                boolean,
    assigned_at            timestamptz,
    -- From this instant on, time alone can change the assignment or an audience. Null for never.
    next_rescore_at        timestamptz,
    -- Surviving id of the customer; null if it is this one. A merged row is empty.
    merged_into            text collate "C",
    -- Last change of segment within a model. Null if there was none.
    moved_at               timestamptz,
    -- Another segment is nearer than the stored one. Null is false. In no index, so that
    -- its updates stay on their page.
    retained_by_hysteresis boolean,
    -- Key id of the public key that introduced this id as an anonymous id. Null if a trusted
    -- sender did, or if an event has named the id as a known customer since. In no index.
    introduced_by          text collate "C",
    -- An event of a trusted sender has named this id as a known customer: it is merged into
    -- another customer by an alias only. In no index.
    is_known               boolean not null default false,
    -- Ids of the audiences that the customer is in, ascending. Null for none.
    audiences              integer[],
    -- Version of the audience definitions that were evaluated. In no index: a change of a rule
    -- changes it in every row.
    audience_version       bigint not null default 0,
    primary key (workspace_id, customer_id),
    constraint customer_merged_is_empty
        check (merged_into is null or (generation is null and next_rescore_at is null
                                       and merged_into <> customer_id)),
    constraint customer_introduced_by_a_key check (introduced_by <> '')
) with (fillfactor = 70);
-- Customers to rescore, and segment sizes. None of its columns changes while a customer
-- stays in a segment, so such updates stay on their page.
create index customer_by_segment on customer (workspace_id, generation, fallback, segment_id, outlier);
-- Sizes and members of audiences. Changes only when a customer enters or leaves one.
create index customer_by_audiences on customer (workspace_id, audiences, customer_id)
    where audiences is not null;
-- Due customers in order. Events change the column only to an earlier instant, so they
-- rarely change this index.
create index customer_by_rescore on customer (workspace_id, next_rescore_at)
    where next_rescore_at is not null;
-- The ids of one customer. Events never change it.
create index customer_by_merged on customer (workspace_id, merged_into)
    where merged_into is not null;
-- Ranges of the hash, one per hour, for sampling. The hash of an id never changes.
create index customer_by_hash on customer (workspace_id, hashtextextended(customer_id, 0));

-- Statements that are a transaction of their own cast to this domain, which aborts them
-- unless all rows were written.
create domain all_or_none as boolean
    constraint written_by_nobody_else check (value);

-- Links between ids of one customer, one row per pair and kind; the earliest mention counts.
-- Changed under one advisory lock (`store/customers/links.rs`).
create table customer_link (
    workspace_id  integer not null,
    from_id       text collate "C" not null,
    to_id         text collate "C" not null,
    -- Stated by an alias. Any other link ends when an event names its source as a known
    -- customer.
    is_alias      boolean not null,
    -- Null if every mention was removed.
    happened_at   timestamptz,
    -- Decides between two mentions of one instant.
    message_id    text collate "C",
    -- Mentions up to this instant do not count.
    ignored_until timestamptz,
    -- The earliest of all links from this id: the only one that may be followed.
    is_first      boolean not null,
    -- Made by a public key: yields to every link of a trusted sender, and ends when an event
    -- of any sender names its source as a known customer.
    is_public     boolean not null default false,
    primary key (workspace_id, from_id, to_id, is_alias),
    check ((happened_at is null) = (message_id is null)),
    check (happened_at is not null or (ignored_until is not null and not is_first))
);
create unique index customer_link_first on customer_link (workspace_id, from_id) where is_first;
create index customer_link_first_to on customer_link (workspace_id, to_id) where is_first;
create index customer_link_by_time
    on customer_link (workspace_id, from_id, happened_at, message_id)
    where happened_at is not null;
create index customer_link_to on customer_link (workspace_id, to_id);

-- Remaining work of a backfill: ranges of customer ids, deleted when done. A worker locks its
-- range, so that the range of a killed worker is free again.
create table backfill_range (
    workspace_id   integer not null,
    feature_set_id text collate "C" not null,
    -- Exclusive lower end; empty for the first id.
    after_id       text collate "C" not null,
    -- Inclusive upper end; null for the last id.
    upto_id        text collate "C",
    begun_at       timestamptz not null,
    primary key (workspace_id, feature_set_id, after_id)
);
