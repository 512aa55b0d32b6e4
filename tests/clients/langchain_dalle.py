"""LangChain's DallEAPIWrapper."""

import os
from urllib.request import urlopen

os.environ |= {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": f"{os.environ['DALLE_URL']}/v1"}

from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

for wrapper in (DallEAPIWrapper(), DallEAPIWrapper(model="dall-e-3")):
    assert urlopen(wrapper.run("a red circle")).read(4) == b"\x89PNG"
