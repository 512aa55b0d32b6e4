"""The same server over several machines: one front takes requests, replicas draw them. Ray Serve starts and replaces replicas.

    RemoteEngine.submit ─> Scheduler, for all replicas together ─> the freest replica's engine ─> events back on the Job

front    remote_engine  the queue, turns and shares of all callers; what is sent where, and again if a replica is lost
         member         the front's view of a replica; calls are what it draws now
         remote_job     a request that is drawn on other machines
         link           the protocol between front and replicas
         ray_link       Ray Serve as that link; router sends a call to the replica that the front chose
         ray_process    Ray on this machine, or joined, with a token
         start          the model over all this, for app.py
replica  replica        one machine's engine behind the link
         open_port      a port of Ray Serve's that would be open to all
         autoscaling    how many replicas are wanted
both     messages       what travels: reports, and errors as values
         kind           what decides whether two machines draw the same bits

Imports `dalle_model` and `engine`, never `server`. Ray is imported only in ray_link, ray_process, router and autoscaling.
"""
