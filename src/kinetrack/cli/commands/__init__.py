"""The commands as a person types them: one module a group, in the order of use."""
