"""The routes of AUTOMATIC1111's web UI that draw from text, and those that its clients call on the way."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify

from consts import ImageFormat
from dalle_model import Cancelled
from server.api.a1111.running import RunningDrawings
from server.api.a1111.schemas import ProgressAnswer, ProgressState, Txt2ImgAnswer, Txt2ImgRequest
from server.api.answers import TICK_SECONDS
from server.api.body import read_request
from server.api.disconnects import is_gone
from server.api.operation import A1111, DRAWING_ERRORS, JSON, Operation, Reply, described
from server.config.settings import Settings
from server.images.encoding import encode
from server.images.output_folder import OutputFolder, save_drawing
from server.middleware.callers import caller
from server.middleware.request_log import note_prompt
from utils import to_base64

if TYPE_CHECKING:
    from dalle_model import DalleModel, Drawing

_STEPS = 256  # tokens of an image, one a step
_SAMPLER = "top-k"
# Lists that clients ask for, to fill a menu. There is nothing to choose here.
EMPTY_LISTS = (
    "embeddings", "extensions", "face-restorers", "hypernetworks", "latent-upscale-modes", "loras", "prompt-styles",
    "realesrgan-models", "schedulers", "sd-modules", "sd-vae", "script-info", "upscalers",
)  # fmt: skip


def a1111_routes(model: DalleModel, settings: Settings, folder: OutputFolder | None) -> Blueprint:
    """Build the routes below `/sdapi/v1`. Without a folder nothing is saved."""
    blueprint = Blueprint("a1111", __name__, url_prefix="/sdapi/v1")
    running = RunningDrawings()

    @blueprint.post("/txt2img")
    @described(
        Operation(
            A1111,
            "Draw images from a prompt",
            {200: Reply("The images.", {JSON: Txt2ImgAnswer})},
            DRAWING_ERRORS,
            body=Txt2ImgRequest,
        )
    )
    def txt2img() -> Response:
        """Draw images from a prompt; answer when all are done, or with what there is when `interrupt` was called."""
        body = read_request(Txt2ImgRequest)
        note_prompt(body.prompt)
        with (
            model.start(body.drawing_request(model.sampling, settings.images_per_request), caller()) as drawing,
            running.track(drawing) as tracked,
        ):
            for event in drawing.events(TICK_SECONDS):
                if is_gone():
                    raise Cancelled("the client has closed the connection")
                tracked.note(event)
        if len(drawing.images) == len(drawing.seeds):
            save_drawing(folder, drawing, ImageFormat.PNG, body.size)
        images = tracked.newest  # half-drawn ones where the drawing was interrupted, as the web UI has it
        warnings = model.prompt_warnings(body.prompt)
        info = _info(model.name, body, drawing, [drawing.seeds[index] for index in images])
        info |= {"warnings": warnings} if warnings else {}
        encoded = [to_base64(encode(image, ImageFormat.PNG, body.size)) for image in images.values()]
        answer = Txt2ImgAnswer(images=encoded, parameters=body.model_dump(), info=json.dumps(info))
        return Response(answer.model_dump_json(), mimetype="application/json")

    @blueprint.get("/progress")
    @described(Operation(A1111, "See how far the drawings of txt2img are", {200: Reply("Progress.", {JSON: ProgressAnswer})}))
    def progress() -> Response:
        """Answer how far this dialect's drawings are, with the newest preview of the oldest."""
        now = running.snapshot()
        share = sum(each.progress for each in now) / len(now) if now else 0.0
        elapsed = time.monotonic() - now[0].started_at if now else 0.0
        preview = next(reversed(now[0].newest.values()), None) if now else None
        state = ProgressState(
            job="txt2img" if now else "",
            job_count=len(now),
            sampling_step=round(_STEPS * share),
            sampling_steps=_STEPS if now else 0,
        )
        answer = ProgressAnswer(
            progress=share,
            eta_relative=elapsed * (1 - share) / share if share else 0.0,
            state=state,
            current_image=None if preview is None else to_base64(encode(preview, ImageFormat.JPEG)),
        )
        return Response(answer.model_dump_json(), mimetype="application/json")

    @blueprint.post("/interrupt")
    @blueprint.post("/skip")
    @described(Operation(A1111, "Stop the drawings that txt2img has started", {200: Reply("An empty object.", {JSON: None})}))
    def interrupt() -> Response:
        """Stop this dialect's drawings; each is answered with its images as far as they are drawn."""
        running.interrupt()
        return jsonify({})

    @blueprint.get("/sd-models")
    @described(Operation(A1111, "List the model that is loaded", {200: Reply("A list of one.", {JSON: None})}))
    def models() -> Response:
        """List the model that is loaded."""
        entry = {"title": model.name, "model_name": model.name, "filename": model.name}
        return jsonify([{**entry, "hash": None, "sha256": None, "config": None}])

    @blueprint.get("/samplers")
    @described(Operation(A1111, "List the one sampler", {200: Reply("A list of one.", {JSON: None})}))
    def samplers() -> Response:
        """List the one sampler."""
        return jsonify([{"name": _SAMPLER, "aliases": [], "options": {}}])

    @blueprint.get("/options")
    @described(Operation(A1111, "Read the options", {200: Reply("The options.", {JSON: None})}))
    def options() -> Response:
        """Answer the options that clients read."""
        return jsonify(sd_model_checkpoint=model.name, samples_format="png", CLIP_stop_at_last_layers=1)

    @blueprint.post("/options")
    @described(Operation(A1111, "Set options: accepted, without effect", {200: Reply("null", {JSON: None})}))
    def set_options() -> Response:
        """Accept options: clients choose a model here before they draw."""
        return jsonify(None)

    @blueprint.get("/cmd-flags")
    @blueprint.get("/memory")
    def nothing() -> Response:
        """Answer an empty object."""
        return jsonify({})

    @blueprint.get("/scripts")
    def scripts() -> Response:
        """Answer that there are no scripts."""
        return jsonify(txt2img=[], img2img=[])

    def empty_list() -> Response:
        """Answer an empty list."""
        return jsonify([])

    for name in EMPTY_LISTS:
        blueprint.add_url_rule(f"/{name}", name, empty_list)

    @blueprint.post("/refresh-checkpoints")
    def refresh() -> Response:
        """Accept a refresh."""
        return jsonify(None)

    return blueprint


def _info(model: str, body: Txt2ImgRequest, drawing: Drawing, seeds: list[int]) -> dict[str, Any]:
    """Return what the web UI tells of the images, as far as clients read it."""
    guidance = drawing.request.sampling.supercondition_factor
    negative = f"\nNegative prompt: {body.negative_prompt}" if body.negative_prompt else ""

    def infotext(seed: int) -> str:
        settings = f"Sampler: {_SAMPLER}, CFG scale: {guidance:g}, Seed: {seed}, Size: {body.size}, Model: {model}"
        return f"{body.prompt}{negative}\nSteps: {_STEPS}, {settings}"

    count = len(seeds)
    return {
        "prompt": body.prompt,
        "all_prompts": [body.prompt] * count,
        "negative_prompt": body.negative_prompt,
        "all_negative_prompts": [body.negative_prompt] * count,
        "seed": drawing.seeds[0],
        "all_seeds": seeds,
        "subseed": -1,
        "all_subseeds": [-1] * count,
        "width": body.width,
        "height": body.height,
        "sampler_name": _SAMPLER,
        "cfg_scale": guidance,
        "steps": _STEPS,
        "batch_size": body.batch_size,
        **({} if drawing.scores is None else {"scores": drawing.scores}),
        "sd_model_name": model,
        "infotexts": [infotext(seed) for seed in seeds],
    }
