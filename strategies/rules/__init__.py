"""Rules of aggregation, one a file: how a round's updates become one."""
