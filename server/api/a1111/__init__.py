"""The dialect of AUTOMATIC1111's web UI: `/sdapi/v1/txt2img` and the routes that its clients call beside it."""
