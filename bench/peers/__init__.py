"""How does the server do beside another product? A target for a harness that times two HTTP services in turns."""
