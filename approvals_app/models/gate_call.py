from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

from sessions_app.append_only import AppendOnlyModel, AppendOnlyQuerySet
from sessions_app.models import ToolCall
from sessions_app.statements import insert
from sessions_app.states import CallStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from approvals_app.models.gate import Gate


class GateCallQuerySet(AppendOnlyQuerySet["GateCall"]):
    """Questions about which calls a gate asks of."""

    def let_run(self, statuses: Iterable[Any] | None = None) -> GateCallQuerySet:
        """Keep the calls that a decision let run; with `statuses`, those that stand at one of them now.

        That decision wrote their `grant`, which a call that was rejected has not, also where others of its batch were
        let run. An index leads from a status to these calls, past the many that nobody was asked about.
        """
        rows = self.filter(call__grant__isnull=False)
        if statuses is None:
            return rows
        # None that waits has a grant. PostgreSQL knows only how many wait, and would read every gate for as many.
        asked = {str(status) for status in statuses} - {str(CallStatus.PENDING_APPROVAL)}
        return rows.filter(call__status__in=sorted(asked))


class GateCall(AppendOnlyModel):
    """Which row of the ledger a gate asks about; written with the gate, once.

    What became of the call is read from the ledger through this and stored nowhere else. A call whose outcome is
    unknown has two gates: the one that let it run, and the one that asks whether it did.
    """

    gate = models.ForeignKey("approvals_app.Gate", on_delete=models.PROTECT, related_name="gate_calls")
    call = models.ForeignKey(ToolCall, on_delete=models.PROTECT, related_name="gate_calls")
    position = models.PositiveSmallIntegerField(help_text="Its place among the gate's calls: 0, 1, 2 …")

    objects = GateCallQuerySet.as_manager()

    class Meta:
        ordering = ["gate", "position"]
        constraints = [models.UniqueConstraint(fields=["gate", "call"], name="gate_call_once")]
        # From a call to its gates without reading a row, for the queue's tabs.
        indexes = [models.Index(fields=["call", "gate"], name="gate_call_gate")]

    def __str__(self) -> str:
        return f"call {self.position} of gate {self.gate_id}"

    @classmethod
    def link(cls, gate: Gate) -> None:
        """Link a gate that has just been inserted to the ledger's rows of its calls, where it has rows.

        A graph that does not use CLM's own gate may ask about calls that the ledger does not know.
        """
        positions = {call["tool_call_id"]: number for number, call in reversed([*enumerate(gate.calls)])}
        ids = [tool_call_id for tool_call_id in positions if tool_call_id]
        if not ids:
            return
        rows = ToolCall.objects.filter(
            session_id=gate.session_id, thread_id=gate.run.thread_id, tool_call_id__in=ids
        ).values_list("pk", "tool_call_id")
        for key, tool_call_id in rows:
            insert(cls(gate=gate, call_id=key, position=positions[tool_call_id]))
