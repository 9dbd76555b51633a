-- A batch, which is passed on as the JSON array that it is, as rows of the table.
SELECT {values}
FROM {json}_to_recordset(CAST(:entries AS {json})) AS entry (
    id uuid,
    task_id text,
    roadmap_id text,
    concept_id text,
    level text,
    category text,
    step text,
    agent_name text,
    message text,
    details {json},
    duration_ms integer,
    created_at timestamp with time zone,
    operation_id uuid,
    parent_id uuid,
    trace_id text,
    span_id text
)
