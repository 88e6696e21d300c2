-- Public keys (scope `track`) stand in web pages and apps: whoever holds one sends in a
-- namespace of its own, and links only the anonymous ids that it introduced.

-- The namespace of the message id: empty for trusted senders, which share one, so that
-- an event resent through another server key is a duplicate; the key's id for a public
-- key. After the message id in the key: nearly every comparison ends before it.
alter table event add column sender text collate "C" not null default '';
alter table event drop constraint event_pkey;
alter table event add constraint event_pkey primary key (message_id, sender);

-- The public key that introduced the id, as an anonymous id. Null: a trusted sender did,
-- or an event has named the id as a known customer since. No index has it.
alter table customer add column introduced_by text collate "C",
    add constraint customer_introduced_by_a_key check (introduced_by <> '');

-- Made by a public key: yields to every link of a trusted sender, and ends when an event
-- names the id as a known customer.
alter table customer_link add column is_public boolean not null default false;

-- A replay stays in the namespace of the key that sent the event.
alter table failed_event add column is_public boolean not null default false;
