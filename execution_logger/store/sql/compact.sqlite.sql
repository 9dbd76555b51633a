-- What is to be merged: SQLite deletes nothing in the same statement.
{groups}
SELECT * FROM merged
