"""The batching engine: requests in, events out, the images of all callers drawn together.

engine      submit, cancel, drain, close; the loop of steps, and what happens after a failure
scheduler   the running batch and the queue before it: who is next, and how long a refused caller should wait
job         a request: its slots with their states, and its queue of events
gallery     pictures that are due to be detokenized, and their order
limit       how many images at once: halved when memory runs out
statistics  totals, averages, the state at one moment
"""
