"""Who owned which lane and when, noted by the database itself."""

from __future__ import annotations

from typing import LiteralString

HISTORY: LiteralString = """
create table public.ownership (at timestamptz not null, lane smallint not null, relay_id bigint);
grant insert on public.ownership to public;
create function public.note_owner() returns trigger language plpgsql as $$
begin
  insert into public.ownership values (clock_timestamp(), new.lane, new.relay_id);
  return null;
end
$$;
create trigger note_owner after update on outbox.lanes for each row execute function public.note_owner();
"""
"""`public.ownership`: each change of an owner, in the transaction that makes it."""
