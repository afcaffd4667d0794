"""relay-runtime: run coding agents, message them at turn boundaries, trust the receipts.

Import from the submodules: `contract` and `events` for driver authors, `turns` for the boundary
logic, `supervisor` for the process that does the thinking. This package imports nothing by itself,
because the holder and the CLI start through it and must start fast.
"""

__version__ = "0.1.0"
