-- One entry of a batch that was a dead letter is a row now.
UPDATE {ledger} SET dead_lettered = dead_lettered - 1 WHERE batch_id = :batch_id AND dead_lettered > 0
