"""litellm's image_generation."""

import os
from urllib.request import urlopen

import litellm

server = {"api_base": f"{os.environ['DALLE_URL']}/v1", "api_key": "any"}
answer = litellm.image_generation(model="openai/dall-e-3", prompt="a red circle", **server)
assert urlopen(answer.data[0].url).read(4) == b"\x89PNG"
