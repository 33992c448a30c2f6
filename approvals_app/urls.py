from __future__ import annotations

from django.urls import path

from approvals_app import views

urlpatterns = [
    path("", views.queue, name="queue"),
    path("repairs/", views.repairs, name="repairs"),
    path("<int:pk>/", views.gate, name="gate"),
    path("<int:pk>/decide/", views.decide, name="decide"),
]
