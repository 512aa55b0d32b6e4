"""The playground, a page to draw on in a browser: its routes, and its files in static/."""
