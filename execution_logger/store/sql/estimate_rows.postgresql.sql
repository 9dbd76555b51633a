-- The planner's estimate: counting a large table takes minutes. It is -1 until a table was analysed once.
-- Rows are in the partitions, and in the tables that inherit; a partitioned table itself knows -1, or all of them once more.
WITH RECURSIVE part (oid) AS (
    SELECT CAST(CAST(:name AS regclass) AS oid)
    UNION
    SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
)
SELECT CAST(sum(greatest(reltuples, 0)) AS bigint) FROM pg_class JOIN part USING (oid) WHERE relkind <> 'p'
