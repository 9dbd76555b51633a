-- With the columns of SQLite's, so that one statement fills either.
CREATE TABLE IF NOT EXISTS pipeline_index (
    rowid bigint PRIMARY KEY,
    title text NOT NULL,
    text text NOT NULL,
    terms tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', title), 'A') || to_tsvector('english', text)
    ) STORED
);
CREATE INDEX IF NOT EXISTS pipeline_index_terms ON pipeline_index USING gin (terms)
