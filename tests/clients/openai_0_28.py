"""openai 0.28: module-level calls. Its snippets read `url`."""

import os
from urllib.request import urlopen

import openai

openai.api_base, openai.api_key = f"{os.environ['DALLE_URL']}/v1", "any"
answer = openai.Image.create(prompt="a red circle", model="dall-e-2", n=2, size="256x256")
assert [urlopen(item["url"]).read(4) for item in answer["data"]] == [b"\x89PNG"] * 2
assert openai.Image.create(prompt="a red circle", response_format="b64_json")["data"][0]["b64_json"]
