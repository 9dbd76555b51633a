SELECT d.id, d.url, d.title,
    ts_headline('english', i.text, query, 'StartSel=[, StopSel=], MaxWords=16, MinWords=8') AS excerpt
FROM plainto_tsquery('english', :query) AS query,
    pipeline_index i JOIN pipeline_documents d ON d.id = i.rowid
WHERE i.terms @@ query
ORDER BY ts_rank(i.terms, query) DESC, d.url
LIMIT :limit
