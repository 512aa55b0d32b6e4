"""Side by side with min-dalle in one run, and the server under many callers: `make bench`."""
