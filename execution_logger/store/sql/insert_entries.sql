-- Store a batch; rows that are there already stay as they are.
INSERT INTO {table} ({columns})
{entries}
ON CONFLICT ({key}) DO NOTHING
