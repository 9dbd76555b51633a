"""From the arguments of a call to one encoded line. Knows no disk and no network."""
