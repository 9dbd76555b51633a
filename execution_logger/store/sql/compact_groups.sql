-- The rows that become one: consecutive batches of a process which an audit does not tell apart.
-- Whatever is locked is being delivered again, or merged by somebody else: it is left to the next time.
WITH chunk AS (
    SELECT *
    FROM {ledger}
    -- The first condition is in the second, and the planner estimates it better.
    WHERE stored_at >= :begin_at AND (stored_at, batch_id) >= (:begin_at, CAST(:begin_id AS text))
    AND stored_at <= :end_at AND (stored_at, batch_id) < (:end_at, CAST(:end_id AS text))
    -- Dead letters may become rows. A sum has to fit into its column.
    AND dead_lettered = 0 AND entries < 1000000000
    {lock}
),
alike AS (
    SELECT
        *,
        {day} AS day,
        CASE WHEN oldest_at IS NOT NULL AND newest_at IS NOT NULL THEN CASE
            -- What came in time and what came late stay apart: an audit asks for one of these, or is a little coarser.
            WHEN {delay} >= 86400 THEN 86400
            WHEN {delay} >= 3600 THEN 3600
            WHEN {delay} >= 600 THEN 600
            WHEN {delay} >= 60 THEN 60
            WHEN {delay} >= 10 THEN 10
            ELSE -1
        END END AS lateness
    FROM chunk
),
following AS (
    SELECT *, CASE WHEN first = lag(first + entries) OVER kind THEN 0 ELSE 1 END AS begins
    FROM alike
    WINDOW kind AS (PARTITION BY process, day, deliveries, lateness ORDER BY first)
),
numbered AS (
    SELECT *, sum(begins) OVER kind AS number
    FROM following
    WINDOW kind AS (PARTITION BY process, day, deliveries, lateness ORDER BY first ROWS UNBOUNDED PRECEDING)
),
merged AS (
    SELECT
        process,
        min(first) AS first,
        sum(entries) AS entries,
        deliveries,
        min(oldest_at) AS oldest_at,
        max(newest_at) AS newest_at,
        max(stored_at) AS stored_at,
        {ids} AS ids
    FROM numbered
    GROUP BY process, day, deliveries, lateness, number
    HAVING count(*) > 1 AND sum(entries) < 2147483648
)
