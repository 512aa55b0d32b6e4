"""Ray Serve's choice of a replica for a call: the one that the front has chosen, because only the front counts images."""

from __future__ import annotations

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

import cluster.membership as membership


class ChosenReplicaRouter(RequestRouter):  # type: ignore[misc]  # Ray's types are not read
    """A router that sends a call to the replica that its argument `replica` names."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the named replica. If it has stopped, the call fails."""
        assert pending_request is not None
        name = pending_request.kwargs["replica"]
        for replica in candidate_replicas:
            if replica.replica_id.unique_id == name:
                self.on_new_queue_len_info(replica.replica_id, 0)  # or Serve asks it first, and others wait while it hangs
                return [[replica]]
        if not pending_request.future.done():
            pending_request.future.set_exception(ConnectionError(f"replica {name} has stopped"))
        return [candidate_replicas]  # Serve looks at the future before it takes one of them

    @property
    def supports_rejection_protocol(self) -> bool:
        """Replicas refuse nothing: the front knows how much each may be sent."""
        return False

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Note which replicas run."""
        super().update_replicas(replicas)
        self._tell()

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Note that a replica is gone."""
        super().on_replica_actor_died(replica_id)
        self._tell()

    def _tell(self) -> None:
        membership.MEMBERSHIP.update([replica.unique_id for replica in self.curr_replicas])
