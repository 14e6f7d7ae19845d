"""Many clients on one machine, or a Ray cluster, without deploying anything."""
