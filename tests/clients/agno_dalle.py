"""agno's DalleTools."""

import os
from urllib.request import urlopen

os.environ |= {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": f"{os.environ['DALLE_URL']}/v1"}

from agno.tools.dalle import DalleTools

result = DalleTools(model="dall-e-3").create_image("a red circle")
assert urlopen(result.images[0].url).read(4) == b"\x89PNG"
