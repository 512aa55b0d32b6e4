"""OpenAI's dialect: the images and models routes below `/v1`, and the links that an answer with `url` holds."""
