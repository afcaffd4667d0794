"""Drivers: one per harness, found through the entry-point group `relay_runtime.drivers`."""
