from __future__ import annotations

from django.urls import path

from sessions_app import views

urlpatterns = [
    path("", views.sessions, name="sessions"),
    path("new/", views.new_session, name="new_session"),
    path("<str:pk>/", views.session, name="session"),
    path("<str:pk>/calls/<int:call>/", views.call_result, name="call_result"),
    path("<str:pk>/stop/", views.stop_session, name="stop_session"),
    path("<str:pk>/rerun/", views.rerun_session, name="rerun_session"),
    path("<str:pk>/checkpoints/", views.checkpoints_of, name="checkpoints"),
]
