"""The industry domain: machined parts looked at by a camera."""
