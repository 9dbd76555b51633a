-- The indexes of a table; one whose making was broken off is there, and is of no use.
SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indisvalid AND indrelid = CAST(:name AS regclass)
