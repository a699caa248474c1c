"""The log, on Kafka or embedded, and what works on it: the worker, its agents, its HTTP server.

An agent is: decode → domain → encode → send → record. aiokafka and uvicorn are imported nowhere else.
"""
