"""The Jupyter server extension: the same sessions over HTTP and WebSocket, with Jupyter's auth."""
