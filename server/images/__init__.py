"""What happens to finished images: scaling, encoding, metadata, saving, and keeping them for links.

Imports no Flask, and nothing else of the server.
"""
