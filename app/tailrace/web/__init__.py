"""What is answered over HTTP: probes, metrics, the API. The server that listens is in `streams.http_server`."""
