CREATE VIRTUAL TABLE IF NOT EXISTS pipeline_index USING fts5(title, text, tokenize = 'porter unicode61')
