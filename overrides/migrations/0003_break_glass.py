from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("overrides", "0002_governance_rules")]

    operations = [
        migrations.AlterModelOptions(
            name="governanceruleoverride",
            options={
                "base_manager_name": "objects",
                "ordering": ["-id"],
                "permissions": [
                    ("approve_governanceruleoverride", "Can approve and reject overrides"),
                    ("view_configuration", "Can read the whole configuration in force"),
                    ("export_configuration", "Can export the configuration"),
                    ("import_configuration", "Can import a configuration"),
                    ("break_glass", "Can break the glass"),
                ],
                "verbose_name": "governance override",
            },
        ),
    ]
