"""What happens to every request, whatever its route.

request_ids, request_log, cors, keys, callers (whose request it is), rate_limit, security_headers
"""
