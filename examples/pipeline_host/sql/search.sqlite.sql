SELECT d.id, d.url, d.title, snippet(pipeline_index, 1, '[', ']', '…', 16) AS excerpt
FROM pipeline_index JOIN pipeline_documents d ON d.id = pipeline_index.rowid
WHERE pipeline_index MATCH :query
ORDER BY bm25(pipeline_index, 4.0, 1.0), d.url
LIMIT :limit
