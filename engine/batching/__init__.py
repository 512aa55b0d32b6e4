"""The batching engine: requests in, events out, the images of all callers drawn together."""
