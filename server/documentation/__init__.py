"""The API's description: OpenAPI built from the models that validate requests, and a page that shows it."""
