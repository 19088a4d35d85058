"""The doors that `dvc.yaml` opens: one file a stage."""
