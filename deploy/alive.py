"""Ends with 0 if the process of this container lives, else with 1: `alive.py PORT`, the image's health check.

It asks as the process serves, by HTTP or by TLS, and past every proxy that the environment names.
"""

import ssl
import sys
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection

WITHIN_S = 1.0


def lives(port: int) -> bool:
    """Say whether /livez answers 200 on loopback."""
    # Nothing is told and nothing believed but a status: whose certificate it is does not matter, nor its name.
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    for connect in (HTTPConnection, partial(HTTPSConnection, context=anybody)):
        connection = connect("127.0.0.1", port, timeout=WITHIN_S)
        try:
            connection.request("GET", "/livez")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            continue  # refused, or by the other of the two
        finally:
            connection.close()
    return False


if __name__ == "__main__":
    sys.exit(0 if lives(int(sys.argv[1])) else 1)
