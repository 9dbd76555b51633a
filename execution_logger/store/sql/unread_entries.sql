-- Those of a batch that are not one row each, which is looked for entry by entry: no plan for it reads the whole table.
SELECT {columns}
FROM (
{entries}
) AS entry
WHERE 1 <> (SELECT count(*) FROM {table} AS known WHERE {same})
