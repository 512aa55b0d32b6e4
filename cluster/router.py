"""Ray Serve's choice of a replica for a call: the one that the front has chosen, because only the front counts images."""

from __future__ import annotations

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

import cluster.membership as membership


class ChosenReplicaRouter(RequestRouter):  # type: ignore[misc]  # Ray's types are not read
    """A router that sends a call to the replica that its argument `replica` names."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the named replica, or none if it has stopped: the front cancels such a call."""
        name = None if pending_request is None else pending_request.kwargs.get("replica")
        return [[replica for replica in candidate_replicas if replica.replica_id.unique_id == name]]

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
