-- What the catalogue says of a table beyond its columns: what can recognise a row (ON CONFLICT takes no index that
-- is partial, deferrable, invalid or on an expression), and what may take a row elsewhere.
WITH RECURSIVE part (oid) AS (
    SELECT CAST(CAST(:name AS regclass) AS oid)
    UNION
    SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
)
SELECT
    'key' AS trait,
    CAST(place.relname AS text) AS name,
    ARRAY(
        SELECT CAST(attname AS text)
        FROM unnest(CAST(indkey AS int2[])) WITH ORDINALITY AS part (number, place)
        JOIN pg_attribute ON attrelid = indrelid AND attnum = part.number
        WHERE part.place <= indnkeyatts
        ORDER BY part.place
    ) AS columns
FROM pg_index
JOIN pg_class AS place ON place.oid = indexrelid
WHERE indrelid = CAST(:name AS regclass)
AND indisunique AND indimmediate AND indisvalid AND indpred IS NULL AND indexprs IS NULL
UNION ALL
SELECT 'rule', CAST(rulename AS text), NULL
FROM pg_rewrite
WHERE ev_class = CAST(:name AS regclass) AND ev_type IN ('2', '3')
UNION ALL
-- 4 is INSERT. One after it may delete a row; one on a partition, or on a table that inherits, sees what goes there.
SELECT DISTINCT 'trigger', CAST(tgname AS text), CAST(NULL AS text[])
FROM pg_trigger
JOIN part ON part.oid = tgrelid
WHERE NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype & 4 = 4
ORDER BY 1, 2
