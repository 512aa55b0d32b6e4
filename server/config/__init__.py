"""The server's settings: one table, and the command line and environment variables that are read by it."""
