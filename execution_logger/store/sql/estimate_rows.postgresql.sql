-- The planner's estimate: counting a large table takes minutes. It is -1 until the table was analysed once.
SELECT CAST(reltuples AS bigint) FROM pg_class WHERE oid = CAST(:name AS regclass)
