-- What became of a model's segments in the one that was trained after it, a line
-- each; those of a first model are born. Written with the model, never changed.
create table segment_lineage (
    model_id       text not null references model,
    line           integer not null,
    -- What was live when the model was trained; null: nothing.
    predecessor_id text references model,
    event          text not null
                   check (event in ('kept', 'born', 'died', 'split', 'merged', 'passed')),
    old_segment_id text,
    old_key        text,
    new_segment_id text,
    new_key        text,
    members        bigint not null,
    share_of_old   double precision,
    share_of_new   double precision,
    primary key (model_id, line)
);
create index segment_lineage_by_old on segment_lineage (old_segment_id);
create index segment_lineage_by_new on segment_lineage (new_segment_id);
