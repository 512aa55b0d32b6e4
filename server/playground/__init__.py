"""The playground, a page to draw on in a browser: its routes, surprises (random prompts), and its files in static/."""
