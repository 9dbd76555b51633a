-- Whether we may insert rows into a table, and change them when they are there.
SELECT
    has_table_privilege(CAST(:name AS regclass), 'SELECT')
    AND has_table_privilege(CAST(:name AS regclass), 'INSERT')
    AND has_table_privilege(CAST(:name AS regclass), 'UPDATE')
