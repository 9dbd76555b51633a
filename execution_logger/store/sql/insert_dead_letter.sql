-- Keep an entry that the database refuses, once.
INSERT INTO {table} (id, batch_id, entry, reason)
VALUES (:id, :batch_id, :entry, :reason)
ON CONFLICT (id) DO NOTHING
