"""The `kinetrack` command for people; `dvc.yaml` never uses it."""
