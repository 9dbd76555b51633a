-- Those of these rights that the user has not. Rights on single columns do, but for DELETE, which has none.
SELECT wanted
FROM unnest(CAST(:rights AS text[])) AS wanted
WHERE CASE
    WHEN wanted = 'DELETE' THEN NOT has_table_privilege(CAST(:name AS regclass), wanted)
    ELSE EXISTS (
        SELECT
        FROM pg_attribute
        WHERE attrelid = CAST(:name AS regclass) AND attname = ANY (CAST(:columns AS text[]))
        AND NOT has_column_privilege(attrelid, attnum, wanted)
    )
END
