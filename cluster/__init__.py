"""The same server over several machines: one front takes requests, replicas draw them. Ray Serve starts and replaces replicas.

    RemoteEngine.submit ─> FrontQueue, for all replicas together ─> the freest replica's engine ─> events back on the Job

front    remote_engine  the parts below as one engine, for `DalleModel`
         front_queue    the queue, turns and shares of all callers; images of a lost replica go back into it
         dispatcher     what is sent where; placement chooses, members are the replicas, member one of them and its calls
         watch          asks each replica how it is, and gives up one that is silent or hangs
         front_loop     the thread on which dispatcher and watch run
         remote_job     a request that is drawn on other machines
         link           the protocol between front and replicas
         ray_link       Ray Serve as that link; router sends a call to the replica that the front chose, membership names them
         ray_process    Ray on this machine, or joined, with a token
         start          the model over all this, for app.py
replica  replica        one machine's engine behind the link
         open_port      a port of Ray Serve's that would be open to all
         autoscaling    how many replicas are wanted
both     messages       what travels: what a replica is and how it is, and errors as values
         kind           what decides whether two machines draw the same bits

Imports `dalle_model` and `engine`, never `server`. Ray is imported only in ray_link, ray_process, router and autoscaling.
"""
