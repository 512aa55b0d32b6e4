"""The routes that programs call: a package for each dialect, and what the dialects share.

body, drawing_body   request bodies, validated
answers              a drawing answered as JSON or as server-sent events
errors, error_bodies exceptions as statuses and messages
warnings             words of a prompt that the model does not know
disconnects          clients that have closed the connection
operation            a route's description for OpenAPI

The dialects import these modules, never each other. Only `server`, `server.documentation`, `server.operations` and `server.wsgi`
import from here.
"""
