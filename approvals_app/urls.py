from __future__ import annotations

from django.urls import path

from approvals_app import ask_views, together_views, views
from approvals_app.bulk_views import bulk_decisions
from approvals_app.peek import peek

urlpatterns = [
    path("", views.queue, name="queue"),
    path("views/", views.save_view, name="save_view"),
    path("views/<int:pk>/delete/", views.delete_view, name="delete_view"),
    path("repairs/", views.repairs, name="repairs"),
    path("bulk/", bulk_decisions, name="bulk"),
    path("<int:pk>/peek/", peek, name="peek"),
    path("<int:pk>/", views.gate, name="gate"),
    path("<int:pk>/next/", views.beside, {"step": 1}, name="next_gate"),
    path("<int:pk>/previous/", views.beside, {"step": -1}, name="previous_gate"),
    path("<int:pk>/decide/", views.decide, name="decide"),
    path("<int:pk>/questions/", ask_views.questions, name="gate_questions"),
    path("<int:pk>/ask/", ask_views.ask, name="ask_gate"),
    path("<int:pk>/look/", together_views.look, name="look"),
    path("<int:pk>/claim/", together_views.claim, name="claim"),
    path("<int:pk>/release/", together_views.release, name="release"),
    path("<int:pk>/comment/", together_views.comment, name="comment"),
    path("<int:pk>/acknowledge/", together_views.acknowledge, name="acknowledge"),
]
