"""The routes that programs call, a package for each dialect, and what the dialects share.

classic/ and openai/ import the modules beside them, never each other. Only `server`, `server.documentation`,
`server.operations` and `server.wsgi` import from here.
"""
