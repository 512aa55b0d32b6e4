"""What happens to every request, whatever its route: request ids, the request log, CORS, API keys, security headers."""
