-- For a statement that is a transaction of its own: takes back all of it unless
-- all of it could be done. Told as what it is, a race lost against another.
create function all_or_none(done boolean) returns boolean language plpgsql as $$
begin
    if not done then
        raise exception 'an event or a customer was written by another transaction'
            using errcode = 'serialization_failure';
    end if;
    return true;
end $$;
