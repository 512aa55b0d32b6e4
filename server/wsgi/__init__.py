"""Running the app with waitress: the sockets, threads, open files, disconnects, shutdown, and a watchdog over the engine."""
