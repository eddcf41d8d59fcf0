"""The gate for continuous integration: exact counts on any machine, times on the same one."""
