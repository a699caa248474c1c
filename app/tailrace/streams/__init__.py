"""Faust and aiokafka, only here; an agent is: decode → domain → encode → send → record."""
