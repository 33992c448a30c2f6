from __future__ import annotations

from typing import Any

from django.db import migrations

from approvals_app import urgency
from sessions_app import chain


def fill(apps: Any, schema_editor: Any) -> None:
    """Give the gates that are there already their urgency and the links to the ledger's rows of their calls."""
    gates = apps.get_model("approvals_app", "Gate").objects
    links = apps.get_model("approvals_app", "GateCall").objects
    calls = apps.get_model("sessions_app", "ToolCall").objects
    known = gates.select_related("session", "run").only(
        "kind", "calls", "risk", "session__severity", "session__environment", "run__thread_id"
    )
    for gate in known.order_by("pk").iterator(chunk_size=500):
        asked = {call["tool_call_id"]: number for number, call in reversed([*enumerate(gate.calls)])}
        gates.filter(pk=gate.pk).update(
            weight=urgency.weight(severity=gate.session.severity, risk=gate.risk),
            call_digest=_digest(gate) if gate.calls else "",
        )
        rows = calls.filter(session_id=gate.session_id, thread_id=gate.run.thread_id, tool_call_id__in=asked)
        for key, tool_call_id in rows.values_list("pk", "tool_call_id"):
            links.get_or_create(gate_id=gate.pk, call_id=key, defaults={"position": asked[tool_call_id]})


def _digest(gate: Any) -> str:
    asked = [[call["tool"], call["args"]] for call in gate.calls]
    return chain.digest(chain.as_stored([gate.kind, gate.session.environment, asked]))


class Migration(migrations.Migration):
    """In a transaction of its own: PostgreSQL changes no table that has rows waiting for their checks."""

    dependencies = [("approvals_app", "0003_queue")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
