-- What the catalogue says of a table beyond its columns: what can recognise a row (ON CONFLICT takes no index that
-- is partial, deferrable, invalid or on an expression), and what may take a row elsewhere.
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
-- 1 is FOR EACH ROW, 2 BEFORE, 4 INSERT
SELECT 'trigger', CAST(tgname AS text), NULL
FROM pg_trigger
WHERE tgrelid = CAST(:name AS regclass) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 7 = 7
ORDER BY 1, 2
