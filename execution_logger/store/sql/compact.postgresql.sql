-- Put one row in the place of those that become one. It has a new id: a batch that comes again is not all of this.
{groups},
gone AS (
    DELETE FROM {ledger} AS batch USING (SELECT unnest(ids) AS id FROM merged) AS old WHERE batch.batch_id = old.id
)
INSERT INTO {ledger} (batch_id, process, first, entries, dead_lettered, deliveries, oldest_at, newest_at, stored_at)
SELECT CAST(gen_random_uuid() AS text), process, first, entries, 0, deliveries, oldest_at, newest_at, stored_at
FROM merged
