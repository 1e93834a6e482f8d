from django.db import migrations, models

from audit import triggers


def install(apps, schema_editor):
    """SQLite makes the table anew for a column, and its triggers go with the old one."""
    triggers.install(schema_editor.connection, triggers.JOURNAL)


class Migration(migrations.Migration):
    dependencies = [("audit", "0004_journal_filters")]

    operations = [
        migrations.AddField(
            model_name="configurationauditlog",
            name="break_glass",
            field=models.BooleanField(default=False, help_text="Stored past the governance rules, in an emergency."),
        ),
        migrations.AddIndex(
            model_name="configurationauditlog",
            index=models.Index(
                condition=models.Q(("break_glass", True)), fields=["-revision"], name="audit_break_glass"
            ),
        ),
        migrations.RunPython(install, migrations.RunPython.noop),
    ]
