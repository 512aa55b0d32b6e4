"""The classic dialect: `GET /`, `POST /dalle` and `POST /generate`, as the DALL-E playground's clients call them."""
