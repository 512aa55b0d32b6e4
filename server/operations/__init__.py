"""What an operator watches: health checks, metrics, the log's format."""
