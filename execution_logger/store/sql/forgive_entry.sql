-- Entries of a batch that were dead letters are rows now.
UPDATE {ledger} SET dead_lettered = dead_lettered - CAST(:number AS integer)
WHERE batch_id = :batch_id AND dead_lettered >= CAST(:number AS integer)
