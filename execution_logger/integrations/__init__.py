"""The library in the company of others; each module needs what it is named after."""
