"""Rates and budgets that processes share: the members of their accounts in this process."""
