"""Tell whether Flower answers on a port of this container: exit status 0 if so."""

import socket
import sys

socket.create_connection(("127.0.0.1", int(sys.argv[1])), 3).close()
