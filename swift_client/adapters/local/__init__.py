"""Language models and reward models that run in this process (extra "local")."""
