-- Customers at a border stay in their segment until another is nearer by enough, and
-- who has moved may have to stay for some time.

-- When the customer came from another segment of a model. Null is never, or before
-- this was written down: long ago.
alter table customer add column moved_at timestamptz;

-- Another segment is nearer than the one that is stored. Null is false; no index
-- has it, so that such updates stay on their page.
alter table customer add column held boolean;
