-- The sums of each process.
{batches}
SELECT
    process,
    min(first) AS first,
    max(last) AS last,
    count(*) AS batches,
    CAST(sum(entries - overlap) AS bigint) AS entries,
    sum(dead_lettered) AS dead_lettered,
    CAST(coalesce(sum(gap) FILTER (WHERE is_due), 0) AS bigint) AS missing,
    CAST(coalesce(sum(gap) FILTER (WHERE NOT is_due), 0) AS bigint) AS pending,
    CAST(coalesce(sum(entries - overlap) FILTER (WHERE delay_seconds > CAST(:late_after_seconds AS double precision)), 0) AS bigint) AS late,
    CAST(sum(CAST(entries AS bigint) * (deliveries - 1) + overlap) AS bigint) AS repeated,
    min(oldest_at) AS oldest_at,
    max(newest_at) AS newest_at,
    max(stored_at) AS stored_at
FROM batches
GROUP BY process
ORDER BY process
