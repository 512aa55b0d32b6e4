"""openai 1 and 2: url with dall-e-3, base64 with gpt-image-1, Azure's client, and a base URL without /v1."""

import base64
import os
from urllib.request import urlopen

from openai import AzureOpenAI, OpenAI

server = os.environ["DALLE_URL"]
client = OpenAI(base_url=f"{server}/v1", api_key="any")
answer = client.images.generate(model="dall-e-3", prompt="a red circle", size="1024x1024", quality="hd", style="vivid")
assert urlopen(answer.data[0].url).read(4) == b"\x89PNG"
answer = client.images.generate(model="gpt-image-1", prompt="a red circle")
assert base64.b64decode(answer.data[0].b64_json).startswith(b"\x89PNG") and not answer.data[0].url
assert {"Tiny", "dall-e-3"} <= {model.id for model in client.models.list()}
azure = AzureOpenAI(azure_endpoint=server, api_key="any", api_version="2024-02-01")
assert azure.images.generate(model="dall-e-3", prompt="a red circle").data[0].url
assert OpenAI(base_url=server, api_key="any").images.generate(model="dall-e-3", prompt="a red circle").data[0].url
