"""The one background thread of a process, and all it needs: buffer, batches in flight, flush, accounts."""
