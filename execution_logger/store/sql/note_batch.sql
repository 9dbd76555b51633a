-- Note a batch in the ledger. What is known of it stays: a batch is noted when all its entries have their place.
INSERT INTO {ledger} AS known (batch_id, process, first, entries, dead_lettered, oldest_at, newest_at)
VALUES (:batch_id, :process, :first, :count, :dead_lettered, :oldest_at, :newest_at)
ON CONFLICT (batch_id) DO UPDATE SET deliveries = known.deliveries + 1
