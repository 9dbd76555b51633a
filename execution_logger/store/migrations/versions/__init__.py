"""The revisions, oldest first: each leaves alone what is there already."""
