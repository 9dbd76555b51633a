"""A host that analyses cases of law with agents, for minutes, and logs each step of it."""
