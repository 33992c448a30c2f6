"""The two moments at which approvals must act in the same transaction as the session."""

from __future__ import annotations

from django.dispatch import Signal

#: A graph paused. Sent inside the transaction that ends the run, with `run` and `interrupts` (JSON-native dicts
#: `{id, value, response_schema}`) and `checkpoint_id`. A receiver that raises undoes all of it.
run_interrupted = Signal()

#: A session reached a terminal status. Sent inside the transaction that moved it, with `session` and `cause`.
session_ended = Signal()

#: The sweep runs. Sent with `dry_run`; a receiver returns the list of `Repair` that it made.
sweeping = Signal()

#: The sweep read checkpoints at which runs stopped. Sent with `seen` (a list of `recovery.Seen`) and `dry_run`; a
#: receiver returns the list of `Repair` that it made.
checkpoints_read = Signal()
