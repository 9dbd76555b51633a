-- Store a batch and note it in the ledger, both or neither: one statement, one round trip.
-- The number of its rows is that of the entries. (RETURNING them to be counted would cost 4 % of the whole.)
WITH noted AS (
    {note}
)
{insert}
