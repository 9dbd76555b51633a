-- The batches to be judged, each with what the others of its process say about it.
-- Of those that begin with one number the oldest comes first: since then what is missing before it is due.
-- Which numbers are there is asked of all batches: one from outside the time range may hold what seems to be missing.
WITH numbered AS (
    SELECT
        *,
        max(first + entries) OVER before AS expected,
        max(newest_at) OVER before AS newest_before
    FROM {ledger}
    WHERE CAST(:process AS text) IS NULL OR process = CAST(:process AS text)
    WINDOW before AS (
        PARTITION BY process ORDER BY first, stored_at, entries DESC, batch_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
batches AS (
    SELECT
        *,
        first + entries - 1 AS last,
        -- Before the first batch of all there is a gap, unless only a part of the past is asked for.
        CASE
            WHEN first > coalesce(expected, 1) AND (expected IS NOT NULL OR CAST(:since AS {moment}) IS NULL)
            THEN first - coalesce(expected, 1)
            ELSE 0
        END AS gap,
        {least}(entries, {greatest}(coalesce(expected, first) - first, 0)) AS overlap,
        {delay} AS delay_seconds,
        {age} >= CAST(:late_after_seconds AS double precision) AS is_due
    FROM numbered
    WHERE (CAST(:since AS {moment}) IS NULL OR stored_at >= CAST(:since AS {moment}))
    AND (CAST(:until AS {moment}) IS NULL OR stored_at < CAST(:until AS {moment}))
)
