-- The batches that stand after a gap, came late or came more than once; those after a gap first.
{batches}
SELECT
    process, first, last, entries, gap, overlap, is_due, delay_seconds, deliveries,
    newest_before, oldest_at, newest_at, stored_at
FROM batches
WHERE gap > 0
OR overlap > 0
OR deliveries > 1
OR (delay_seconds > CAST(:late_after_seconds AS double precision) AND overlap < entries)
ORDER BY CASE WHEN gap > 0 THEN 0 ELSE 1 END, process, first
LIMIT CAST(:limit AS integer)
