"""From token ids to pixels.

    ImageRequest ─> Engine.submit ─> Scheduler (who is in the batch) ─> Runner.encode (once a prompt)
        ─> 256 x (Runner.step ─> sample) ─> Runner.detokenize ─> events on the Job: Progress, Preview, ImageDone

Public: `Engine`, `load_runner`, and the dataclasses of `engine.request` and `engine.errors`. Import them from their modules;
this package imports nothing, so that `engine.errors` costs no torch.
"""
