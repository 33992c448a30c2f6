"""The gate, the audit row of one interrupt, what people do about it, and what the sweep found."""

from approvals_app.models.audit_check import AuditCheck
from approvals_app.models.comment import Comment
from approvals_app.models.comparison import Comparison
from approvals_app.models.decision import Decision
from approvals_app.models.drift import FactsAcknowledgement
from approvals_app.models.gate import DIGESTED, Gate
from approvals_app.models.gate_call import GateCall
from approvals_app.models.inquiry import Inquiry, Reply
from approvals_app.models.insight_day import InsightDay
from approvals_app.models.preferences import Preferences
from approvals_app.models.presence import Presence
from approvals_app.models.repair_card import RepairCard
from approvals_app.models.saved_view import SavedView

__all__ = [
    "DIGESTED",
    "AuditCheck",
    "Comment",
    "Comparison",
    "Decision",
    "FactsAcknowledgement",
    "Gate",
    "GateCall",
    "Inquiry",
    "InsightDay",
    "Preferences",
    "Presence",
    "RepairCard",
    "Reply",
    "SavedView",
]
