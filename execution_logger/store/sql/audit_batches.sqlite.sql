-- The batches to be judged, each with what the others of its process say about it.
-- Which numbers are there is asked of all batches: one from outside the time range may hold what seems to be missing.
WITH numbered AS (
    SELECT
        *,
        max(first + entries) OVER before AS expected,
        max(newest_at) OVER before AS newest_before
    FROM {ledger}
    WHERE :process IS NULL OR process = :process
    WINDOW before AS (
        PARTITION BY process ORDER BY first, entries DESC, batch_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
batches AS (
    SELECT
        *,
        first + entries - 1 AS last,
        -- Before the first batch of all there is a gap, unless only a part of the past is asked for.
        CASE
            WHEN first > coalesce(expected, 1) AND (expected IS NOT NULL OR :since IS NULL)
            THEN first - coalesce(expected, 1)
            ELSE 0
        END AS gap,
        min(entries, max(coalesce(expected, first) - first, 0)) AS overlap,
        (julianday(stored_at) - julianday(newest_at)) * 86400.0 AS delay_seconds,
        (julianday('now') - julianday(stored_at)) * 86400.0 >= :late_after_seconds AS is_due
    FROM numbered
    WHERE (:since IS NULL OR stored_at >= :since)
    AND (:until IS NULL OR stored_at < :until)
)
