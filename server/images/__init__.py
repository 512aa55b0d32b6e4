"""What becomes of finished images: sizes, encoding, metadata inside the files, the output folder, links.

Imports no Flask, and nothing else of the server.
"""
