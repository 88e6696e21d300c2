-- Ids that are one customer: which id was said to be whose, and under which id a
-- customer is kept.

-- What was said, a row for each pair of ids: the earliest saying counts. All
-- changes are made under one lock (`store::links`).
create table customer_link (
    from_id     text not null,
    to_id       text not null,
    -- Null: all that was said has been taken back.
    happened_at timestamptz,
    -- In byte order, as Rust sorts: it decides between two of one instant.
    message_id  text collate "C",
    -- What was said to have happened up to then does not count.
    void_until  timestamptz,
    -- The earliest of all links from this id: the only one that may be followed.
    is_first    boolean not null,
    primary key (from_id, to_id),
    check ((happened_at is null) = (message_id is null)),
    check (happened_at is not null or (void_until is not null and not is_first))
);
create unique index customer_link_first on customer_link (from_id) where is_first;
create index customer_link_first_to on customer_link (to_id) where is_first;
create index customer_link_by_time on customer_link (from_id, happened_at, message_id)
    where happened_at is not null;
create index customer_link_to on customer_link (to_id);

-- Where the customer of an id is kept; null: under this id. A row that points
-- elsewhere is empty: whatever reads assignments passes it over.
alter table customer
    add column merged_into text,
    add constraint customer_merged_is_empty
        check (merged_into is null or (generation is null and recheck_at is null
                                       and merged_into <> customer_id));
-- The ids of one customer. Events change nothing in it.
create index customer_by_merged on customer (merged_into) where merged_into is not null;

-- A line of the history may say that an id has come to another customer: it then
-- stands where that one stands, and is to be counted no more.
alter table assignment_history add column merged_into text;
