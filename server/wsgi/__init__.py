"""Running the app with waitress: the listening socket, threads, disconnects, shutdown, and a watchdog over the engine."""
