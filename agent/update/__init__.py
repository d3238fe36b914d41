"""An update on its way: sealed and signed, the outbox, the report of a lost one."""
