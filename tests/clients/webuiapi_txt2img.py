"""webuiapi, a client of AUTOMATIC1111's web UI."""

import os
from urllib.parse import urlsplit

import webuiapi

server = urlsplit(os.environ["DALLE_URL"])
api = webuiapi.WebUIApi(host=server.hostname, port=server.port)
result = api.txt2img(prompt="a red circle", negative_prompt="blue", seed=5, n_iter=2, width=256, height=128)
assert [image.size for image in result.images] == [(256, 128)] * 2
assert result.info["all_seeds"] == [5, 6]
assert "Negative prompt: blue" in result.info["infotexts"][0]
assert api.util_get_current_model() == "Tiny" and api.util_get_model_names() == ["Tiny"]
assert api.get_progress()["progress"] == 0 and api.interrupt() == {}
api.util_set_model("Tiny")
assert [sampler["name"] for sampler in api.get_samplers()] and api.get_loras() == []
try:
    api.img2img(images=result.images[:1], prompt="a red circle")
except RuntimeError as error:
    assert "txt2img" in str(error)
else:
    raise AssertionError("img2img is not supported")
