import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """What each person prefers at the desk."""

    dependencies = [
        ("approvals_app", "0008_expiry"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Preferences",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "keys",
                    models.BooleanField(
                        default=True,
                        help_text="Letters such as J, K and A do something on the desk (WCAG 2.1.4).",
                        verbose_name="single keys",
                    ),
                ),
                (
                    "go_on",
                    models.BooleanField(
                        default=True,
                        help_text="A decision made from the queue opens the next gate.",
                        verbose_name="go on to the next",
                    ),
                ),
                (
                    "notices",
                    models.BooleanField(
                        default=False,
                        help_text="A new gate says so on the desktop while the desk is in the back.",
                        verbose_name="desktop notices",
                    ),
                ),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="desk_preferences",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"verbose_name_plural": "preferences"},
        ),
    ]
