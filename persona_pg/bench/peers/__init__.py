"""Adapters to other queues: programs, each run in the peer's own interpreter."""
