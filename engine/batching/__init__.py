"""The batching engine: requests in, events out, the images of all callers drawn together.

engine      submit, cancel, drain, close; the thread that loads the model and steps while there is work
job         a request: its slots with their states, and its queue of events
job_queue   the requests that are not over: added, cancelled, delivered, failed
scheduler   which images are in the running batch, who is next, and how long a refused caller should wait
batch       a step: images join, get their next tokens and leave; pictures that are due are detokenized
gallery     pictures that are due to be detokenized, and their order
recovery    what happens after a failed step: who ends, and what is tried again
limit       how many images at once: halved when memory runs out
statistics  totals, averages, the state at one moment
"""
