"""Reading what is stored: entries of a run, runs, statistics, and what the ledger says is missing."""
