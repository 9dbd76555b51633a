-- A partitioned table has no bytes of its own.
SELECT coalesce(sum(pg_total_relation_size(relid)), 0) FROM pg_partition_tree(CAST(:name AS regclass))
UNION ALL
SELECT pg_total_relation_size(CAST(:name AS regclass))
ORDER BY 1 DESC
LIMIT 1
