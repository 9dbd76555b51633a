-- A batch, which is passed on as the JSON array that it is, as rows of the table.
-- What is no object has no id, and is refused. Without WHERE, ON CONFLICT would be read as the ON of a join.
SELECT {values}
FROM (
    SELECT
        json_extract(entry, '$.id') AS id,
        json_extract(entry, '$.task_id') AS task_id,
        json_extract(entry, '$.roadmap_id') AS roadmap_id,
        json_extract(entry, '$.concept_id') AS concept_id,
        json_extract(entry, '$.level') AS level,
        json_extract(entry, '$.category') AS category,
        json_extract(entry, '$.step') AS step,
        json_extract(entry, '$.agent_name') AS agent_name,
        json_extract(entry, '$.message') AS message,
        nullif(json_quote(json_extract(entry, '$.details')), 'null') AS details,
        json_extract(entry, '$.duration_ms') AS duration_ms,
        json_extract(entry, '$.created_at') AS created_at,
        json_extract(entry, '$.operation_id') AS operation_id,
        json_extract(entry, '$.parent_id') AS parent_id,
        json_extract(entry, '$.trace_id') AS trace_id,
        json_extract(entry, '$.span_id') AS span_id
    FROM (SELECT CASE type WHEN 'object' THEN value END AS entry FROM json_each(:entries))
)
WHERE true
